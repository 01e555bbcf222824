import CHostConsole
import CLinux
import Foundation
import HostResources
import LinuxSupport
import Testing
import VirtioConsole

@Suite struct ConsoleTerminalTests {
  let scratch = Scratch()
  var link: String { scratch.folder.appendingPathComponent("console").path }

  @Test func bytesTravelBothWaysThroughATerminal() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    #expect(rig.host.hasSize == true)
    #expect(rig.write([1, 2, 3]) == .gone)
    let person = try Outside.terminal(link)
    #expect(rig.waits { $0.isOpen(port: 0) } == true)
    #expect(person.write("hello\r"))
    // Raw: nothing is echoed, translated or kept for the end of a line.
    #expect(rig.read(6) == Array("hello\r".utf8))
    #expect(rig.write(Array("login: \n".utf8)) == .taken(8))
    #expect(person.read(8) == Array("login: \n".utf8))
  }

  @Test func comingAndGoingIsSeen() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    for _ in 0..<20 {
      var person: Outside? = try Outside.terminal(link)
      #expect(rig.waits { $0.isOpen(port: 0) } == true)
      #expect(person?.write("x") == true)
      person = nil
      #expect(rig.waits { !$0.isOpen(port: 0) } == true)
      // What was typed before is not lost.
      #expect(rig.read(1) == [120])
    }
  }

  @Test func aNewSizeIsNews() throws {
    let first = ConsoleSize(columns: 90, rows: 20)
    var rig = try ConsoleRig(ConsolePortOptions(end: .pty(link: link), size: first))
    #expect(rig.host.size(port: 0) == first)
    let person = try Outside.terminal(link)
    #expect(chc_set_terminal_size(person.number, 50 << 16 | 132) == 0)
    #expect(rig.waits { $0.size(port: 0) == ConsoleSize(columns: 132, rows: 50) } == true)
  }

  @Test func aReaderThatStopsHoldsTheWriterBackAndLosesNothing() throws {
    var rig = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    let person = try Outside.terminal(link)
    #expect(rig.waits { $0.isOpen(port: 0) } == true)
    let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 3) }
    let first = rig.writeUntilFull(bytes)
    #expect(first > 0 && first < bytes.count)
    var got: [UInt8] = []
    #expect(rig.writeAll(bytes, from: first) { got += person.readNow() } == true)
    while got.count < bytes.count {
      let more = person.read(1)
      if more.isEmpty { break }
      got += more
    }
    let isWhole = got == bytes
    #expect(isWhole)
  }

  // MARK: The link

  private var target: String? {
    try? FileManager.default.destinationOfSymbolicLink(atPath: link)
  }

  @Test func theLinkIsKeptWhileItIsOurs() throws {
    try FileManager.default.createSymbolicLink(
      atPath: link, withDestinationPath: "/dev/pts/of-a-killed-one")
    var rig: ConsoleRig? = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    #expect(target?.hasPrefix("/dev/pts/") == true)
    #expect(target != "/dev/pts/of-a-killed-one")
    #expect(throws: ConsoleHostError.linkInUse(path: link)) {
      _ = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    }
    #expect(rig?.log.all == [])
    rig = nil
    #expect(target == nil)
    rig = try ConsoleRig(ConsolePortOptions(end: .pty(link: link)))
    #expect(target != nil)
    // Somebody else's by now.
    try FileManager.default.removeItem(atPath: link)
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: "/dev/null")
    #expect(rig?.log.all == [])
    rig = nil
    #expect(target == "/dev/null")
  }

  @Test func whatIsNoLinkStays() throws {
    let file = try scratch.file("console", bytes: 3)
    #expect(throws: ConsoleHostError.linkInTheWay(path: file)) {
      _ = try ConsoleRig(ConsolePortOptions(end: .pty(link: file)))
    }
    #expect(try Data(contentsOf: URL(fileURLWithPath: file)).count == 3)
  }

  @Test func nothingStaysBehindWhenALaterPortCannotBeOpened() throws {
    let missing = scratch.folder.appendingPathComponent("missing/log").path
    #expect(throws: ConsoleHostError.system(what: "log \(missing)", SystemError(2))) {
      _ = try ConsoleRig(
        ConsolePortOptions(end: .pty(link: link)),
        ConsolePortOptions(end: .socket(path: link + ".socket")),
        ConsolePortOptions(end: .log(path: missing)))
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: scratch.folder.path).isEmpty)
  }
}
