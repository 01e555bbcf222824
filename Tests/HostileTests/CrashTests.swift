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

  @Test(arguments: 0..<4)
  func everyStepMayBeTheLast(part: UInt64) throws {
    let report = try CrashProgram.sweep(
      every: Self.every, start: 1 + part * max(1, Self.every / 4), pairs: 5, seed: Self.seed + part
    )
    #expect(report.failures == [])
    #expect(report.cases > 100)
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

  /// A case that fails is run again from what was printed.
  @Test(arguments: [
    "output,back-end,123", "shared,front-end,7,hidden",
    "output,front-end,2000,hidden,garbage,then,back-end,45",
  ])
  func aCaseIsReadAsItIsPrinted(text: String) throws {
    let plan = try #require(CrashCase(text))
    #expect(plan.description == text)
    try CrashSweep().run(plan)
  }

  @Test(arguments: [
    "", "output", "output,nobody,1", "output,back-end,x", "x,back-end,1",
    "output,back-end,1,later", "output,back-end,1,then,front-end",
  ])
  func whatIsNoCaseIsRefused(text: String) { #expect(CrashCase(text) == nil) }
}
