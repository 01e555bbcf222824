import SharedMemory
import Testing
import Virtqueue

/// The device side against an oracle that knows nothing but the text of VIRTIO 1.4, 2.7.5: every
/// table of two interesting descriptors, in rings of 1, 2 and 4, direct and indirect.
@Suite struct OracleTests {
  // The numbers of the specification, stated again on purpose.
  static let next: UInt16 = 1
  static let write: UInt16 = 2
  static let indirect: UInt16 = 4
  static let available = Rig.ringBase + 0x4000
  static let innerTable = 0xb000

  struct Entry { let address: UInt64, count: UInt32, flags: UInt16, next: UInt16 }

  enum Verdict: Equatable {
    case accepted(readable: [UInt32], writable: [UInt32])
    case refused
  }

  /// What the specification says about the chain that starts at `head`, with `limit` descriptors
  /// at most.
  static func judge(
    _ table: [Entry], head: Int, inner: [Entry], mayBeIndirect: Bool, limit: Int
  ) -> Verdict {
    guard head < table.count else { return .refused }
    var readable: [UInt32] = []
    var writable: [UInt32] = []
    var current = table
    var at = head
    var isInside = false
    while true {
      guard at < current.count else { return .refused }
      let entry = current[at]
      if entry.flags & indirect != 0 {
        guard mayBeIndirect, !isInside, entry.flags & next == 0, entry.count > 0,
          entry.count % 16 == 0, isAllowed(entry)
        else { return .refused }
        isInside = true
        current = Array(inner.prefix(Int(entry.count) / 16))
        at = 0
        continue
      }
      guard readable.count + writable.count < limit else { return .refused }
      guard isAllowed(entry) || entry.count == 0 else { return .refused }
      if entry.flags & write != 0 {
        writable.append(entry.count)
      } else {
        guard writable.isEmpty else { return .refused }
        readable.append(entry.count)
      }
      guard entry.flags & next != 0 else { break }
      at = Int(entry.next)
    }
    let total = (readable + writable).reduce(UInt64(0)) { $0 + UInt64($1) }
    guard total > 0, total < 1 << 32 else { return .refused }
    return .accepted(readable: readable, writable: writable)
  }

  static func isAllowed(_ entry: Entry) -> Bool {
    let window = UInt64(Rig.ringBase)..<UInt64(Rig.total - 0x1000)
    return entry.address >= window.lowerBound
      && entry.address + UInt64(entry.count) <= window.upperBound
  }

  static func store(_ entry: Entry, _ index: Int, at table: Int, in region: SharedRegion) {
    region.store64(entry.address, at: table + 16 * index)
    region.store32(entry.count, at: table + 16 * index + 8)
    region.store16(entry.flags, at: table + 16 * index + 12)
    region.store16(entry.next, at: table + 16 * index + 14)
  }

  /// Every flag combination, next inside, at the edge and outside, no byte and some bytes, a good
  /// address and a bad one.
  static func variants(size: Int) -> [Entry] {
    var found: [Entry] = []
    for flags: UInt16 in 0...7 {
      for next in Set([0, size - 1, size]) {
        for count: UInt32 in [0, 16] {
          for address: UInt64 in [UInt64(innerTable), 0x10] {
            found.append(
              Entry(address: address, count: count, flags: flags, next: UInt16(next)))
          }
        }
      }
    }
    return found
  }

  static func observe(
    _ rig: inout Rig, limit: Int, head: UInt16
  ) throws -> Verdict {
    rig.arena.reuse()
    rig.region.store16(head, at: available + 4)
    rig.region.store16(1, at: available + 2)
    var queue = try rig.device()
    var segments = rig.segments(limit)
    do throws(QueueError) {
      guard let chain = try queue.takeChain(into: &segments) else { return .refused }
      queue.complete(chain, written: 0)
    } catch {
      return queue.isPoisoned && segments.readableCount + segments.writableCount == 0
        ? .refused : .accepted(readable: [], writable: [])
    }
    var readable: [UInt32] = []
    var writable: [UInt32] = []
    for index in 0..<segments.readableCount {
      readable.append(UInt32(segments.readable(index).count))
    }
    for index in 0..<segments.writableCount {
      writable.append(UInt32(segments.writable(index).count))
    }
    return .accepted(readable: readable, writable: writable)
  }

  @Test(arguments: [1, 2, 4], [QueueFeatures(), .indirectDescriptors])
  func everySmallTableIsJudgedAsByTheSpecification(size: Int, features: QueueFeatures) throws {
    let limit = 3
    let plain = Entry(address: 0x10000, count: 5, flags: 0, next: 0)
    let inner = [
      Entry(address: 0x10000, count: 7, flags: Self.write, next: 0), plain,
    ]
    var rig = Rig(size: UInt32(size), features: features, chain: limit)
    for (index, entry) in inner.enumerated() {
      Self.store(entry, index, at: Self.innerTable, in: rig.region)
    }
    let variants = Self.variants(size: size)
    var table = [Entry](repeating: plain, count: size)
    for index in 0..<size { Self.store(plain, index, at: Rig.ringBase, in: rig.region) }
    var disagreements = 0
    var accepted = 0
    for first in variants {
      table[0] = first
      Self.store(first, 0, at: Rig.ringBase, in: rig.region)
      for last in size == 1 ? [first] : variants {
        table[size - 1] = last
        Self.store(last, size - 1, at: Rig.ringBase, in: rig.region)
        let expected = Self.judge(
          table, head: 0, inner: inner,
          mayBeIndirect: features.contains(.indirectDescriptors), limit: limit)
        let seen = try Self.observe(&rig, limit: limit, head: 0)
        if seen != expected { disagreements += 1 }
        if expected != .refused { accepted += 1 }
      }
    }
    #expect(disagreements == 0)
    #expect(accepted > 0)
    let whole = rig.guardsAreWhole
    #expect(whole)
  }

  /// The same for what stands inside an indirect table, behind one direct descriptor.
  @Test func everySmallIndirectTableIsJudgedAsByTheSpecification() throws {
    let limit = 4
    var rig = Rig(size: 2, features: .indirectDescriptors, chain: limit)
    let table = [
      Entry(address: 0x10000, count: 3, flags: Self.next, next: 1),
      Entry(address: UInt64(Self.innerTable), count: 32, flags: Self.indirect, next: 0),
    ]
    for (index, entry) in table.enumerated() {
      Self.store(entry, index, at: Rig.ringBase, in: rig.region)
    }
    let variants = Self.variants(size: 2)
    var disagreements = 0
    for first in variants {
      Self.store(first, 0, at: Self.innerTable, in: rig.region)
      for last in variants {
        Self.store(last, 1, at: Self.innerTable, in: rig.region)
        let expected = Self.judge(
          table, head: 0, inner: [first, last], mayBeIndirect: true, limit: limit)
        let seen = try Self.observe(&rig, limit: limit, head: 0)
        if seen != expected { disagreements += 1 }
      }
    }
    #expect(disagreements == 0)
  }

  @Test(arguments: [1, 2, 4])
  func everyHeadIsJudged(size: Int) throws {
    var rig = Rig(size: UInt32(size), features: QueueFeatures())
    let plain = Entry(address: 0x10000, count: 5, flags: 0, next: 0)
    for index in 0..<size { Self.store(plain, index, at: Rig.ringBase, in: rig.region) }
    for head: UInt16 in 0...9 {
      let seen = try Self.observe(&rig, limit: 4, head: head)
      #expect((seen == .refused) == (Int(head) >= size))
    }
  }

  /// 4 GiB and more in one chain, by naming the same bytes often (2.7.5.2).
  @Test func aChainOfFourGigabytesIsRefused() throws {
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 17, alignment: 64)
    defer { unsafe base.deallocate() }
    // A region that claims more than it has: nothing is touched behind the rings.
    let total = (1 << 32) + (1 << 17)
    let region = unsafe SharedRegion(unsafeBase: base, count: total)
    var books = Rig(size: 8, features: QueueFeatures())
    let access = try #require(AccessMap(region: region, readable: 0..<total, writable: 0..<total))
    let size = try #require(QueueSize(2))
    let configuration = QueueConfiguration(
      size: size, descriptorTable: 0, availableRing: 0x1000, usedRing: 0x2000)
    for (extra, isAccepted) in [(UInt32(0), true), (1, false), (2, false)] {
      books.arena.reuse()
      let first = Entry(address: 0, count: .max, flags: Self.next, next: 1)
      Self.store(first, 0, at: 0, in: region)
      Self.store(Entry(address: 0, count: extra, flags: 0, next: 0), 1, at: 0, in: region)
      region.store16(0, at: 0x1004)
      region.store16(1, at: 0x1002)
      var queue = try DeviceQueue(configuration, in: region, access: access, arena: &books.arena)
      var segments = books.segments()
      var seen = true
      do throws(QueueError) {
        if let chain = try queue.takeChain(into: &segments) { queue.complete(chain, written: 0) }
      } catch {
        seen = false
        #expect(error == .chainByteCount(UInt64(UInt32.max) + UInt64(extra)))
      }
      #expect(seen == isAccepted)
    }
  }
}
