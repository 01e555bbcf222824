import CLinux
import Foundation
import Simulator
import Testing

/// `ivshmem frontend console` and `entropy` against `ivshmem-backend`, as processes, over a
/// simulated link and over vhost-user.
@Suite struct StreamProgramTests {
  static let ways = ["link", "vhost-user"]

  /// A console with a socket and a log, and an entropy device, served somewhere.
  final class Served {
    let server: RunningServer
    let folder: URL
    let way: String
    var backend: Program

    init(_ way: String) throws {
      server = try RunningServer { $0.outputSize = 2 << 20 }
      folder = server.folder
      self.way = way
      backend = try Self.start(way, server)
    }

    static func start(_ way: String, _ server: RunningServer) throws -> Program {
      let folder = server.folder.path
      let console = "console,socket=\(folder)/socket,size=90x30,log=\(folder)/log,name=org.log"
      let arguments =
        way == "link"
        ? ["--link", "sim:\(server.path)", "--device", console, "--device", "entropy"]
        : [
          "--vhost-user", "\(folder)/vu", "--device", console, "--vhost-user", "\(folder)/ve",
          "--device", "entropy",
        ]
      let program = try Program("ivshmem-backend", arguments + ["--quiet", "--json"])
      let socket = way == "link" ? "\(folder)/socket" : "\(folder)/ve"
      guard holds({ FileManager.default.fileExists(atPath: socket) }) else {
        throw CocoaError(.fileNoSuchFile)
      }
      return program
    }

    func restart() throws {
      backend.killNow()
      backend = try Self.start(way, server)
    }

    func tool(_ kind: String, _ more: String...) throws -> Program {
      let place =
        way == "link"
        ? ["--link", "sim:\(server.path)", "--slot", kind == "console" ? "0" : "1"]
        : ["--vhost-user", "\(folder.path)/\(kind == "console" ? "vu" : "ve")"]
      return try Program("ivshmem", ["frontend", kind] + place + more)
    }

    var log: String {
      (try? String(contentsOf: folder.appendingPathComponent("log"), encoding: .utf8)) ?? ""
    }
  }

  @Test(arguments: ways)
  func theListNamesEveryPort(way: String) throws {
    let served = try Served(way)
    let list = try served.tool("console", "--list", "--json").end()
    #expect(list.status == 0)
    #expect(
      list.output
        == "{\"multiport\":true,\"ports\":[{\"port\":0,\"present\":true,\"name\":\"\","
        + "\"console\":true,\"open\":false,\"columns\":90,\"rows\":30},{\"port\":1,"
        + "\"present\":true,\"name\":\"org.log\",\"console\":false,\"open\":true,"
        + "\"columns\":0,\"rows\":0}]}\n")
    let people = try served.tool("console", "--list").end()
    #expect(
      people.output
        == "port 0: nobody is there, console, 90x30\nport 1 'org.log': somebody is there\n")
  }

  @Test(arguments: ways)
  func whatIsPipedInArrivesWhole(way: String) throws {
    let served = try Served(way)
    let text = String(repeating: "a line that is piped into a port\n", count: 20_000)
    let tool = try served.tool("console", "--port", "1", "--linger", "0")
    try tool.send(text)
    let end = try tool.end()
    #expect(end.status == 0)
    #expect(holds { served.log == text })
    let counters = try served.backend.stop()
    #expect(counters.status == 0)
    // Quiet: nothing went wrong.
    #expect(counters.errors == "")
    #expect(counters.output.contains("\"bytesFromDriver\":\(text.utf8.count),"))
    #expect(counters.output.contains("\"bytesDropped\":0,\"bytesLost\":0,"))
  }

  @Test(arguments: ways)
  func aClientOfTheSocketIsAnswered(way: String) throws {
    let served = try Served(way)
    // Nobody is there yet: what is sent waits.
    let tool = try served.tool("console", "--linger", "1")
    try tool.send("from the cell\n")
    let path = served.folder.appendingPathComponent("socket").path
    let client = Int32(try #require(Int(exactly: unsafe cl_connect_stream(path))))
    defer { cl_close(client) }
    var bytes = [UInt8](repeating: 0, count: 100)
    #expect(holds { unsafe read(client, &bytes, 100) == 14 })
    #expect(String(decoding: bytes[..<14], as: UTF8.self) == "from the cell\n")
    #expect(unsafe write(client, "to the cell\n", 12) == 12)
    let end = try tool.end()
    #expect(end.status == 0)
    #expect(end.output == "to the cell\n")
  }

  @Test(arguments: ways)
  func aKilledBackendIsTakenUpAgain(way: String) throws {
    let served = try Served(way)
    let tool = try served.tool("console", "--port", "1", "--linger", "0")
    let lines = 3000
    for number in 0..<lines {
      // A tool that has ended says why below.
      try? tool.input.fileHandleForWriting.write(contentsOf: Data("line \(number)\n".utf8))
      guard number % 1000 == 500 else { continue }
      #expect(
        holds { !tool.process.isRunning || served.log.contains("line \(number - 100)\n") })
      try served.restart()
    }
    try tool.input.fileHandleForWriting.close()
    let end = try tool.end()
    #expect(end.status == 0, "\(end.errors)")
    #expect(end.errors.contains("the back-end is back"))
    // The tool is done when the back-end has taken everything; a thread of its own writes the log.
    #expect(holds { served.log.hasSuffix("line \(lines - 1)\n") })
    // What a killed back-end had taken and not reported comes again.
    let found = served.log.split(separator: "\n")
    let expected = Set((2000..<lines).map { "line \($0)" }.map { $0[...] })
    let missing = expected.subtracting(found)
    #expect(missing.count == 0)
    #expect(found.last == "line \(lines - 1)")
  }

  @Test(arguments: ways)
  func randomBytesComeInTheirNumber(way: String) throws {
    let served = try Served(way)
    let plain = try served.tool("entropy", "--bytes", "100000", "--hex", "--json")
    let end = try plain.end()
    #expect(end.status == 0)
    let lines = end.output.split(separator: "\n")
    #expect(lines.count == 3125)
    #expect(lines.allSatisfy { $0.count == 64 })
    #expect(Set(lines).count == lines.count)
    #expect(end.errors.hasPrefix("{\"bytes\":100000,\"nanoseconds\":"))
    let odd = try served.tool("entropy", "--bytes", "7", "--hex", "--quiet").end()
    #expect(odd.output.count == 15)
    #expect(odd.errors == "")
  }

  @Test(arguments: [
    (
      ["frontend", "console", "--list", "--port", "1"], "--list shows every port; leave --port out"
    ),
    (["frontend", "console", "--json"], "--json goes with --list"),
    (["frontend", "console", "x"], "frontend console takes no action, got 'x'"),
    (["frontend", "entropy"], "--bytes N is missing: how many?"),
    (["frontend", "entropy", "--bytes", "0"], "--bytes 0: expected a number from 1 to"),
    (["frontend", "sound"], "frontend drives: block, console, entropy, network; got 'sound'"),
    (["frontend", "network"], "frontend network needs one action: info, bridge, send, receive"),
    (["frontend", "network", "bridge"], "bridge needs one far end: --tap NAME, --socket PATH or"),
    (
      ["frontend", "network", "info", "--stdio"], "info: --tap, --socket and --stdio go with bridge"
    ),
    (
      ["frontend", "network", "send", "--to", "02:00"],
      "--to 02:00: expected an address as 02:00:00:00:00:01"
    ),
    (
      ["frontend", "network", "send", "--without", "light"],
      "--without light: expected some of checksum, tso, mergeable, control"
    ),
  ])
  func wrongCommandLinesSayTheWayOut(words: [String], expected: String) throws {
    let more = words.last == "sound" ? [] : ["--link", "sim:/nowhere"]
    let end = try Program("ivshmem", words + more).end()
    #expect(end.status == 2)
    #expect(end.errors.hasPrefix("ivshmem: " + expected))
    #expect(end.output == "")
  }

  @Test func theWrongDeviceOrPortIsSaid() throws {
    let served = try Served("link")
    let port = try served.tool("console", "--port", "2").end()
    #expect(port.status == 2)
    #expect(
      port.errors == "ivshmem: --port 2: the console has 2 ports, counted from 0; see --list\n")
    let slot = try served.tool("entropy", "--bytes", "1", "--hex", "--slot", "0").end()
    #expect(slot.status == 1)
    #expect(
      slot.errors == "ivshmem: the slot holds device type 3, not an entropy device (4)\n")
  }
}
