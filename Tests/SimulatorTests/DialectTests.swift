import CommandOptions
import Foundation
import LinuxRuntime
import Simulator
import Testing
import VirtioTransport

/// Both dialects of a link, with the programs as they are.
@Suite struct DialectTests {
  static func run(_ name: String, _ arguments: [String]) throws -> Process {
    let process = Process()
    process.executableURL = DiskTests.program(name)
    process.arguments = arguments
    try process.run()
    return process
  }

  /// A native and a Siemens front-end at the same back-end process, on different links, at the same
  /// time; each link says itself what it is.
  @Test func bothDialectsAtOneBackEnd() throws {
    let siemens = try RunningServer {
      $0.outputSize = 0
      $0.readWriteSize = 2 << 20
      $0.virtioDevice = 2
      $0.vectorCount = 2
    }
    let native = try RunningServer { $0.outputSize = 2 << 20 }
    var bytes: [[UInt8]] = []
    for (index, server) in [siemens, native].enumerated() {
      bytes.append((0..<2 << 20).map { UInt8(truncatingIfNeeded: $0 &* (7 + index) >> 5) })
      try Data(bytes[index]).write(to: server.folder.appendingPathComponent("disk"))
    }
    let servers = [siemens, native]
    let backend = try Self.run(
      "ivshmem-backend",
      ["--quiet"]
        + servers.flatMap {
          [
            "--link", "sim:\($0.path)", "--device",
            "block,file=\($0.folder.appendingPathComponent("disk").path)",
          ]
        })
    defer { backend.terminate() }
    for round in 0..<2 {
      let copies = servers.map { $0.folder.appendingPathComponent("copy\(round)") }
      let readers = try servers.indices.map { index in
        try Self.run(
          "ivshmem",
          [
            "frontend", "block", "read", "--quiet", "--link", "sim:\(servers[index].path)",
            "--size", "8192", "--file", copies[index].path,
          ])
      }
      for reader in readers {
        reader.waitUntilExit()
        #expect(reader.terminationStatus == 0)
      }
      for index in servers.indices {
        #expect([UInt8](try Data(contentsOf: copies[index])) == bytes[index])
      }
    }
  }

  /// The state of such a link is not read as if it were a native one.
  @Test func statusKnowsTheDialect() throws {
    let server = try RunningServer {
      $0.outputSize = 0
      $0.readWriteSize = 1 << 20
      $0.virtioDevice = 2
    }
    let file = server.folder.appendingPathComponent("disk").path
    try Data(count: 1 << 20).write(to: URL(fileURLWithPath: file))
    let link = "sim:\(server.path)"
    let backend = try Self.run(
      "ivshmem-backend", ["--quiet", "--link", link, "--device", "block,file=\(file)"])
    defer { backend.terminate() }
    // Returns when the back-end has answered.
    let front = try Self.run(
      "ivshmem", ["frontend", "block", "roundtrip", "--count", "1", "--link", link])
    front.waitUntilExit()
    #expect(front.terminationStatus == 0)
    let status = Process()
    status.executableURL = DiskTests.program("ivshmem")
    status.arguments = ["status", "--link", link, "--json"]
    let pipe = Pipe()
    status.standardOutput = pipe
    try status.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    status.waitUntilExit()
    let text = String(decoding: output, as: UTF8.self)
    let shown = try #require(try JSONSerialization.jsonObject(with: output) as? [String: Any])
    #expect(shown["dialect"] as? String == "siemens", "\(text)")
    let header = try #require(shown["header"] as? [String: String])
    #expect(header["revision"] == "0x1")
    #expect(header["size"] == "0x88")
  }

  @Test func aLinkSaysWhatItIs() throws {
    func recognise(_ deviceClass: UInt32, _ state: UInt32, _ side: LinkSide) -> Dialect? {
      do throws(UsageError) {
        return try Dialect.recognise(
          Dialect.Signs(deviceClass: deviceClass, peerState: state), side: side, link: "x")
      } catch { return nil }
    }
    #expect(recognise(0xff_c002, 0, .backEnd) == .siemens)
    #expect(recognise(0xff_8003, 0, .frontEnd) == .siemens)
    #expect(recognise(0xff_8002, 0, .backEnd) == nil)
    #expect(recognise(0xff_c002, 0, .frontEnd) == nil)
    for deviceClass: UInt32 in [0, 0xff_0000, 0xff_0001, 0xff_4000, 0xff_7fff] {
      #expect(recognise(deviceClass, 0, .backEnd) == .native)
      #expect(recognise(deviceClass, 0x434d_0102, .frontEnd) == .native)
      #expect(recognise(deviceClass, 1, .frontEnd) == .siemens)
    }
  }
}
