import Foundation
import Simulator
import Testing

/// `ivshmem frontend block zero` and `discard`, and `frontend console --emergency`, with the
/// programs as they are, over each way to a device.
@Suite struct EraseTests {
  enum Way: String, CaseIterable, CustomTestStringConvertible {
    case native
    case siemens
    case socket
    var testDescription: String { rawValue }
  }

  /// A server with the words that name a way for both sides.
  private static func place(_ way: Way) throws -> (server: RunningServer, words: [String]) {
    let server = try RunningServer {
      $0.outputSize = 0
      $0.readWriteSize = 2 << 20
    }
    let words =
      way == .socket
      ? ["--vhost-user", server.folder.appendingPathComponent("vhost").path]
      : ["--link", "sim:\(server.path),dialect=\(way.rawValue)"]
    return (server, words)
  }

  /// Runs the board tool to its end.
  private static func tool(_ words: [String]) throws -> (status: Int32, out: String, error: String)
  {
    let process = Process()
    process.executableURL = DiskTests.program("ivshmem")
    process.arguments = ["frontend"] + words
    let (out, error) = (Pipe(), Pipe())
    process.standardOutput = out
    process.standardError = error
    try process.run()
    let text = String(decoding: out.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let why = String(decoding: error.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text, why)
  }

  /// Starts a back-end; returns when it serves.
  private static func serve(_ device: String, _ words: [String]) throws -> Process {
    let process = Process()
    process.executableURL = DiskTests.program("ivshmem-backend")
    process.arguments = words + ["--device", device]
    let log = Pipe()
    process.standardError = log
    try process.run()
    var text = ""
    while !text.contains("waiting for") {
      let more = log.fileHandleForReading.availableData
      try #require(!more.isEmpty, "the back-end has ended: \(text)")
      text += String(decoding: more, as: UTF8.self)
    }
    return process
  }

  @Test(arguments: Way.allCases)
  func aRangeIsErased(_ way: Way) throws {
    let (server, words) = try Self.place(way)
    let disk = server.folder.appendingPathComponent("disk")
    try Data(repeating: 0x5a, count: 1 << 20).write(to: disk)
    let backend = try Self.serve("block,file=\(disk.path)", words)
    defer { backend.terminate() }
    for (action, offset) in [("zero", 0), ("discard", 512 << 10)] {
      let done = try Self.tool(
        ["block", action, "--offset", "\(offset + 4096)", "--count", "65536", "--size", "8192"]
          + ["--json", "--quiet"] + words)
      #expect(done.status == 0, "\(done.error)")
      let shown = try #require(
        try JSONSerialization.jsonObject(with: Data(done.out.utf8)) as? [String: Any])
      #expect(shown["bytes"] as? Int == 65536)
      // Eight requests, and the flush.
      #expect(shown["requests"] as? Int == 9 || shown["requests"] as? Int == 10, "\(done.out)")
    }
    let bytes = [UInt8](try Data(contentsOf: disk))
    for index in bytes.indices where index < 512 << 10 {
      let isErased = index >= 4096 && index < 4096 + 65536
      guard bytes[index] == (isErased ? 0 : 0x5a) else {
        Issue.record("byte \(index) is \(bytes[index])")
        return
      }
    }
    #expect(bytes[(512 << 10) + 4095] == 0x5a && bytes[(512 << 10) + 4096 + 65536] == 0x5a)
    // Less than the device likes to discard at once, and from elsewhere.
    let small = try Self.tool(
      ["block", "discard", "--offset", "\((768 << 10) + 512)", "--count", "8192"]
        + ["--size", "512", "--quiet"] + words)
    #expect(small.status == 0, "\(small.error)")
    let missing = try Self.tool(["block", "discard"] + words)
    #expect(missing.status == 2)
    #expect(missing.error.contains("--count BYTES is missing"))
  }

  @Test(arguments: Way.allCases)
  func theEmergencyRegisterNeedsNoQueue(_ way: Way) throws {
    let (server, words) = try Self.place(way)
    let log = server.folder.appendingPathComponent("log").path
    let backend = try Self.serve("console,log=\(log)", words)
    defer { backend.terminate() }
    let done = try Self.tool(["console", "--emergency", "all is lost", "--json"] + words)
    #expect(done.status == 0, "\(done.error)")
    #expect(done.out == "{\"bytes\":11}\n")
    #expect(try holds { try String(contentsOfFile: log, encoding: .utf8) == "all is lost" })
  }
}
