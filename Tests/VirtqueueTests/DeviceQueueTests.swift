import SharedMemory
import Testing
import Virtqueue

/// The device side against rings written by hand, as VIRTIO 1.4, 2.7 lays them out.
@Suite struct DeviceQueueTests {
  static let available = Rig.ringBase + 0x4000
  static let used = Rig.ringBase + 0x6000

  static func describe(
    _ region: SharedRegion, _ index: Int, _ address: UInt64, _ count: UInt32, _ flags: UInt16,
    _ next: UInt16, table: Int = Rig.ringBase
  ) {
    region.store64(address, at: table + 16 * index)
    region.store32(count, at: table + 16 * index + 8)
    region.store16(flags, at: table + 16 * index + 12)
    region.store16(next, at: table + 16 * index + 14)
  }

  static func offer(_ region: SharedRegion, _ heads: [UInt16], index: UInt16) {
    for (position, head) in heads.enumerated() {
      region.store16(head, at: available + 4 + 2 * position)
    }
    region.store16(index, at: available + 2)
  }

  /// Flags and index; with EVENT_IDX the flags are 0 at any time (2.7.10.2).
  @Test(arguments: [(QueueFeatures(), UInt16(1)), (.eventIndex, 0)])
  func theUsedRingIsInitialisedOverGarbage(features: QueueFeatures, flags: UInt16) throws {
    var rig = Rig(size: 8, features: features)
    var queue = try rig.device()
    #expect(rig.region.load16(Self.used) == flags)
    #expect(rig.region.load16(Self.used + 2) == 0)
    queue.armNotifications()
    #expect(rig.region.load16(Self.used) == 0)
    queue.suppressNotifications()
    #expect(rig.region.load16(Self.used) == flags)
  }

  @Test func aChainIsCopiedAndReturned() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    Self.offer(rig.region, [5], index: 1)
    Self.describe(rig.region, 5, 0x10000, 16, 1, 2)
    Self.describe(rig.region, 2, 0x11000, 100, 2, 0)
    var queue = try rig.device()
    var segments = rig.segments()
    guard let chain = try queue.takeChain(into: &segments) else {
      Issue.record("nothing was there")
      return
    }
    #expect(chain.head == 5)
    #expect(segments.readableByteCount == 16)
    #expect(segments.writableByteCount == 100)
    #expect(segments.writable(0).offset == 0x11000)
    queue.complete(chain, written: 42)
    #expect(rig.region.load16(Self.used + 2) == 0)
    rig.region.store16(0, at: Self.available)
    let wants = queue.publish()
    #expect(wants)
    #expect(rig.region.load16(Self.used + 2) == 1)
    #expect(rig.region.load32(Self.used + 4) == 5)
    #expect(rig.region.load32(Self.used + 8) == 42)
    let again = try queue.takeChain(into: &segments) == nil
    #expect(again)
  }

  struct Fault: Sendable {
    let name: String
    let reason: UInt32
    let write: @Sendable (SharedRegion) -> Void
  }

  /// One fault each, with the reason it has to give.
  static let faults: [Fault] = [
    Fault(name: "index too far", reason: 4) { offer($0, [0], index: 9) },
    Fault(name: "head outside", reason: 5) { offer($0, [8], index: 1) },
    Fault(name: "next outside", reason: 7) {
      describe($0, 0, 0x10000, 8, 1, 8)
      offer($0, [0], index: 1)
    },
    Fault(name: "loop", reason: 8) {
      describe($0, 0, 0x10000, 8, 1, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "readable behind writable", reason: 9) {
      describe($0, 0, 0x10000, 8, 3, 1)
      describe($0, 1, 0x10000, 8, 0, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "below the window", reason: 10) {
      describe($0, 0, 0x0fff, 8, 0, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "beyond the window", reason: 10) {
      describe($0, 0, 0x1effc, 8, 2, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "wrapping address", reason: 10) {
      describe($0, 0, .max - 3, 8, 2, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "no bytes at all", reason: 11) {
      describe($0, 0, 0x10000, 0, 0, 0)
      offer($0, [0], index: 1)
    },
    Fault(name: "indirect not agreed", reason: 12) {
      describe($0, 0, 0x10000, 16, 4, 0)
      offer($0, [0], index: 1)
    },
  ]

  @Test(arguments: faults.indices)
  func everyFaultHasItsReasonAndPoisons(index: Int) throws {
    let fault = Self.faults[index]
    var rig = Rig(size: 8, features: QueueFeatures())
    fault.write(rig.region)
    var queue = try rig.device()
    var segments = rig.segments()
    for expected in [fault.reason, 1] {
      var seen: UInt32 = 0
      do throws(QueueError) {
        if let chain = try queue.takeChain(into: &segments) { queue.complete(chain, written: 0) }
      } catch { seen = error.reason }
      #expect(seen == expected, "\(fault.name)")
    }
  }

  @Test(arguments: [
    (UInt32(8), UInt16(4), UInt16(0)), (0, 4, 0), (32, 5, 1), (32, 4, 4),
  ])
  func badIndirectTablesAreRefused(count: UInt32, flags: UInt16, inner: UInt16) throws {
    var rig = Rig(size: 8, features: .indirectDescriptors)
    Self.describe(rig.region, 0, 0xb000, count, flags, 1)
    Self.describe(rig.region, 0, 0x10000, 8, inner, 0, table: 0xb000)
    Self.offer(rig.region, [0], index: 1)
    var queue = try rig.device()
    var segments = rig.segments()
    #expect(throws: QueueError.self) {
      if let chain = try queue.takeChain(into: &segments) { queue.complete(chain, written: 0) }
    }
  }

  @Test func ticketsOfADeadQueueAreRefused() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    Self.describe(rig.region, 0, 0x10000, 8, 0, 0)
    Self.offer(rig.region, [0], index: 1)
    var queue = try rig.device()
    var segments = rig.segments()
    guard let chain = try queue.takeChain(into: &segments) else { return }
    let ticket = chain.detach()
    var next = try DeviceQueue(
      rig.configuration, in: rig.region, access: rig.access, arena: &rig.arena, generation: 2)
    let isLive = next.complete(ticket, written: 0)
    #expect(!isLive)
  }

  @Test func aHeadThatIsInFlightIsRefused() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    Self.describe(rig.region, 0, 0x10000, 8, 0, 0)
    Self.offer(rig.region, [0, 0], index: 2)
    var queue = try rig.device()
    var segments = rig.segments()
    guard let chain = try queue.takeChain(into: &segments) else { return }
    _ = chain.detach()
    #expect(throws: QueueError.headInFlight(0)) {
      if let chain = try queue.takeChain(into: &segments) { _ = chain.detach() }
    }
  }

  @Test func aDroppedChainTraps() async {
    await #expect(processExitsWith: .failure) {
      var rig = Rig(size: 8, features: QueueFeatures())
      Self.describe(rig.region, 0, 0x10000, 8, 0, 0)
      Self.offer(rig.region, [0], index: 1)
      var queue = try rig.device()
      var segments = rig.segments()
      _ = try queue.takeChain(into: &segments)
    }
  }

  /// Every table of two descriptors with every flag, small lengths and every next, against an
  /// oracle that follows the text of 2.7.5 word by word.
  @Test func allSmallTablesAgreeWithAnOracle() throws {
    struct Entry { let flags: UInt16, next: UInt16, count: UInt32 }
    var entries: [Entry] = []
    for flags: UInt16 in 0...3 {
      for next: UInt16 in 0...2 {
        for count: UInt32 in [0, 1, 9] {
          entries.append(Entry(flags: flags, next: next, count: count))
        }
      }
    }
    var rig = Rig(size: 2, features: QueueFeatures(), chain: 2)
    let mark = rig.arena.used
    for first in entries {
      for second in entries {
        let table = [first, second]
        Self.describe(rig.region, 0, 0x10000, first.count, first.flags, first.next)
        Self.describe(rig.region, 1, 0x10000, second.count, second.flags, second.next)
        Self.offer(rig.region, [0], index: 1)
        _ = mark
        rig.arena.reuse()
        var queue = try rig.device()
        var segments = rig.segments()
        var expected: (readable: Int, writable: Int)? = (0, 0)
        var at = 0
        var sawWritable = false
        walk: for step in 0..<3 {
          guard step < 2, at < 2 else {
            expected = nil
            break
          }
          let entry = table[at]
          if entry.flags & 2 != 0 {
            sawWritable = true
            expected?.writable += Int(entry.count)
          } else if sawWritable {
            expected = nil
            break walk
          } else {
            expected?.readable += Int(entry.count)
          }
          guard entry.flags & 1 != 0 else { break }
          at = Int(entry.next)
        }
        if let found = expected, found.readable + found.writable == 0 { expected = nil }
        var seen: (readable: Int, writable: Int)?
        do throws(QueueError) {
          if let chain = try queue.takeChain(into: &segments) {
            seen = (segments.readableByteCount, segments.writableByteCount)
            queue.complete(chain, written: 0)
          }
        } catch { seen = nil }
        #expect(seen?.readable == expected?.readable && seen?.writable == expected?.writable)
      }
    }
  }

  /// Random bytes in the rings at any time: errors, never a trap, never a store outside.
  @Test(arguments: UInt64(1)...20)
  func garbageGivesErrorsOnly(seed: UInt64) throws {
    var dice = Dice(state: seed)
    var rig = Rig(size: 8, features: .indirectDescriptors | .eventIndex)
    var segments = rig.segments()
    var queue = try rig.device()
    var errors = 0
    for round in 0..<1_500 {
      let spots = [
        Rig.ringBase + dice.below(128), Self.available + dice.below(24),
        Self.used + dice.below(70), 0xb000 + dice.below(64),
      ]
      let value = dice.below(3) == 0 ? UInt8(truncatingIfNeeded: dice.next()) : 0
      rig.region.store8(value, at: spots[dice.below(4)])
      if dice.below(4) == 0 { Self.offer(rig.region, [], index: UInt16(round & 0xffff)) }
      do throws(QueueError) {
        while let chain = try queue.takeChain(into: &segments) {
          queue.complete(chain, written: 7)
        }
      } catch {
        errors += 1
        guard rig.guardsAreWhole else { break }
        rig.startOver()
        segments = rig.segments()
        queue = try rig.device()
      }
      _ = queue.publish()
    }
    let whole = rig.guardsAreWhole
    #expect(whole)
    #expect(errors > 0, "seed \(seed): the garbage was too tame to prove anything")
  }
}
