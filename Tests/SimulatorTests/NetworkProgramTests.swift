import CLinux
import Foundation
import Simulator
import Testing

/// `ivshmem frontend network` against `ivshmem-backend` with a switch in it, as processes: two
/// front-ends on two links, or on two vhost-user sockets.
@Suite struct NetworkProgramTests {
  static let ways = ["native", "siemens", "vhost-user"]
  static let first = "02:00:00:00:00:01"
  static let second = "02:00:00:00:00:02"

  /// Two ports of one switch, each behind a link or a socket of its own.
  final class Network {
    let servers: [RunningServer]
    let folder: URL
    let way: String
    private let more: [String]
    var backend: Program

    /// - Parameter more: what is added to the lines of the two devices.
    init(_ way: String, more: [String] = ["", ""]) throws {
      let servers = try (0..<2).map { _ in
        try RunningServer {
          if way == "siemens" {
            $0.outputSize = 0
            $0.readWriteSize = 8 << 20
            $0.virtioDevice = 1
            $0.vectorCount = 2
          }
        }
      }
      self.servers = servers
      self.way = way
      self.more = more
      folder = servers[0].folder
      backend = try Self.start(way, servers, more)
    }

    static func face(_ way: String, _ servers: [RunningServer], _ port: Int) -> [String] {
      way == "vhost-user"
        ? ["--vhost-user", servers[0].folder.appendingPathComponent("port\(port)").path]
        : ["--link", "sim:\(servers[port].path)"]
    }

    static func start(_ way: String, _ servers: [RunningServer], _ more: [String]) throws -> Program
    {
      var arguments = ["--quiet", "--json"]
      for port in 0..<2 {
        arguments += face(way, servers, port)
        let address = port == 0 ? first : second
        arguments += ["--device", "network,mac=\(address),switch=lan\(more[port])"]
      }
      let program = try Program("ivshmem-backend", arguments)
      guard way == "vhost-user" else { return program }
      for port in 0..<2 {
        let path = servers[0].folder.appendingPathComponent("port\(port)").path
        #expect(holds { unsafe cl_inode(path) != 0 })
      }
      return program
    }

    func restart() throws {
      backend.killNow()
      backend = try Self.start(way, servers, more)
    }

    func tool(_ port: Int, _ action: String, _ more: String...) throws -> Program {
      try Program(
        "ivshmem", ["frontend", "network", action] + Self.face(way, servers, port) + more)
    }

    /// What the tool at the other end of a run says, once it is ready to receive.
    func receiver(_ count: Int, _ more: String...) throws -> Program {
      let tool = try Program(
        "ivshmem",
        ["frontend", "network", "receive", "--count", "\(count)", "--json"]
          + Self.face(way, servers, 1) + more)
      #expect(tool.waits(for: "receiving as"))
      return tool
    }

    /// The counters of both devices.
    func counters() throws -> [[String: Any]] {
      let end = try backend.stop()
      #expect(end.status == 0)
      return try end.output.split(separator: "\n").map { line in
        let link = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
        let devices = try #require(link?["devices"] as? [[String: Any]])
        return try #require(devices.first)
      }
    }
  }

  /// The result of a run.
  static func result(_ text: String) throws -> [String: Any] {
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
    return try #require(object as? [String: Any])
  }

  @Test(arguments: ways)
  func framesArriveWholeAndInOrder(way: String) throws {
    let network = try Network(way)
    let receiver = try network.receiver(500)
    let sender = try network.tool(0, "send", "--to", Self.second, "--count", "500", "--json")
    let sent = try sender.end()
    let received = try receiver.end()
    #expect(sent.status == 0, "\(sent.errors)")
    #expect(received.status == 0, "\(received.errors)")
    let one = try Self.result(sent.output)
    let other = try Self.result(received.output)
    #expect(one["digest"] as? String == other["digest"] as? String)
    #expect(other["frames"] as? Int == 500)
    #expect(other["corrupt"] as? Int == 0)
    let counters = try network.counters()
    for name in ["spoofed", "badHeaders", "undersized", "oversized", "noRoom", "queueErrors"] {
      #expect(counters[0][name] as? Int == 0, "\(name)")
      #expect(counters[1][name] as? Int == 0, "\(name)")
    }
  }

  @Test(arguments: ways)
  func aKilledBackendLosesNothingForGood(way: String) throws {
    let network = try Network(way)
    let count = 6000
    let receiver = try network.receiver(count)
    let sender = try network.tool(
      0, "send", "--to", Self.second, "--count", "\(count)", "--size", "1000", "--json")
    for _ in 0..<3 {
      var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, 60_000_000)
      try network.restart()
    }
    let sent = try sender.end()
    let received = try receiver.end()
    #expect(sent.status == 0, "\(sent.errors)")
    #expect(received.status == 0, "\(received.errors)")
    let one = try Self.result(sent.output)
    let other = try Self.result(received.output)
    #expect(one["digest"] as? String == other["digest"] as? String)
    #expect(other["frames"] as? Int == count)
    #expect(try #require(one["recoveries"] as? Int) > 0)
  }

  @Test(arguments: ways)
  func aKilledFrontendIsReplaced(way: String) throws {
    let network = try Network(way)
    for _ in 0..<3 {
      let early = try network.tool(
        0, "send", "--to", Self.second, "--count", "1000000", "--window", "0", "--quiet")
      let listener = try network.receiver(1_000_000, "--patience", "20")
      listener.killNow()
      early.killNow()
    }
    let receiver = try network.receiver(200)
    let sender = try network.tool(0, "send", "--to", Self.second, "--count", "200", "--json")
    let sent = try sender.end()
    let received = try receiver.end()
    #expect(sent.status == 0, "\(sent.errors)")
    #expect(received.status == 0, "\(received.errors)")
    #expect(
      try Self.result(sent.output)["digest"] as? String
        == Self.result(received.output)["digest"] as? String)
  }

  /// Frames of 64 KiB, several queue pairs and no mergeable buffers, on the way that has room.
  @Test(arguments: [
    (["--pairs", "4"], 1514), (["--without", "mergeable"], 1514), (["--without", "control"], 60),
    (["--without", "checksum"], 65549), (["--edges"], 65549), (["--own"], 9000),
  ])
  func everyShapeOfTheDeviceWorks(words: [String], size: Int) throws {
    let network = try Network(
      "vhost-user", more: [",queues=4,mtu=65535", ",queues=2,mtu=65535"])
    let receiver = try network.receiver(100, "--pairs", "2")
    let tool = try Program(
      "ivshmem",
      ["frontend", "network", "send", "--to", Self.second, "--count", "100", "--json"]
        + Network.face("vhost-user", network.servers, 0) + words + ["--size", "\(size)"])
    let sent = try tool.end()
    let received = try receiver.end()
    #expect(sent.status == 0, "\(sent.errors)")
    #expect(received.status == 0, "\(received.errors)")
    let other = try Self.result(received.output)
    #expect(other["bytes"] as? Int == 100 * size)
    #expect(try Self.result(sent.output)["digest"] as? String == other["digest"] as? String)
  }
}
