import CLinux
import Testing

@testable import Supervision

/// What a supervisor decides, without processes.
@Suite struct SupervisionTests {
  func read(_ text: String) -> Notification { Notification(Array(text.utf8)) }

  @Test func aMessageIsReadLineByLine() {
    let all = read("READY=1\nSTATUS=serving 1 link(s)\nFDSTORE=1\nFDNAME=link=/run/a.sock\n")
    #expect(all.isReady && all.stores && !all.removes && !all.isAlive && !all.isStopping)
    #expect(all.name == "link=/run/a.sock")
    #expect(read("WATCHDOG=1").isAlive)
    #expect(read("STOPPING=1\n\n").isStopping)
    #expect(read("FDSTOREREMOVE=1\nFDNAME=x").removes)
  }

  @Test(arguments: [
    "", "\n\n", "READY", "=1", "READY=", "READY=10", "READY=1\0", "ready=1", "FDNAME=",
    "FDNAME=a:b",
    "FDNAME=a b", "FDNAME=a\u{7f}", "FDNAME=\u{e9}", "\u{0}\u{1}=\u{2}",
  ])
  func whatIsNoMessageSaysNothing(text: String) {
    #expect(read(text) == read(""))
  }

  @Test func aNameIsAtMostSoLong() {
    let limit = Notification.nameLimit
    #expect(read("FDNAME=" + String(repeating: "n", count: limit)).name?.count == limit)
    #expect(read("FDNAME=" + String(repeating: "n", count: limit + 1)).name == nil)
  }

  @Test func theStoreIsBoundedAndClosesWhatItGivesUp() throws {
    func event() -> Int32 { Int32(cl_eventfd()) }
    func isOpen(_ number: Int32) -> Bool {
      let copy = cl_duplicate(number)
      if copy >= 0 { cl_close(Int32(copy)) }
      return copy >= 0
    }
    let numbers = (0..<4).map { _ in event() }
    do {
      let kept = KeptDescriptors(limit: 3)
      #expect(kept.add("a", numbers[0]))
      #expect(kept.add("b", numbers[1]))
      #expect(kept.add("a", numbers[2]))
      #expect(!kept.add("c", numbers[3]))
      #expect(!isOpen(numbers[3]))
      #expect(kept.names == "a:b:a")
      kept.remove("a")
      #expect(kept.names == "b")
      #expect(!isOpen(numbers[0]) && isOpen(numbers[1]) && !isOpen(numbers[2]))
    }
    #expect(!isOpen(numbers[1]))
  }

  @Test func theFirstRestartsComeAtOnceAndAChainOfFailuresWaits() {
    var policy = RestartPolicy(longest: 1_000_000_000)
    let short: UInt64 = 1_000_000
    #expect((0..<5).map { _ in policy.delay(served: short) } == [0, 0, 0, 0, 0])
    let next = (0..<7).map { _ in policy.delay(served: short) / 1_000_000 }
    #expect(next == [50, 100, 200, 400, 800, 1000, 1000])
    #expect(policy.delay(served: RestartPolicy.sound) == 0)
  }

  @Test func aServiceThatIsNeverReadyWaitsFromTheFirstTime() {
    var policy = RestartPolicy(longest: 3_000_000_000)
    #expect(policy.delay(served: nil) == 50_000_000)
    for _ in 0..<100 { #expect(policy.delay(served: nil) <= 3_000_000_000) }
    #expect(policy.delay(served: nil) == 3_000_000_000)
  }

  @Test func aHandoverIsReadAsItWasWritten() throws {
    let entries: [(name: String, number: Int32)] = [("book=/a=b", 9), ("link=/a=b", 7)]
    let handover = Handover(child: 70, socket: 5, pidFile: -1, entries: entries)
    let read = try #require(Handover(handover.text))
    #expect(read.child == 70 && read.socket == 5 && read.pidFile == -1)
    #expect(read.entries.map { $0.name } == entries.map { $0.name })
    #expect(read.numbers == [5, 9, 7])
    let empty = try #require(Handover(Handover(child: 1, socket: 3, pidFile: 4, entries: []).text))
    #expect(empty.entries.isEmpty && empty.pidFile == 4)
  }

  @Test(arguments: [
    "", "1", "1 2 3 -1", "2 7 5 -1 ", "1 0 5 -1 ", "1 7 2 -1 ", "1 7 5 -1 x",
    "1 7 5 -1 1=a", "1 7 5 -1 9=a:", "1 a 5 -1 ",
  ])
  func anotherHandoverIsRefused(text: String) {
    // A colon at the end leaves nothing behind it, and is read.
    #expect((Handover(text) == nil) == (text != "1 7 5 -1 9=a:"))
  }
}
