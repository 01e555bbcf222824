import CommandOptions
import Foundation
import FrontendCommands
import LinuxRuntime
import Simulator
import Testing
import ToolSupport
import VirtioBlock

/// Processes that kill themselves before one of their steps: stores to shared memory and register
/// writes, numbered as in the sweep within one process (docs/testing.md).
@Suite struct KillStepTests {
  /// CELLMATE_KILL_STEPS="1,2,3" runs others.
  static let steps: [Int] = {
    let text = ProcessInfo.processInfo.environment["CELLMATE_KILL_STEPS"] ?? ""
    let own = text.split(separator: ",").compactMap { Int($0) }
    return own.isEmpty ? [1, 33, 60, 100, 150, 300, 700] : own
  }()

  /// A process that dies before its step number `step`.
  ///
  /// - Parameter mark: a file that it leaves then; whoever finds it does not die.
  static func program(
    _ name: String, _ arguments: [String], step: Int?, mark: String? = nil
  ) throws -> Process {
    let process = Process()
    process.executableURL = DiskTests.program(name)
    process.arguments = arguments
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    if let step {
      var environment = ProcessInfo.processInfo.environment
      environment["CELLMATE_CRASH_STEP"] = "\(step)"
      environment["CELLMATE_CRASH_MARK"] = mark
      process.environment = environment
    }
    try process.run()
    return process
  }

  /// SIGKILL: a test's thread has the other signals blocked, and its children inherit that.
  static func end(_ process: Process) {
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  static func wasKilled(_ process: Process) -> Bool {
    process.terminationReason == .uncaughtSignal && process.terminationStatus == SIGKILL
  }

  static func byte(_ index: Int) -> UInt8 { UInt8(truncatingIfNeeded: index &* 131 >> 4 ^ index) }

  @Test(arguments: steps, ["output", "shared"])
  func aBackEndDiesBeforeAStep(step: Int, placement: String) throws {
    let server = try RunningServer {
      $0.outputSize = 1 << 20
      $0.readWriteSize = 1 << 20
    }
    let file = server.folder.appendingPathComponent("disk.img")
    let total = 1 << 20
    try Data(count: total).write(to: file)
    let link = "sim:\(server.path),placement=\(placement)"
    let keeper = try Keeper(
      ["--link", link, "--device", "block,file=\(file.path)", "--quiet"], step: step)
    defer { _ = keeper.stop() }
    var client = try BlockClient(
      link: try LinkSpecification(link), slot: 0, depth: 4, chunk: 16384,
      patience: 60_000_000_000
    ) { _ in }
    let disk = try FileHandle(forReadingFrom: file)
    var offset = 0
    var wrong = 0
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        defer { offset += 16384 }
        if offset < total {
          return TransferStep(type: .write, offset: UInt64(offset), count: 16384)
        }
        return offset == total ? TransferStep(type: .flush, offset: 0, count: 0) : nil
      },
      fill: { (step, span) throws(ClientError) in
        for index in span.indices { span[index] = Self.byte(Int(step.offset) + index) }
      },
      finish: { (step, _) throws(ClientError) in
        // Acknowledged: on the disk, now.
        guard step.type == .write else { return }
        try? disk.seek(toOffset: step.offset)
        let bytes = [UInt8]((try? disk.read(upToCount: 16384)) ?? Data())
        for index in 0..<16384
        where index >= bytes.count || bytes[index] != Self.byte(Int(step.offset) + index) {
          wrong += 1
          break
        }
      })
    client.leave()
    let deaths = keeper.stop()
    #expect(wrong == 0, "step \(step): writes that were acknowledged and are not on the disk")
    // 64 requests and a start-up are more steps than any of these.
    if step < 400 { #expect(deaths == 1, "step \(step) was never reached") }
    let after = try [UInt8](Data(contentsOf: file))
    #expect(after == (0..<total).map { Self.byte($0) }, "step \(step)")
  }

  /// A front-end that dies in the middle leaves the back-end as it was: the next one is served.
  @Test(arguments: steps.filter { $0 < 200 })
  func aFrontEndDiesBeforeAStep(step: Int) throws {
    // What the tool's buffers need.
    let server = try RunningServer { $0.outputSize = 8 << 20 }
    let file = server.folder.appendingPathComponent("disk.img")
    let bytes = (0..<(1 << 20)).map { Self.byte($0) }
    try Data(bytes).write(to: file)
    let link = "sim:\(server.path)"
    let backend = try Self.program(
      "ivshmem-backend", ["--link", link, "--device", "block,file=\(file.path)", "--quiet"],
      step: nil)
    defer { Self.end(backend) }
    let copy = server.folder.appendingPathComponent("copy.img").path
    let read = ["frontend", "block", "read", "--link", link, "--file", copy]
    let first = try Self.program("ivshmem", read, step: step)
    first.waitUntilExit()
    #expect(Self.wasKilled(first), "step \(step) was never reached")
    let second = try Self.program("ivshmem", read, step: nil)
    second.waitUntilExit()
    #expect(second.terminationReason == .exit && second.terminationStatus == 0)
    #expect(try [UInt8](Data(contentsOf: URL(fileURLWithPath: copy))) == bytes)
    #expect(backend.isRunning)
  }
}
