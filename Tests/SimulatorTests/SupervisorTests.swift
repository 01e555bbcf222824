import CLinux
import Foundation
import Glibc
import Simulator
import Testing

/// A back-end that its own supervisor looks after: what a board without systemd has.
@Suite struct SupervisorTests {
  /// A link of the Siemens dialect, a disk on it, and the supervised program.
  final class Board {
    let server: RunningServer
    let service: ServiceProcess
    let bytes: [UInt8]
    /// A copy of the program, which a test may replace.
    let program: String

    init() throws {
      server = try RunningServer {
        $0.outputSize = 0
        $0.readWriteSize = 1 << 20
        $0.virtioDevice = 2
      }
      service = try ServiceProcess()
      bytes = (0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 7) }
      try Data(bytes).write(to: URL(fileURLWithPath: service.path("disk")))
      program = service.path("ivshmem-backend")
      try install()
    }

    var link: String { "sim:\(server.path)" }
    var device: String { "block,file=\(service.path("disk"))" }
    var supervisor: Int32 { service.process.processIdentifier }

    /// Puts the program there, or something else, as an update does: under a new inode.
    func install(_ text: String? = nil) throws {
      let new = service.path("new")
      var source = try #require(DiskTests.program("ivshmem-backend")).path
      if let text {
        source = service.path("text")
        try Data(text.utf8).write(to: URL(fileURLWithPath: source))
      }
      // A process of its own writes the program: children that other tests start at the moment
      // would inherit our descriptor, and a program that somebody writes cannot be started.
      let copy = Process()
      copy.executableURL = URL(fileURLWithPath: "/bin/cp")
      copy.arguments = [source, new]
      try copy.run()
      copy.waitUntilExit()
      #expect(copy.terminationStatus == 0)
      _ = unsafe chmod(new, 0o755)
      #expect(unsafe rename(new, program) == 0)
    }

    func start(_ words: [String] = []) throws {
      try service.start(
        ["--supervise", "--restart-delay", "1", "--link", link, "--device", device] + words,
        program: program)
    }

    /// The back-end's number, when there is one.
    func child() -> Int32? {
      let path = "/proc/\(supervisor)/task/\(supervisor)/children"
      let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
      return text.split(separator: " ").first.flatMap { Int32($0) }
    }

    /// Waits until a back-end that is not `old` answers.
    func served(after old: Int32 = 0) throws -> Int32 {
      var pid: Int32 = 0
      #expect(
        try holds {
          guard let now = child(), now != old else { return false }
          let answer = Int32(try service.ask("status")["pid"] as? Int ?? 0)
          pid = answer
          return answer == now
        }, "\(service.log)")
      return pid
    }

    func reader() throws -> Program {
      try Program(
        "ivshmem",
        [
          "frontend", "block", "read", "--json", "--quiet", "--link", link, "--size", "512",
          "--depth", "4", "--file", service.path("copy"),
        ])
    }

    /// The reader has read everything, and noticed nothing.
    func check(_ reader: Program) throws {
      let end = try reader.end()
      #expect(end.status == 0, "\(end.errors) \(service.log)")
      let report = try JSONSerialization.jsonObject(with: Data(end.output.utf8)) as? [String: Any]
      #expect(report?["recoveries"] as? Int == 0)
      let copy = try Data(contentsOf: URL(fileURLWithPath: service.path("copy")))
      #expect([UInt8](copy) == bytes)
    }

    func stop() -> Int32 {
      kill(supervisor, SIGTERM)
      return service.wait()
    }
  }

  @Test func aBackEndThatIsKilledInALoopIsNotNoticed() throws {
    let board = try Board()
    try board.start()
    _ = try board.served()
    let reader = try board.reader()
    var killed = 0
    while killed < 30, reader.process.isRunning {
      // At any moment of its life, the first instructions included.
      if let child = board.child(), kill(child, SIGKILL) == 0 { killed += 1 }
      var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, Int64.random(in: 0...20_000_000))
    }
    try board.check(reader)
    #expect(killed > 3)
    let last = try board.served()
    #expect(board.stop() == 0)
    #expect(kill(last, 0) != 0)
  }

  @Test func anUpdateReplacesBothAndTheGuestDoesNotNotice() throws {
    let board = try Board()
    try board.start(["--pid-file", board.service.path("pid")])
    let first = try board.served()
    let reader = try board.reader()
    try board.install()
    kill(board.supervisor, SIGUSR1)
    let second = try board.served(after: first)
    // The supervisor is the same process with the new file.
    let new = unsafe cl_inode(board.program)
    for pid in [board.supervisor, second] {
      #expect(
        holds {
          var facts = stat()
          return unsafe stat("/proc/\(pid)/exe", &facts) == 0 && facts.st_ino == new
        })
    }
    try board.check(reader)
    // It still looks after the back-end and its file.
    kill(second, SIGKILL)
    _ = try board.served(after: second)
    #expect(
      try String(contentsOfFile: board.service.path("pid"), encoding: .utf8)
        == "\(board.supervisor)\n")
    #expect(board.stop() == 0)
    #expect(!FileManager.default.fileExists(atPath: board.service.path("pid")))
  }

  @Test func aBrokenUpdateIsTriedAgainAndTheOldSupervisorStays() throws {
    let board = try Board()
    try board.start()
    let first = try board.served()
    let reader = try board.reader()
    try board.install("this is no program")
    kill(board.supervisor, SIGUSR1)
    #expect(holds { board.service.log.contains("cannot be started") }, "\(board.service.log)")
    try board.install()
    _ = try board.served(after: first)
    try board.check(reader)
    #expect(board.stop() == 0)
  }

  /// A stop reaches a back-end that has not got as far as its handler yet: it waits there.
  @Test func aStopWhileTheBackEndIsStartedAgainIsNoFailure() throws {
    let board = try Board()
    try board.start()
    let first = try board.served()
    let program = try #require(DiskTests.program("ivshmem-backend")).path
    // Stops everything, and goes on when its own SIGTERM has come.
    try board.install(
      """
      #!/usr/bin/env python3
      import os, signal, sys
      os.kill(os.getppid(), signal.SIGTERM)
      while signal.SIGTERM not in signal.sigpending():
          pass
      os.execv("\(program)", sys.argv)
      """)
    kill(first, SIGKILL)
    #expect(board.service.wait() == 0, "\(board.service.log)")
  }

  @Test func theBackEndServesOnWithoutItsSupervisor() throws {
    let board = try Board()
    try board.start()
    let child = try board.served()
    let reader = try board.reader()
    kill(board.supervisor, SIGKILL)
    try board.check(reader)
    kill(child, SIGTERM)
    #expect(holds { kill(child, 0) != 0 })
  }

  @Test func aSecondSupervisorOfALinkDoesNoHarm() throws {
    let board = try Board()
    let file = board.service.path("pid")
    try board.start(["--pid-file", file])
    _ = try board.served()
    let reader = try board.reader()
    let common = ["--supervise", "--link", board.link, "--device", board.device]
    let second = try Program("ivshmem-backend", common).end()
    #expect(second.status == 2)
    #expect(second.errors.contains("is in use by"), "\(second.errors)")
    let third = try Program("ivshmem-backend", common + ["--pid-file", file]).end()
    #expect(third.status == 2)
    #expect(third.errors.contains("runs already"), "\(third.errors)")
    try board.check(reader)
    #expect(board.stop() == 0)
  }

  @Test func aFullTableOfDescriptorsIsToldAndServiceGoesOn() throws {
    let board = try Board()
    let other = try RunningServer {
      $0.outputSize = 0
      $0.readWriteSize = 1 << 20
      $0.virtioDevice = 4
    }
    let file = try board.service.write(
      "conf", "link = \(board.link)\ndevice = \(board.device)\n")
    try board.service.start(
      ["--supervise", "--config", file, "--restart-delay", "1"], program: board.program)
    _ = try board.served()
    // As many as it has, and not one more.
    let count = try FileManager.default.contentsOfDirectory(
      atPath: "/proc/\(board.supervisor)/fd"
    ).count
    let limiter = Process()
    limiter.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    limiter.arguments = [
      "python3", "-c",
      "import resource, sys; pid, count = map(int, sys.argv[1:]);"
        + "resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, count))",
      "\(board.supervisor)", "\(count)",
    ]
    try limiter.run()
    limiter.waitUntilExit()
    #expect(limiter.terminationStatus == 0)
    let reader = try board.reader()
    _ = try board.service.write(
      "conf",
      "link = \(board.link)\ndevice = \(board.device)\n"
        + "link = sim:\(other.path)\ndevice = entropy\n")
    kill(board.supervisor, SIGHUP)
    #expect(holds { board.service.log.contains("could not be taken") }, "\(board.service.log)")
    #expect(try holds { try board.service.links().count == 2 })
    try board.check(reader)
    #expect(board.stop() == 0)
  }

  /// What a back-end that lost its mind may send: everything at once, and for ever.
  static let hostile = #"""
    #!/usr/bin/env python3
    import array, os, random, socket
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    name = "\0" + os.environ["NOTIFY_SOCKET"][1:]
    dice = random.Random(os.getpid())
    def send(data, fds=()):
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([data], rights, 0, name)
    r, w = os.pipe()
    for n in range(200):
        send(b"FDSTORE=1\nFDNAME=n%d\n" % n, [r] * dice.randrange(1, 9))
        send(b"FDSTORE=1\n", [w, r])
        send(dice.randbytes(dice.randrange(0, 4000)), [r])
        send(b"FDSTORE=1\nFDNAME=" + b"x" * 9000 + b"\n", [r] * 200)
        send(b"FDSTORE=1\nFDNAME=gone\n")
    send(b"READY=1\nREADY=1\nWATCHDOG=1\nRELOADING=1\n")
    while True:
        send(b"WATCHDOG=1\nSTOPPING=2\nFDNAME=" + dice.randbytes(20))
    """#

  @Test func aBackEndThatLostItsMindCostsNothing() throws {
    let board = try Board()
    try board.start()
    let first = try board.served()
    let reader = try board.reader()
    try board.install(Self.hostile)
    kill(first, SIGKILL)
    #expect(holds { board.service.log.contains("is not kept") }, "\(board.service.log)")
    let folder = "/proc/\(board.supervisor)/fd"
    let count = try FileManager.default.contentsOfDirectory(atPath: folder).count
    #expect(count < 64 + 12)
    // The next good one finds what belongs to it; the rest is dropped.
    try board.install()
    #expect(
      holds {
        guard let child = board.child() else { return false }
        return kill(child, SIGKILL) == 0
      })
    _ = try board.served(after: first)
    try board.check(reader)
    #expect(board.service.log.contains("n0 was kept for a link that is not served now"))
    let after = try FileManager.default.contentsOfDirectory(atPath: folder).count
    #expect(after < 16)
    #expect(board.stop() == 0)
  }

  @Test func aBackEndThatHangsIsKilledByItsWatchdog() throws {
    let board = try Board()
    try board.start(["--watchdog", "1"])
    let first = try board.served()
    let reader = try board.reader()
    kill(first, SIGSTOP)
    _ = try board.served(after: first)
    #expect(board.service.log.contains("no sign of life"))
    try board.check(reader)
    #expect(board.stop() == 0)
  }

  @Test func whatCannotBeServedEndsWithItsStatus() throws {
    let nothing = try Program(
      "ivshmem-backend",
      ["--supervise", "--background", "--link", "sim:/nowhere/x", "--device", "entropy"])
    #expect(try nothing.end().status == 2)
    let alone = try Program("ivshmem-backend", ["--background", "--device", "entropy"]).end()
    #expect(alone.status == 2)
    #expect(alone.errors.contains("--supervise"))
    let file = try Program(
      "ivshmem-backend",
      ["--supervise", "--pid-file", "/dev/null/x", "--link", "sim:/x", "--device", "entropy"])
    #expect(try file.end().status == 2)
  }

  @Test func theBackgroundStartsWhenAllIsServed() throws {
    let board = try Board()
    let pid = board.service.path("pid")
    let program = try Program(
      "ivshmem-backend",
      [
        "--supervise", "--background", "--pid-file", pid, "--link", board.link, "--device",
        board.device, "--control", board.service.control, "--quiet",
      ])
    program.process.waitUntilExit()
    #expect(program.process.terminationStatus == 0)
    let number = try #require(
      Int32(try String(contentsOfFile: pid, encoding: .utf8).dropLast()))
    #expect(try board.service.ask("status")["ok"] as? Bool == true)
    try board.check(try board.reader())
    kill(number, SIGTERM)
    #expect(holds { !FileManager.default.fileExists(atPath: pid) })
    #expect(!FileManager.default.fileExists(atPath: board.service.control))
  }
}
