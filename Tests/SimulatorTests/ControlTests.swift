import CLinux
import CService
import Foundation
import Glibc
import LinuxSupport
import Testing

@testable import LinuxRuntime

/// The control socket of `ivshmem-backend`, asked by good and bad clients.
@Suite struct ControlTests {
  static let policies = ["single", "per-link"]

  static func service(_ threads: String) throws -> ServiceProcess {
    let service = try ServiceProcess()
    try service.start([
      "--vhost-user", service.path("rng"), "--device", "entropy", "--vhost-user",
      service.path("disk"), "--device", "block,file=\(try service.image("disk.img"))",
      "--threads", threads,
    ])
    return service
  }

  @Test(arguments: policies) func statusMetricsAndStop(threads: String) throws {
    let service = try Self.service(threads)
    let status = try service.ask("status")
    #expect(status["ok"] as? Bool == true)
    #expect(status["pid"] as? Int == Int(service.process.processIdentifier))
    #expect(status["threads"] as? String == threads)
    let links = try service.links()
    #expect(links.count == 2)
    for link in links.values { #expect(link["state"] as? String == "waiting") }
    let devices = links["vhost-user \(service.path("disk"))"]?["devices"] as? [[String: Any]]
    #expect(devices?.first?["kind"] as? String == "block")
    #expect(devices?.first?["reads"] as? Int == 0)
    var facts = stat()
    #expect(unsafe stat(service.control, &facts) == 0)
    #expect(facts.st_mode & 0o777 == 0o600)
    let metrics = try service.metrics()
    #expect(metrics["cellmate_links"] == ["cellmate_links 2"])
    #expect(metrics["cellmate_link_answering"]?.count == 2)
    #expect(metrics["cellmate_link_answering"]?.allSatisfy { $0.hasSuffix(" 1") } == true)
    #expect(metrics["cellmate_block_reads_total"]?.first?.contains("slot=\"0\"") == true)
    #expect(try service.stop() == 0)
    #expect(!FileManager.default.fileExists(atPath: service.control))
    #expect(!FileManager.default.fileExists(atPath: service.path("rng")))
  }

  /// Several commands at once, half-closed connections, the answers in order.
  @Test(arguments: policies) func manyCommandsOnOneConnection(threads: String) throws {
    let service = try Self.service(threads)
    let answer = try service.exchange(
      Array("help\nbad words here\nstatus text\nmetrics\nhelp\n".utf8), halfClose: true)
    let text = String(decoding: answer, as: UTF8.self)
    let lines = text.split(separator: "\n")
    #expect(lines.first?.hasPrefix("{\"ok\":true,\"commands\"") == true)
    #expect(lines[1].hasPrefix("{\"ok\":false,\"error\":\"unknown command"))
    #expect(lines[2].hasPrefix("ok: pid"))
    #expect(lines.filter { $0 == "# EOF" }.count == 2)
    #expect(lines.last?.hasPrefix("{\"ok\":true,\"commands\"") == true)
    #expect(try service.stop() == 0)
  }

  @Test(arguments: policies) func malformedClientsHurtNobody(threads: String) throws {
    let service = try Self.service(threads)
    let long = [UInt8](repeating: 120, count: 3000)
    let refused = try service.exchange(long)
    #expect(String(decoding: refused, as: UTF8.self).contains("longer than 1024"))
    let head = Array("GET /metrics HTTP/1.1\r\nX: ".utf8) + [UInt8](repeating: 120, count: 20000)
    // The rest of the head is never read: the answer may be lost with the connection.
    _ = try service.exchange(head)
    for (request, status) in [
      ("POST /metrics HTTP/1.1\r\n\r\n", "405"), ("GET / HTTP/1.0\n\n", "404"),
      ("GET HTTP/1.1\r\n\r\n", "400"), ("GET /status HTTP/1.1\r\n\r\n", "200"),
    ] {
      let answer = String(decoding: try service.exchange(Array(request.utf8)), as: UTF8.self)
      #expect(answer.hasPrefix("HTTP/1.1 \(status) "))
    }
    var dice = SystemRandomNumberGenerator()
    for _ in 0..<50 {
      let count = Int.random(in: 1...2000, using: &dice)
      let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &dice) }
      _ = try service.exchange(bytes, halfClose: true)
    }
    #expect(try service.ask("status")["ok"] as? Bool == true)
    #expect(try service.stop() == 0)
  }

  /// A bounded number of clients: the next one is turned away, until one leaves.
  @Test(arguments: policies) func tooManyClientsAreTurnedAway(threads: String) throws {
    let service = try Self.service(threads)
    var idle: [Int32] = []
    defer { for socket in idle { close(socket) } }
    _ = try service.ask("help")
    for _ in 0..<16 {
      let socket = try service.connect()
      _ = unsafe Glibc.send(socket.number, "help\n", 5, 0)
      // An answer: the client has its place.
      _ = ServiceProcess.receive(socket.number) { $0.last == 10 }
      idle.append(socket.release())
    }
    #expect(try service.ask("help")["error"] as? String == "too many clients")
    close(idle.removeLast())
    // The place is free as soon as the process has seen the end of that connection.
    var answer = try service.ask("help")
    let end = cl_monotonic_ns() + 60_000_000_000
    while answer["ok"] as? Bool != true, cl_monotonic_ns() < end {
      answer = try service.ask("help")
    }
    #expect(answer["ok"] as? Bool == true)
  }

  /// Clients that ask and never read: their answers stay in the socket, others are served.
  @Test(arguments: policies) func aClientThatDoesNotReadDelaysNobody(threads: String) throws {
    let service = try Self.service(threads)
    var lazy: [Int32] = []
    defer { for socket in lazy { close(socket) } }
    for _ in 0..<8 {
      let socket = try service.connect()
      let flood = Array(String(repeating: "metrics\n", count: 4000).utf8)
      for _ in 0..<20 {
        let sent = unsafe flood.withUnsafeBytes {
          unsafe Glibc.send(
            socket.number, $0.baseAddress, $0.count,
            Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
        }
        if sent < 0 { break }
      }
      lazy.append(socket.release())
    }
    for _ in 0..<20 { #expect(try service.ask("status")["ok"] as? Bool == true) }
    #expect(try service.stop() == 0)
  }

  /// Whoever sees the socket's path can connect: it has no name before it is served.
  @Test func aSocketIsServedAsSoonAsItShows() throws {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    // A path that leaves no room for ".PID" behind it is served in the same way.
    let long = folder.path + "/" + String(repeating: "s", count: 106 - folder.path.utf8.count)
    for path in [folder.path + "/short", long] {
      let rounds = 300
      let serving = Thread {
        for _ in 0..<rounds {
          var holder: Int32 = 0
          let listener = unsafe cs_listen(path, 0o600, -1, &holder)
          if listener < 0 { break }
          // Until the other thread has connected; it then takes the path away.
          var entry = cl_poll_entry(fd: Int32(listener), events: Int16(CL_POLL_IN), revents: 0)
          _ = unsafe cl_poll_ns(&entry, 1, 60_000_000_000)
          while unsafe access(path, F_OK) == 0 { sched_yield() }
          cl_close(Int32(listener))
        }
      }
      serving.start()
      for round in 0..<rounds {
        var result = -Int(ENOENT)
        let end = cl_monotonic_ns() + 60_000_000_000
        while result == -Int(ENOENT), cl_monotonic_ns() < end {
          result = unsafe cl_connect_stream(path)
        }
        try #require(result >= 0, "round \(round) of \(path): \(SystemError(Int32(-result)).text)")
        unsafe unlink(path)
        cl_close(Int32(result))
      }
      #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path).isEmpty)
    }
  }

  /// `ivshmem backend`, with its exit statuses.
  @Test func theTool() throws {
    let service = try Self.service("per-link")
    _ = try service.ask("help")
    func tool(_ words: [String]) throws -> (Int32, String) {
      let process = Process()
      process.executableURL = DiskTests.program("ivshmem")
      process.arguments = ["backend"] + words
      let output = Pipe()
      process.standardOutput = output
      process.standardError = output
      try process.run()
      let data = output.fileHandleForReading.readDataToEndOfFile()
      process.waitUntilExit()
      return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }
    let here = ["--control", service.control]
    let status = try tool(["status"] + here)
    #expect(status.0 == 0 && status.1.contains("vhost-user \(service.path("rng")): waiting"))
    let json = try tool(["status", "--json"] + here)
    #expect(json.0 == 0 && json.1.hasPrefix("{\"ok\":true"))
    #expect(try tool(["metrics"] + here).1.contains("\ncellmate_links 2\n"))
    let reload = try tool(["reload"] + here)
    #expect(reload.0 == 1 && reload.1.contains("there is no configuration file"))
    #expect(try tool(["reload", "--json"] + here).0 == 1)
    #expect(try tool(["dance"] + here).0 == 2)
    #expect(try tool(["status"]).0 == 2)
    #expect(try tool(["status", "--control", service.path("nothing")]).0 == 2)
    #expect(try tool(["stop"] + here).0 == 0)
    #expect(service.wait() == 0)
  }

  @Test func theSocketHasAGroupAndOneOwner() throws {
    let service = try ServiceProcess()
    let group = getgid()
    try service.start(["--vhost-user", service.path("rng"), "--device", "entropy"])
    _ = try service.ask("help")
    let other = try ServiceProcess()
    let words = ["--vhost-user", other.path("rng"), "--device", "entropy"]
    let third = try ServiceProcess()
    try third.startRaw(words + ["--control", service.control])
    #expect(third.wait() == 2)
    #expect(third.log.contains("by pid \(service.process.processIdentifier) (ivshmem-backend)"))
    let fourth = try ServiceProcess()
    try fourth.startRaw(words + ["--control", "\(fourth.control),group=\(group)"])
    _ = try fourth.ask("help")
    var facts = stat()
    #expect(unsafe stat(fourth.control, &facts) == 0)
    #expect(facts.st_mode & 0o777 == 0o660)
    #expect(facts.st_gid == group)
    #expect(try fourth.stop() == 0)
    let fifth = try ServiceProcess()
    try fifth.startRaw(words + ["--control", "\(fifth.control),group=no-such-group-here"])
    #expect(fifth.wait() == 2)
    #expect(fifth.log.contains("there is no group 'no-such-group-here'"))
  }
}
