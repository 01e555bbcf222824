import SharedMemory
import Testing
import Virtqueue

/// What the driver side writes, read back by hand and compared with the rules that VIRTIO 1.4, 2.7
/// has for drivers.
@Suite struct DriverChainTests {
  // The numbers of the specification, stated again on purpose.
  static let next: UInt16 = 1
  static let write: UInt16 = 2
  static let indirect: UInt16 = 4
  static let available = Rig.ringBase + 0x4000
  static let used = Rig.ringBase + 0x6000
  static let featureSets: [QueueFeatures] = [
    QueueFeatures(), .eventIndex, .indirectDescriptors, .inOrder,
    .indirectDescriptors | .inOrder, .indirectDescriptors | .eventIndex | .inOrder,
  ]

  struct Entry: Equatable {
    let address: UInt64, count: UInt32, flags: UInt16, next: UInt16

    init(_ region: SharedRegion, _ index: Int, table: Int = Rig.ringBase) {
      let start = table + 16 * index
      address = region.load64(start)
      count = region.load32(start + 8)
      flags = region.load16(start + 12)
      next = region.load16(start + 14)
    }
  }

  /// A chain as it stands in memory: the ring's descriptors, then those of an indirect table.
  static func entries(_ region: SharedRegion, head: Int) -> [[Entry]] {
    var outer = [Entry(region, head)]
    while let last = outer.last, last.flags & next != 0, outer.count < 100 {
      outer.append(Entry(region, Int(last.next)))
    }
    guard let last = outer.last, last.flags & indirect != 0 else { return [outer] }
    var inner: [Entry] = []
    var index = 0
    repeat {
      inner.append(Entry(region, index, table: Int(last.address)))
      index = Int(inner[inner.count - 1].next)
    } while inner[inner.count - 1].flags & next != 0 && inner.count < 100
    return [outer, inner]
  }

  /// How many rules a chain breaks.
  static func faults(
    _ tables: [[Entry]], _ buffers: [BufferSegment], readable: Int, _ features: QueueFeatures,
    size: Int
  ) -> Int {
    var faults = 0
    func expect(_ holds: Bool) { faults += holds ? 0 : 1 }
    let outer = tables[0]
    if tables.count == 2 {
      expect(features.contains(.indirectDescriptors))
      expect(outer[outer.count - 1].flags == indirect)
      expect(outer[outer.count - 1].count == 16 * UInt32(tables[1].count))
      for (index, entry) in tables[1].enumerated() {
        expect(entry.flags & indirect == 0)
        expect(entry.flags & next == 0 || Int(entry.next) == index + 1)
      }
    }
    let data = tables.count == 2 ? outer.dropLast() + tables[1] : outer
    expect(data.count == buffers.count && data.count <= size)
    for (index, (entry, buffer)) in zip(data, buffers).enumerated() {
      expect(entry.address == UInt64(buffer.offset) && Int(entry.count) == buffer.count)
      expect(entry.flags & indirect == 0)
      expect((entry.flags & write != 0) == (index >= readable))
      expect((entry.flags & next != 0) == (index < data.count - 1))
    }
    return faults
  }

  @Test(arguments: featureSets)
  func everyChainIsWellFormed(features: QueueFeatures) throws {
    let size = 8
    var rig = Rig(size: UInt32(size), features: features)
    var driver = try rig.driver(indirect: features.contains(.indirectDescriptors))
    var device = try rig.device()
    var segments = rig.segments()
    var dice = Dice(state: 21)
    var faults = 0
    var indirectChains = 0
    var index: UInt16 = 0
    for _ in 0..<9_000 {
      let readable = dice.below(5)
      let count = max(1, readable + dice.below(6))
      let buffers = (0..<count).map {
        BufferSegment(offset: Rig.dataBase + 64 * $0, count: 1 + dice.below(64))
      }
      do throws(AddError) {
        try driver.add(
          readable: buffers.span.extracting(0..<min(readable, count)),
          writable: buffers.span.extracting(min(readable, count)..<count), token: 0)
      } catch {
        #expect(error == .chainLength(count, limit: size) && count > size)
        continue
      }
      _ = driver.publish()
      // The index moves by what was added, and never back.
      index &+= 1
      if rig.region.load16(Self.available + 2) != index { faults += 1 }
      let head = rig.region.load16(Self.available + 4 + 2 * Int((index &- 1) % UInt16(size)))
      let tables = Self.entries(rig.region, head: Int(head))
      faults += Self.faults(
        tables, buffers, readable: min(readable, count), features, size: size)
      indirectChains += tables.count - 1
      guard let chain = try device.takeChain(into: &segments) else { return }
      device.complete(chain, written: 0)
      _ = device.publish()
      while try driver.takeUsed() != nil {}
    }
    #expect(faults == 0)
    #expect((indirectChains > 1000) == features.contains(.indirectDescriptors))
  }

  /// Buffers the device has: their descriptors do not change before it returns them (3.3.1).
  @Test(arguments: featureSets)
  func exposedEntriesStayAsTheyAre(features: QueueFeatures) throws {
    var rig = Rig(size: 16, features: features)
    var driver = try rig.driver(indirect: features.contains(.indirectDescriptors))
    var device = try rig.device()
    var segments = rig.segments()
    var dice = Dice(state: 4)
    var exposed: [(ticket: ChainTicket, image: [[Entry]])] = []
    var changed = 0
    var checked = 0
    for _ in 0..<4_000 {
      for _ in 0..<dice.below(4) {
        let buffers = [BufferSegment](
          repeating: BufferSegment(offset: Rig.dataBase + dice.below(999), count: 1),
          count: 1 + dice.below(4))
        do throws(AddError) {
          try driver.add(
            readable: buffers.span, writable: [BufferSegment]().span, token: 0)
        } catch { break }
      }
      _ = driver.publish()
      while let chain = try device.takeChain(into: &segments) {
        let image = Self.entries(rig.region, head: Int(chain.head))
        exposed.append((chain.detach(), image))
      }
      while !exposed.isEmpty, dice.below(3) != 0 {
        let place = features.contains(.inOrder) ? 0 : dice.below(exposed.count)
        let done = exposed.remove(at: place)
        if Self.entries(rig.region, head: Int(done.ticket.head)) != done.image { changed += 1 }
        checked += 1
        device.complete(done.ticket, written: 0)
      }
      _ = device.publish()
      while try driver.takeUsed() != nil {}
    }
    for done in exposed { device.complete(done.ticket, written: 0) }
    #expect(changed == 0)
    #expect(checked > 2_000)
  }

  @Test func aChainLongerThanTheQueueIsRefused() throws {
    for features: QueueFeatures in [QueueFeatures(), .indirectDescriptors] {
      var rig = Rig(size: 4, features: features)
      var driver = try rig.driver(indirect: true)
      let buffers = [BufferSegment](
        repeating: BufferSegment(offset: Rig.dataBase, count: 8), count: 5)
      var seen: AddError?
      do throws(AddError) {
        try driver.add(readable: buffers.span, writable: [BufferSegment]().span, token: 0)
      } catch { seen = error }
      #expect(seen == .chainLength(5, limit: 4))
    }
  }

  /// 2^32 bytes in one chain, all of them readable, are our own bug (2.7.5.2).
  @Test func aChainOfFourGigabytesTraps() async {
    await #expect(processExitsWith: .failure) {
      var rig = Rig(size: 4, features: QueueFeatures())
      var driver = try rig.driver()
      let half = BufferSegment(offset: Rig.dataBase, count: 1 << 31)
      try driver.add([half, half], readableCount: 2, token: 0)
    }
    await #expect(processExitsWith: .success) {
      var rig = Rig(size: 4, features: QueueFeatures())
      var driver = try rig.driver()
      let half = BufferSegment(offset: Rig.dataBase, count: 1 << 31)
      let less = BufferSegment(offset: Rig.dataBase, count: 1 << 31 - 1)
      try driver.add([half, less], readableCount: 2, token: 0)
    }
  }

  /// Each part of a queue lies at a multiple of 16, 2 and 4 bytes (2.7.1), and a misplaced one is
  /// an error on either side.
  @Test(arguments: [(0, 16), (1, 2), (2, 4)])
  func partsAreAligned(part: Int, alignment: Int) throws {
    for shift in 0..<32 {
      var rig = Rig(size: 4, features: QueueFeatures())
      var starts = [Rig.ringBase, Self.available, Self.used]
      starts[part] += shift
      let configuration = QueueConfiguration(
        size: rig.size, descriptorTable: UInt64(starts[0]), availableRing: UInt64(starts[1]),
        usedRing: UInt64(starts[2]))
      let expected: QueueError? =
        shift % alignment == 0
        ? nil : .ringOutside(address: UInt64(starts[part]), writable: part < 2)
      var seen: QueueError?
      do throws(QueueError) {
        _ = try DriverQueue(
          configuration, in: rig.region, access: rig.access, arena: &rig.arena)
      } catch { seen = error }
      #expect(seen == expected)
      let deviceExpected = expected.map { _ in
        QueueError.ringOutside(address: UInt64(starts[part]), writable: part == 2)
      }
      var deviceSeen: QueueError?
      do throws(QueueError) {
        _ = try DeviceQueue(
          configuration, in: rig.region, access: rig.access, arena: &rig.arena)
      } catch { deviceSeen = error }
      #expect(deviceSeen == deviceExpected)
    }
  }
}
