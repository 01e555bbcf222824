import CLinux
import CommandOptions
import Foundation
import FrontendCommands
import Glibc
import LinuxSupport
import Testing
import ToolSupport
import VirtioBlock

@testable import LinuxRuntime

/// `ivshmem-backend` as a service: the manager's messages, reload, logs, who holds what.
@Suite struct ServiceTests {
  static let policies = ["single", "per-link"]

  // MARK: The service manager

  @Test(arguments: policies, [false, true])
  func theManagerIsTold(threads: String, isAbstract: Bool) throws {
    let service = try ServiceProcess()
    let name =
      isAbstract ? "@cellmate-\(UInt64.random(in: 0...UInt64.max))" : service.path("notify")
    let manager = try FakeManager(name)
    let configuration = try service.write(
      "board.conf", "vhost-user = \(service.path("rng"))\ndevice = entropy\n")
    try service.start(
      ["--config", configuration, "--threads", threads],
      ["NOTIFY_SOCKET": name, "WATCHDOG_USEC": "100000"])
    #expect(manager.next() == "READY=1")
    #expect(manager.next() == "STATUS=serving 1 link(s), 1 device(s)")
    for _ in 0..<3 { #expect(manager.take("WATCHDOG=1") != nil) }
    let before = cl_monotonic_ns() / 1000
    kill(service.process.processIdentifier, SIGHUP)
    #expect(manager.take("RELOADING=1") != nil)
    let time = manager.next() ?? ""
    #expect(time.hasPrefix("MONOTONIC_USEC="))
    let stamp = UInt64(time.dropFirst("MONOTONIC_USEC=".count)) ?? 0
    #expect(stamp >= before && stamp <= cl_monotonic_ns() / 1000)
    #expect(manager.take("READY=1") != nil)
    kill(service.process.processIdentifier, SIGTERM)
    #expect(manager.take("STOPPING=1") != nil)
    #expect(service.wait() == 0)
  }

  /// The watchdog of another process is none of ours.
  @Test func aWatchdogForSomebodyElseIsLeftAlone() throws {
    let service = try ServiceProcess()
    let manager = try FakeManager(service.path("notify"))
    try service.start(
      ["--vhost-user", service.path("rng"), "--device", "entropy"],
      [
        "NOTIFY_SOCKET": service.path("notify"), "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1",
      ])
    #expect(manager.take("READY=1") != nil)
    _ = try service.ask("status")
    #expect(try service.stop() == 0)
    while let line = manager.next() {
      #expect(line != "WATCHDOG=1")
      if line.hasPrefix("STOPPING") { break }
    }
  }

  /// The loop of a link hangs, here in a log line that nobody takes: no sign of life until it goes
  /// on, although the thread of the service is well.
  @Test func theWatchdogStopsWhenALoopHangs() throws {
    let service = try ServiceProcess()
    let manager = try FakeManager(service.path("notify"))
    let pipe = Pipe()
    let input = pipe.fileHandleForReading.fileDescriptor
    // F_SETPIPE_SZ: a pipe of one page.
    _ = fcntl(pipe.fileHandleForWriting.fileDescriptor, 1031, 4096)
    try service.start(
      ["--vhost-user", service.path("rng"), "--device", "entropy"],
      ["NOTIFY_SOCKET": service.path("notify"), "WATCHDOG_USEC": "100000"], pipe: pipe)
    #expect(manager.take("WATCHDOG=1") != nil)
    // Each front-end that comes and goes is two lines of the log.
    let end = cl_monotonic_ns() + 60_000_000_000
    let silence = "STATUS=vhost-user \(service.path("rng")) does not answer"
    var said: String?
    while said != silence, cl_monotonic_ns() < end {
      let result = unsafe cl_connect_stream(service.path("rng"))
      if result >= 0 { close(Int32(result)) }
      said = manager.next(within: 1_000_000)
    }
    #expect(said == silence)
    #expect(manager.next(within: 300_000_000) == nil)
    // The service still answers, and says which link is silent.
    #expect(try service.links().values.first?["state"] as? String == "silent")
    let silent = try service.metrics()["cellmate_link_answering"]
    #expect(silent?.first?.hasSuffix(" 0") == true)
    let drain = Thread {
      var buffer = [UInt8](repeating: 0, count: 65536)
      while unsafe read(input, &buffer, buffer.count) > 0 {}
    }
    drain.start()
    #expect(manager.take("WATCHDOG=1") != nil)
    #expect(try service.stop() == 0)
    withExtendedLifetime(pipe) {}
  }

  // MARK: Reload

  @Test(arguments: policies) func aReloadLeavesUnchangedLinksAlone(threads: String) throws {
    let server = try RunningServer()
    let service = try ServiceProcess()
    let kept = "link = sim:\(server.path)\ndevice = block,file=\(try service.image("a.img"))\n"
    let extra = "vhost-user = \(service.path("b"))\ndevice = entropy\n"
    let path = try service.write("board.conf", kept)
    try service.start(["--config", path, "--threads", threads])
    _ = try service.ask("help")
    var client = try BlockClient(
      link: try LinkSpecification("sim:\(server.path)"), slot: 0, depth: 4, chunk: 16384,
      patience: 60_000_000_000
    ) { _ in }
    var copy = [UInt8](repeating: 1, count: 1 << 20)
    var answers: [String] = []
    // Requests are in flight while the configuration is read again.
    try DiskTests.read(&client, &copy) { offset in
      guard offset % (1 << 18) == 0 else { return }
      _ = try? service.write("board.conf", answers.count % 2 == 0 ? kept + extra : kept)
      let answer = try? service.ask("reload")
      answers.append("\(answer?["kept"] ?? "")\(answer?["started"] ?? "")")
      answers[answers.count - 1] += "\(answer?["stopped"] ?? "")"
    }
    #expect(answers == ["110", "101", "110", "101"])
    #expect(copy.allSatisfy { $0 == 0 })
    #expect(client.takeReport().recoveries == 0)
    let link = try service.links()["link \(server.path)"]
    #expect(link?["state"] as? String == "up")
    #expect(link?["pairings"] as? Int == 1)
    #expect(!FileManager.default.fileExists(atPath: service.path("b")))
    client.leave()
    #expect(try service.stop() == 0)
  }

  @Test(arguments: policies) func aWrongConfigurationIsRefusedAsAWhole(threads: String) throws {
    let service = try ServiceProcess()
    let old = "vhost-user = \(service.path("a"))\ndevice = entropy\n"
    let path = try service.write("board.conf", old)
    try service.start(["--config", path, "--threads", threads])
    _ = try service.ask("help")
    let image = try service.image("c.img")
    let good = "vhost-user = \(service.path("b"))\ndevice = block,file=\(image)\n"
    for (text, reason) in [
      (good + "vhost-user = \(service.path("c"))\ndevice = block,file=/none\n", "/none: No such"),
      (good + "device = tea\n", "unknown device 'tea'"),
      (good + "brew = 1\n", "board.conf:3: key 'brew'"),
      (good + "vhost-user = \(service.path("c"))\n", "has no device"),
      (good + good, "is given twice"), ("", "no link"),
      (old + good + "wait = poll\n", "only with a restart"),
      ("vhost-user = \(service.path("a"))\ndevice = block,file=/none\n", "/none: No such"),
    ] {
      _ = try service.write("board.conf", text)
      let answer = try service.ask("reload")
      #expect(answer["ok"] as? Bool == false)
      #expect((answer["error"] as? String ?? "").contains(reason), "\(answer)")
      #expect(try service.links().keys.sorted() == ["vhost-user \(service.path("a"))"])
      #expect(!FileManager.default.fileExists(atPath: service.path("b")))
    }
    let status = try service.ask("status")
    #expect(status["refusedReloads"] as? Int == 8)
    #expect((status["lastReload"] as? String ?? "").hasPrefix("refused: "))
    #expect(try service.stop() == 0)
  }

  /// A changed link: its successor is opened when it has left; when that fails it comes back.
  @Test(arguments: policies) func aChangedLinkIsReplacedOrComesBack(threads: String) throws {
    let service = try ServiceProcess()
    let a = try service.image("a.img")
    let b = try service.image("b.img")
    let head = "vhost-user = \(service.path("disk"))\ndevice = block,file="
    let path = try service.write("board.conf", head + a + "\n")
    try service.start(["--config", path, "--threads", threads])
    _ = try service.ask("help")
    _ = try service.write("board.conf", head + a + ",queues=2\n")
    #expect(try service.ask("reload")["started"] as? Int == 1)
    let holder = try Descriptor(unsafe cl_open(b, 2, 0))
    var other: Int32 = 0
    #expect(unsafe cl_lock(holder.number, 1, &other) == 0)
    _ = try service.write("board.conf", head + b + "\n")
    let answer = try service.ask("reload")
    #expect(answer["ok"] as? Bool == false)
    #expect((answer["error"] as? String ?? "").contains("in use by pid \(getpid()) ("))
    #expect(
      try service.links()["vhost-user \(service.path("disk"))"]?["state"] as? String == "waiting")
    #expect(FileManager.default.fileExists(atPath: service.path("disk")))
    #expect(try service.stop() == 0)
  }

  /// Nothing is left of links that went: threads, descriptors, memory.
  @Test(arguments: policies) func reloadsLeaveNothingBehind(threads: String) throws {
    let service = try ServiceProcess()
    let kept = "vhost-user = \(service.path("a"))\ndevice = entropy\n"
    let disk = try service.image("b.img")
    let more = "vhost-user = \(service.path("b"))\ndevice = block,file=\(disk)\n"
    let path = try service.write("board.conf", kept)
    // One heap for all threads: a second one, made when two threads meet, is 64 MiB of addresses.
    try service.start(
      ["--config", path, "--threads", threads], ["MALLOC_ARENA_MAX": "1"])
    _ = try service.ask("help")
    func cycle() throws {
      for text in [kept + more, kept] {
        _ = try service.write("board.conf", text)
        #expect(try service.ask("reload")["ok"] as? Bool == true)
      }
    }
    for _ in 0..<5 { try cycle() }
    let before = try service.census()
    let space = try service.addressSpace()
    for _ in 0..<30 { try cycle() }
    // The connection of the last command may still be on its way out, now and before.
    let end = cl_monotonic_ns() + 60_000_000_000
    var after = try service.census()
    while after != before, after != [before[0] - 1, before[1]], cl_monotonic_ns() < end {
      after = try service.census()
    }
    #expect(after[0] <= before[0] && after[1] == before[1], "\(before) \(after)")
    // One link that stayed each time would be a hundred MiB; stacks of threads are kept by the
    // system for the next ones.
    #expect(try service.addressSpace() < space + 70 * 1024)
    #expect(try service.stop() == 0)
  }

  // MARK: Logs and holders

  @Test func logsAreJSONOnRequest() throws {
    let service = try ServiceProcess()
    try service.start([
      "--vhost-user", service.path("a\"b"), "--device", "entropy", "--log-format", "json",
    ])
    #expect(try service.stop() == 0)
    let lines = service.log.split(separator: "\n")
    #expect(lines.count >= 2)
    for line in lines {
      let object = try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any]
      #expect(
        object?.keys.sorted() == ["level", "message", "pid", "program", "subject", "time"])
      #expect(object?["subject"] as? String == "vhost-user \(service.path("a\"b"))")
      #expect(object?["level"] as? String == "info")
    }
  }

  @Test func aSecondBackendSaysWhoHoldsTheLink() throws {
    let server = try RunningServer()
    let first = try ServiceProcess()
    try first.start([
      "--link", "sim:\(server.path)", "--device", "entropy", "--vhost-user", first.path("rng"),
      "--device", "block,file=\(try first.image("disk.img"))",
    ])
    _ = try first.ask("help")
    let holder = "pid \(first.process.processIdentifier) (ivshmem-backend)"
    for words in [
      ["--link", "sim:\(server.path)", "--device", "entropy"],
      ["--vhost-user", first.path("rng"), "--device", "entropy"],
      ["--vhost-user", first.path("x"), "--device", "block,file=\(first.path("disk.img"))"],
    ] {
      let second = try ServiceProcess()
      try second.start(words)
      #expect(second.wait() == 2)
      #expect(second.log.contains(holder), "\(second.log)")
    }
    #expect(try first.stop() == 0)
  }

  @Test func optionsThatContradictAreRefused() throws {
    for (words, reason) in [
      (["--wait", "never"], "expected interrupt, poll or adaptive"),
      (["--threads", "many"], "expected single, per-link or per-device"),
      (["--device", "entropy", "--threads", "per-device"], "has 2 devices, and one thread serves"),
      (["--poll-us", "5"], "--poll-us is for --wait adaptive"),
      (["--spin", "5", "--wait", "poll"], "give those alone"),
      (["--log-format", "xml"], "expected text or json"), (["--control", ""], "expected PATH"),
    ] {
      let service = try ServiceProcess()
      try service.startRaw(
        ["--vhost-user", service.path("rng"), "--device", "entropy"] + words)
      #expect(service.wait() == 2)
      #expect(service.log.contains(reason), "\(service.log)")
    }
  }
}
