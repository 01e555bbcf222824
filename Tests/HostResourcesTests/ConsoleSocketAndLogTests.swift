import CLinux
import Foundation
import HostResources
import LinuxSupport
import Testing
import VirtioConsole

@Suite struct ConsoleSocketTests {
  let scratch = Scratch()
  var path: String { scratch.folder.appendingPathComponent("socket").path }

  @Test func oneClientAtATimeTheNextOneWaits() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
    #expect(rig.write([1]) == .gone)
    var first: Outside? = try Outside.client(path)
    #expect(rig.waits { $0.isOpen(port: 0) } == true)
    let second = try Outside.client(path)
    #expect(second.write("second"))
    #expect(first?.write("first") == true)
    #expect(rig.read(5) == Array("first".utf8))
    #expect(rig.write([65, 66]) == .taken(2))
    #expect(first?.read(2) == [65, 66])
    #expect(second.readNow() == [])
    first = nil
    #expect(rig.read(6) == Array("second".utf8))
    #expect(rig.write([67]) == .taken(1))
    #expect(second.read(1) == [67])
  }

  @Test func everyoneOfMany() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
    for number in 0..<200 {
      let text = "client \(number)\n"
      let client = try Outside.client(path)
      #expect(client.write(text))
      #expect(rig.read(text.utf8.count) == Array(text.utf8))
    }
  }

  @Test func aClientThatSendsNoMoreStillHears() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
    var client: Outside? = try Outside.client(path)
    #expect(client?.write("question") == true)
    if let client { shutdown(client.number, Int32(SHUT_WR)) }
    #expect(rig.read(8) == Array("question".utf8))
    // The end is seen here; it waited behind the question.
    #expect(rig.readNow() == [])
    #expect(rig.write([1, 2]) == .taken(2))
    #expect(client?.read(2) == [1, 2])
    client = nil
    #expect(rig.waits { !$0.isOpen(port: 0) } == true)
  }

  @Test func aClientThatDoesNotReadBlocksNobody() throws {
    var rig = try ConsoleRig(
      ConsolePortOptions(end: .socket(path: path)),
      ConsolePortOptions(end: .socket(path: path + "2")))
    let deaf = try Outside.client(path)
    let other = try Outside.client(path + "2")
    #expect(rig.waits { $0.isOpen(port: 0) && $0.isOpen(port: 1) } == true)
    let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 13 >> 4) }
    let first = rig.writeUntilFull(bytes)
    #expect(first > 0 && first < bytes.count)
    #expect(rig.write([7], port: 1) == .taken(1))
    #expect(other.read(1) == [7])
    #expect(deaf.write("typed"))
    #expect(rig.read(5) == Array("typed".utf8))
    var got: [UInt8] = []
    #expect(rig.writeAll(bytes, from: first) { got += deaf.readNow() } == true)
    got += deaf.readNow()
    let isWhole = got == bytes
    #expect(isWhole)
  }

  @Test func aSocketInUseIsLeftAloneAndADeadOneIsReplaced() throws {
    do {
      let rig = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
      #expect(throws: ConsoleHostError.socketInUse(path: path)) {
        _ = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
      }
      _ = rig.host.path(port: 0)
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    // What a killed one leaves: a socket's file that nobody listens on.
    cl_close(Int32(try SystemError.check(unsafe cl_listen_stream(path))))
    #expect(FileManager.default.fileExists(atPath: path))
    var rig = try ConsoleRig(ConsolePortOptions(end: .socket(path: path)))
    let client = try Outside.client(path)
    #expect(client.write("x"))
    #expect(rig.read(1) == [120])
  }
}

@Suite(.serialized) struct ConsoleLogTests {
  let scratch = Scratch()
  var path: String { scratch.folder.appendingPathComponent("log").path }

  private func text(_ path: String) -> String {
    (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
  }

  /// Looks again until `condition` holds, at most a minute.
  private func holds(_ condition: () -> Bool) -> Bool {
    for _ in 0..<12_000 {
      if condition() { return true }
      var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, 5_000_000)
    }
    return false
  }

  @Test func aLogIsAppendedToAndWholeAtTheEnd() throws {
    try Data("before\n".utf8).write(to: URL(fileURLWithPath: path))
    let line = Array("a line of the guest\n".utf8)
    do {
      var rig = try ConsoleRig(ConsolePortOptions(end: .log(path: path)))
      #expect(rig.host.isOpen(port: 0) == true)
      #expect(rig.read(0) == [])
      for _ in 0..<20_000 {
        var start = 0
        // The buffer is bounded: a fast writer is held back, and goes on when it is told.
        #expect(
          rig.waits { host in
            guard case .taken(let count) = host.write(port: 0, line.span.extracting(start...))
            else { return false }
            start += count
            return start == line.count
          } == true)
      }
    }
    let all = "before\n" + String(repeating: "a line of the guest\n", count: 20_000)
    let isWhole = text(path) == all
    #expect(isWhole)
  }

  @Test func aFullDiskIsSaidOnceAndCountedAndSIGHUPOpensTheFileAnew() throws {
    // Every write to /dev/full fails as on a full disk.
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "/dev/full")
    var rig = try ConsoleRig(ConsolePortOptions(end: .log(path: path)))
    for round in 1...5 {
      #expect(rig.write([1, 2, 3]) == .taken(3))
      #expect(holds { rig.host.lostCount == UInt64(3 * round) })
    }
    #expect(rig.log.all == ["console log \(path): No space left on device; output is lost"])
    try FileManager.default.removeItem(atPath: path)
    kill(getpid(), SIGHUP)
    #expect(holds { FileManager.default.fileExists(atPath: path) })
    #expect(rig.write(Array("again".utf8)) == .taken(5))
    #expect(holds { text(path) == "again" })
    #expect(
      rig.log.all.dropFirst() == [
        "console port 0: log \(path) opened again",
        "console log \(path): written again; 15 bytes were lost so far",
      ])
  }

  @Test func aFileThatCannotBeOpenedAgainIsKept() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .log(path: path)))
    let moved = path + ".1"
    try FileManager.default.moveItem(atPath: path, toPath: moved)
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
    kill(getpid(), SIGHUP)
    #expect(holds { !rig.log.all.isEmpty })
    #expect(rig.log.all == ["console log \(path): Is a directory; the file before it is kept"])
    #expect(rig.write(Array("kept".utf8)) == .taken(4))
    #expect(holds { text(moved) == "kept" })
  }

  @Test func whatCannotBeALogIsSaid() throws {
    let fifo = scratch.folder.appendingPathComponent("fifo").path
    #expect(unsafe mkfifo(fifo, 0o600) == 0)
    // Nobody reads it: waiting for somebody is not an option.
    #expect(throws: ConsoleHostError.system(what: "log \(fifo)", SystemError(6))) {
      _ = try ConsoleRig(ConsolePortOptions(end: .log(path: fifo)))
    }
  }
}
