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
    // The first kill comes long before so many frames are through, the second one when the device
    // was set up again.
    #expect(sender.waits(for: "sending as"))
    try network.restart()
    #expect(sender.waits(for: "the back-end is back"))
    try network.restart()
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

  /// What a front-end does wrong costs it its frames, and is counted at its port.
  @Test(arguments: ways)
  func spoofedFramesAreDroppedAndCounted(way: String) throws {
    let network = try Network(way)
    let sender = try network.tool(
      0, "send", "--to", Self.second, "--from", "02:00:00:00:00:09", "--window", "0", "--count",
      "50", "--json")
    #expect(try sender.end().status == 0)
    let refused = try network.tool(0, "info", "--address", "02:00:00:00:00:09").end()
    #expect(refused.status == 1)
    #expect(refused.errors.hasSuffix("ivshmem: the device refuses: set the address\n"))
    let counters = try network.counters()
    #expect(counters[0]["spoofed"] as? Int == 50)
    #expect(counters[0]["badCommands"] as? Int == 1)
    #expect(counters[1]["framesToDriver"] as? Int == 0)
  }

  /// Frames of a stream, each behind its length, from one end to the other.
  @Test(arguments: ways)
  func aBridgeCarriesAStream(way: String) throws {
    let network = try Network(way)
    let far = try network.tool(1, "bridge", "--stdio")
    #expect(far.waits(for: "connected"))
    let near = try network.tool(0, "bridge", "--stdio")
    var stream = Data()
    for number in 0..<300 {
      let count = 60 + number * 4
      let frame =
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb6]
        + (14..<count).map { UInt8(truncatingIfNeeded: $0 &+ number) }
      stream += [0, 0, UInt8(count >> 8), UInt8(count & 255)] + frame
    }
    try near.input.fileHandleForWriting.write(contentsOf: stream)
    try near.input.fileHandleForWriting.close()
    let end = try near.end()
    #expect(end.status == 0 && end.errors.hasSuffix("the far end has ended\n"), "\(end.errors)")
    let came = far.read(stream.count)
    #expect(came == stream)
    try far.input.fileHandleForWriting.close()
    #expect(try far.end().status == 0)
  }

  @Test func framesLongerThanTheMTUAreNotSent() throws {
    let network = try Network("vhost-user")
    let end = try network.tool(0, "send", "--size", "1519").end()
    #expect(end.status == 2)
    #expect(
      end.errors
        == "ivshmem: --size 1519: the device's MTU and the link's memory allow frames of 1518\n")
  }

  @Test func theOperatorTakesALinkAway() throws {
    let service = try ServiceProcess()
    let socket = service.path("port")
    try service.start([
      "--vhost-user", socket, "--device", "network,mac=\(Self.first)", "--quiet",
    ])
    #expect(try service.ask("carrier down 02:00:00:00:00:07")["ok"] as? Bool == false)
    #expect(try service.ask("carrier sideways \(Self.first)")["ok"] as? Bool == false)
    for (word, isUp) in [("down", false), ("up", true)] {
      let asked = try Program(
        "ivshmem", ["backend", "carrier", word, Self.first, "--control", service.control]
      ).end()
      #expect(asked.output == "ok: link \(word) of \(Self.first)\n")
      let info = try Program(
        "ivshmem", ["frontend", "network", "info", "--json", "--vhost-user", socket]
      ).end()
      #expect(try Self.result(info.output)["linkUp"] as? Bool == isUp)
    }
    #expect(try service.stop() == 0)
  }

  /// A changed line makes the device anew; the other port and its switch stay.
  @Test func aReloadChangesAPort() throws {
    let service = try ServiceProcess()
    let ports = [service.path("one"), service.path("two")]
    func lines(_ more: String) -> String {
      "vhost-user = \(ports[0])\ndevice = network,mac=\(Self.first),switch=lan\n"
        + "vhost-user = \(ports[1])\ndevice = network,mac=\(Self.second),switch=lan\(more)\n"
    }
    let file = try service.write("conf", lines(""))
    try service.start(["--config", file, "--quiet"])
    _ = try service.ask("status")
    _ = try service.write("conf", lines(",isolate,mtu=9000"))
    let answer = try service.ask("reload")
    #expect(answer["ok"] as? Bool == true && answer["kept"] as? Int == 1, "\(answer)")
    let info = try Program(
      "ivshmem", ["frontend", "network", "info", "--json", "--vhost-user", ports[1]]
    ).end()
    #expect(try Self.result(info.output)["mtu"] as? Int == 9000)
    // The same address on another socket: the old port has to leave first.
    _ = try service.write("conf", lines("").replacingOccurrences(of: "/two", with: "/three"))
    #expect(try service.ask("reload")["started"] as? Int == 1)
    #expect(try service.stop() == 0)
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
