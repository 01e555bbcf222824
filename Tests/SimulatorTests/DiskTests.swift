import CommandOptions
import Foundation
import FrontendCommands
import LinuxRuntime
import Simulator
import Testing
import ToolSupport
import VirtioBlock

/// The production front-end and back-end as processes over the production simulator: what the
/// demo does, small and with a look at every byte.
@Suite struct DiskTests {
  static var tools: URL {
    // The test binary lies beside the programs.
    URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent()
  }

  static func program(_ name: String) -> URL? {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    return [tools, root.appendingPathComponent(".build/debug")]
      .map { $0.appendingPathComponent(name) }
      .first { FileManager.default.isExecutableFile(atPath: $0.path) }
  }

  static func backend(_ server: RunningServer, _ link: String, _ file: String) throws -> Process {
    let process = Process()
    process.executableURL = program("ivshmem-backend")
    process.arguments = ["--link", link, "--device", "block,file=\(file)", "--quiet"]
    try process.run()
    return process
  }

  @Test(arguments: ["output", "shared"], [false, true])
  func aDiskIsReadWrittenAndTakenUpAgain(placement: String, worst: Bool) throws {
    let server = try RunningServer {
      $0.outputSize = 2 << 20
      $0.readWriteSize = 2 << 20
      $0.hasStaleStates = worst
      $0.overwritesAtStart = worst
      $0.hasStrictAlignment = worst
      $0.isUnpinnable = worst
      $0.vectorCount = worst ? 4 : 1
    }
    let file = server.folder.appendingPathComponent("disk.img")
    var bytes = [UInt8](repeating: 0, count: 4 << 20)
    var dice: UInt64 = 5
    for index in bytes.indices {
      dice = dice &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      bytes[index] = UInt8(truncatingIfNeeded: dice >> 40)
    }
    try Data(bytes).write(to: file)
    let link = "sim:\(server.path),placement=\(placement)"
    var process = try Self.backend(server, link, file.path)
    defer { process.terminate() }
    var client = try BlockClient(
      link: try LinkSpecification(link), slot: 0, depth: 8, chunk: 16384,
      patience: 60_000_000_000
    ) { _ in }
    #expect(client.byteCount == UInt64(bytes.count))
    var copy = [UInt8](repeating: 0, count: bytes.count)
    var requests = 0
    try Self.read(&client, &copy) { _ in
      requests += 1
      guard requests == 40 || requests == 120 else { return }
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      guard let next = try? Self.backend(server, link, file.path) else { return }
      process = next
    }
    #expect(copy == bytes)
    let report = client.takeReport()
    #expect(report.recoveries == 2)
    client.leave()
  }

  static func read(
    _ client: inout BlockClient, _ copy: inout [UInt8], _ each: (Int) -> Void
  ) throws(ClientError) {
    var position: UInt64 = 0
    let total = UInt64(copy.count)
    var sink = copy
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        guard position < total else { return nil }
        defer { position += 16384 }
        return TransferStep(type: .read, offset: position, count: 16384)
      }, fill: { (_, _) throws(ClientError) in },
      finish: { (step, span) throws(ClientError) in
        for index in span.indices { sink[Int(step.offset) + index] = span[index] }
        each(Int(step.offset))
      })
    copy = sink
  }
}
