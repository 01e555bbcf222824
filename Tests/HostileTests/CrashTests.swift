import Foundation
import FuzzTargets
import Testing
import VirtioTransport

/// Crashes at steps: the in-process sweep, thinned out for every test run and complete in
/// `./dev fuzz --crash` (docs/testing.md).
@Suite struct CrashTests {
  static var environment: [String: String] { ProcessInfo.processInfo.environment }
  /// Every how many steps somebody dies; another rest class in each of four parts.
  static var every: UInt64 { UInt64(environment["CELLMATE_CRASH_EVERY"] ?? "") ?? 400 }
  static var seed: UInt64 { UInt64(environment["CELLMATE_FUZZ_SEED"] ?? "") ?? 1 }

  @Test(arguments: CrashCase.Device.allCases, 0..<4)
  func everyStepMayBeTheLast(device: CrashCase.Device, part: UInt64) throws {
    let every = device == .block ? Self.every : 2 * Self.every
    let report = try CrashProgram.sweep(
      device, every: every, start: 1 + part * max(1, every / 4), pairs: 5, seed: Self.seed + part)
    #expect(report.failures == [])
    #expect(report.cases > 40)
  }

  /// A sweep that finds nothing wrong with a disk that forgets would find nothing at all.
  @Test func aForgetfulDiskIsNoticed() throws {
    let sweep = try CrashSweep()
    sweep.hasForgetfulDisk = true
    for step: UInt64 in [0, 1000] {
      #expect(throws: FuzzFailure.self) {
        try sweep.run(CrashCase(.output, .backEnd, step: step))
      }
    }
  }

  /// The same of hosts that lose something, or repeat it.
  @Test(arguments: [CrashCase.Device.console, .entropy, .network], [SweepFault.loses, .repeats])
  func aWrongHostIsNoticed(device: CrashCase.Device, fault: SweepFault) throws {
    let sweep = try CrashSweep()
    let plan = CrashCase(.output, .backEnd, step: 0, device: device)
    try sweep.run(plan)
    sweep.fault = fault
    #expect(throws: FuzzFailure.self) { try sweep.run(plan) }
    sweep.fault = .none
    try sweep.run(plan)
  }

  /// A case that fails is run again from what was printed.
  @Test(arguments: [
    "output,back-end,123", "shared,front-end,7,hidden",
    "output,front-end,2000,hidden,garbage,then,back-end,45", "console,shared,back-end,901,hidden",
    "network,output,front-end,77,then,front-end,3",
  ])
  func aCaseIsReadAsItIsPrinted(text: String) throws {
    let plan = try #require(CrashCase(text))
    #expect(plan.description == text)
    try CrashSweep().run(plan)
  }

  @Test(arguments: [
    "", "output", "block,output,back-end,1", "console", "output,nobody,1", "output,back-end,x",
    "x,back-end,1",
    "output,back-end,1,later", "output,back-end,1,then,front-end",
  ])
  func whatIsNoCaseIsRefused(text: String) { #expect(CrashCase(text) == nil) }
}
