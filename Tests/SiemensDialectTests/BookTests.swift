import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioDevice

@testable import SiemensDialect

/// A back-end that is killed while somebody keeps its descriptor and its book: the next one goes
/// on and the guest does not notice.
@Suite struct BookTests {
  /// Kills the back-end and puts another one in its place.
  static func replace(_ rig: SiemensRig) throws -> Bool {
    rig.kill()
    var next = try rig.makeBackend()
    let hasResumed = next.resume()
    if !hasResumed { next.start() }
    rig.backend = consume next
    return hasResumed
  }

  @Test(arguments: 0..<150) func aBackEndMayBeReplacedAnywhere(step: Int) throws {
    let rig = try SiemensRig(
      seed: UInt64(step) + 11, vectors: 1 + step % 2, queues: 1 + step / 2 % 2, keepsBook: true)
    try rig.startBackend()
    rig.medium.isDeferring = step % 3 != 0
    rig.pace = 1 + UInt64(step % 3)
    var accesses = 0
    var kills = 0
    var replacements = 0
    var failures = 0
    let turn = rig.driver.interleave
    rig.driver.interleave = {
      accesses += 1
      if accesses == 1 + step {
        kills += 1
        rig.kill()
      }
      // Nobody serves for a while.
      if rig.backend == nil, accesses >= 1 + step + step % 5 {
        replacements += 1
        do { if try !Self.replace(rig) { failures += 1 } } catch { failures += 1 }
      }
      turn()
    }
    try rig.driver.probe()
    for sector: UInt64 in 0..<2 {
      #expect(rig.driver.writeSector(sector, UInt8(sector + 1), tag: 1))
    }
    if rig.backend == nil {
      replacements += 1
      #expect(try Self.replace(rig))
    }
    #expect(rig.run(until: 2))
    for sector: UInt64 in 0..<2 { #expect(rig.driver.read(sector: sector, tag: 2)) }
    if rig.backend == nil {
      replacements += 1
      #expect(try Self.replace(rig))
    }
    #expect(rig.run(until: 4))
    rig.driver.interleave = turn
    #expect(failures == 0)
    #expect(kills == 1 && replacements == 1)
    #expect(rig.driver.complaints == 0)
    #expect(rig.driver.rings[0].strange == 0)
    for request in rig.driver.rings[0].finished where request.tag == 2 {
      #expect(request.result.last == 0)
      #expect(request.result[0] == 1 || request.result[0] == 2)
    }
    #expect(rig.medium.bytes[0] == 1)
    #expect(rig.medium.bytes[512] == 2)
  }

  @Test func requestsInFlightAreDoneAgainInOrder() throws {
    let rig = try SiemensRig(keepsBook: true)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    rig.medium.isDeferring = true
    for value: UInt8 in [1, 2] { #expect(rig.driver.writeSector(0, value)) }
    rig.settle()
    #expect(rig.medium.waiting.count == 2)
    #expect(try Self.replace(rig))
    rig.settle()
    #expect(rig.counters.resumed == 2)
    #expect(rig.medium.waiting.count == 2)
    #expect(rig.run(until: 2))
    #expect(rig.medium.bytes[0] == 2)
    // Nothing is done a third time.
    #expect(try Self.replace(rig))
    rig.settle()
    #expect(rig.counters.resumed == 0)
    #expect(rig.driver.rings[0].strange == 0)
  }

  /// Dead between two stores of the same step: what the ring shows and what the book says differ.
  @Test func aBatchThatTheDriverHasSeenIsNotInFlight() throws {
    let rig = try SiemensRig(keepsBook: true)
    try rig.startBackend()
    let book = try #require(SiemensBook(region: rig.bookMemory, queues: 1, size: 8))
    func heads(_ usedIndex: UInt16) -> [UInt16] {
      let base = UnsafeMutableRawPointer.allocate(byteCount: 4096, alignment: 64)
      defer { unsafe base.deallocate() }
      var arena = unsafe PrivateArena(unsafeBase: base, count: 4096)
      guard let table = arena.table(of: 8, initial: UInt16(0)) else { return [] }
      let count = book.recover(queue: 0, usedIndex: usedIndex, size: 8, into: table)
      return (0..<Int(count)).map { table[$0] }
    }
    book.clear(queue: 0)
    for (order, head) in ([5, 2, 7, 1] as [UInt16]).enumerated() {
      book.began(head, queue: 0, order: UInt64(order))
    }
    // Two were returned; the driver was not shown them: they are done again, in order.
    book.ended(2, queue: 0)
    book.ended(7, queue: 0)
    #expect(heads(0) == [5, 2, 7, 1])
    // The driver was shown both.
    #expect(heads(2) == [5, 1])
    // The next batch is one chain, and a used index that makes no sense takes no more than there is.
    book.ended(5, queue: 0)
    #expect(heads(3) == [1])
    #expect(heads(900) == [1])
  }

  @Test func aBackEndThatDiesWhileItServesAChain() throws {
    let rig = try SiemensRig(keepsBook: true)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    rig.pace = 0
    let region = rig.link.region
    var memory: [UInt64] = []
    var book: [UInt64] = []
    let bookSize = rig.with { $0.bookByteCount } & ~7
    rig.medium.onSubmit = {
      memory = stride(from: 0, to: region.count, by: 8).map { region.load64($0) }
      book = stride(from: 0, to: bookSize, by: 8).map { rig.bookMemory.load64($0) }
    }
    #expect(rig.driver.writeSector(3, 9))
    #expect(rig.driver.writeSector(4, 9))
    rig.settle()
    rig.medium.onSubmit = {}
    rig.kill()
    for (index, word) in memory.enumerated() { region.store64(word, at: 8 * index) }
    for (index, word) in book.enumerated() { rig.bookMemory.store64(word, at: 8 * index) }
    rig.link.delivered = [[], []]
    #expect(try Self.replace(rig))
    #expect(rig.run(until: 2))
    // The first was returned but not shown, the second not returned: both were done again.
    #expect(rig.counters.resumed == 2)
    #expect(rig.driver.rings[0].strange == 0)
  }

  @Test func aGuestThatRestartedMeanwhileIsServedAnew() throws {
    let rig = try SiemensRig(keepsBook: true)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    rig.medium.isDeferring = true
    #expect(rig.driver.read(sector: 1))
    rig.settle()
    rig.kill()
    rig.link.bury(PeerID(1))
    try rig.driver.attach()
    try rig.driver.write(0x44, 0, 4)
    #expect(try Self.replace(rig))
    rig.settle()
    // The reset came first: nothing of the earlier life was taken again.
    #expect(rig.counters.resumed == 0)
    #expect(rig.medium.waiting.isEmpty)
    rig.medium.isDeferring = false
    _ = try rig.driver.negotiate()
    try rig.driver.findQueues()
    try rig.driver.addStatus(4)
    #expect(rig.driver.read(sector: 1))
    #expect(rig.run(until: 1))
  }

  @Test func aBookOfAnotherLinkIsNotTakenOver() throws {
    let rig = try SiemensRig(keepsBook: true)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    for offset in [0x00, 0x08, 0x0c, 0x10, 0x14, 0x18, 0x1c, 0x20, 0x24] {
      let kept = rig.bookMemory.load32(offset)
      rig.bookMemory.store32(kept ^ 0x100, at: offset)
      rig.kill()
      var next = try rig.makeBackend()
      let hasResumed = next.resume()
      #expect(!hasResumed, "\(offset)")
      rig.bookMemory.store32(kept, at: offset)
    }
    // State 0 in between means that the descriptor was closed.
    rig.link.bury(PeerID(0))
    var next = try rig.makeBackend()
    let hasResumed = next.resume()
    #expect(!hasResumed)
  }

  @Test func garbageInTheBookIsSurvived() throws {
    var dice = ScheduledDice(seed: 99)
    for _ in 0..<400 {
      let rig = try SiemensRig(keepsBook: true)
      try rig.startBackend()
      try rig.driver.probe()
      rig.medium.isDeferring = true
      _ = rig.driver.read(sector: 1)
      rig.settle()
      let size = rig.with { $0.bookByteCount }
      for _ in 0..<1 + dice.next() % 6 {
        let offset = 0x24 + Int(dice.next() % UInt64(size - 0x28)) & ~3
        rig.bookMemory.store32(
          UInt32(truncatingIfNeeded: dice.next() >> dice.next() % 24), at: offset)
      }
      _ = try Self.replace(rig)
      for _ in 0..<20 { rig.step() }
      for _ in 0..<4 { rig.medium.finishOne() }
      rig.settle()
      // Whatever was believed, a new life works.
      rig.link.bury(PeerID(1))
      rig.medium.isDeferring = false
      rig.medium.waiting = []
      rig.settle()
      if rig.with({ $0.isQuiet }) {
        try rig.driver.probe()
        #expect(rig.driver.read(sector: 1))
        #expect(rig.run(until: 1))
      }
    }
  }
}
