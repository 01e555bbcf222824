import SharedMemory
import Testing
import Virtqueue

/// VIRTIO_F_IN_ORDER on both sides (VIRTIO 1.4, 2.7.5.2 and 2.7.9).
@Suite struct OrderTests {
  static let available = Rig.ringBase + 0x4000
  static let used = Rig.ringBase + 0x6000
  static let next: UInt16 = 1

  static func buffers(_ count: Int, length: Int = 8) -> [BufferSegment] {
    [BufferSegment](repeating: BufferSegment(offset: Rig.dataBase, count: length), count: count)
  }

  /// "driver MUST set next to 0 for the last descriptor in the table and to x + 1 for the rest",
  /// and heads follow in ring order, whatever the lengths of the chains.
  @Test func theDriverUsesDescriptorsInRingOrder() throws {
    let size: UInt16 = 8
    var rig = Rig(size: UInt32(size), features: .inOrder)
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    var dice = Dice(state: 5)
    var expectedHead: UInt16 = 0
    for round in 0..<400 {
      var lengths: [Int] = []
      for _ in 0..<1 + dice.below(3) {
        let length = 1 + dice.below(3)
        do throws(AddError) {
          try driver.add(
            readable: Self.buffers(length).span, writable: Self.buffers(0).span, token: 0)
        } catch { break }
        lengths.append(length)
      }
      _ = driver.publish()
      for length in lengths {
        let chain = try device.takeChain(into: &segments)
        guard let chain else {
          Issue.record("a chain is missing in round \(round)")
          return
        }
        #expect(chain.head == expectedHead)
        for step in 0..<UInt16(length) - 1 {
          let index = (chain.head &+ step) % size
          let flags = rig.region.load16(Rig.ringBase + 16 * Int(index) + 12)
          let link = rig.region.load16(Rig.ringBase + 16 * Int(index) + 14)
          #expect(flags & Self.next != 0 && link == (index + 1) % size)
        }
        expectedHead = (expectedHead + UInt16(length)) % size
        device.complete(chain, written: 0)
      }
      _ = device.publish()
      while try driver.takeUsed() != nil {}
      #expect(driver.freeDescriptorCount == Int(size))
    }
  }

  @Test func theDeviceHoldsBackWhatIsReadyTooEarly() throws {
    var rig = Rig(size: 8, features: .inOrder)
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    var tickets: [ChainTicket] = []
    for token: UInt32 in 0..<4 {
      try driver.add([Self.buffers(1)[0]], readableCount: 0, token: token)
    }
    _ = driver.publish()
    while let chain = try device.takeChain(into: &segments) { tickets.append(chain.detach()) }
    var shown: [UInt16] = []
    for (ready, written) in [(2, UInt32(3)), (0, 1), (3, 4), (1, 2)] {
      device.complete(tickets[ready], written: written)
      _ = device.publish()
      shown.append(rig.region.load16(Self.used + 2))
    }
    #expect(shown == [0, 1, 1, 4])
    #expect(device.inFlightCount == 0)
    for expected: UInt32 in 0..<4 {
      let chain = try driver.takeUsed()
      #expect(chain?.token == expected && chain?.written == expected + 1)
    }
  }

  /// One element for a batch: it names the last chain; the skipped ones count as used completely.
  @Test func theDriverTakesABatchApart() throws {
    var rig = Rig(size: 8, features: .inOrder)
    var driver = try rig.driver()
    rig.region.store32(0, at: Self.used)
    for token: UInt32 in 0..<5 {
      try driver.add([Self.buffers(1)[0]], readableCount: 0, token: token)
    }
    _ = driver.publish()
    rig.region.store32(2, at: Self.used + 4)
    rig.region.store32(5, at: Self.used + 8)
    // Garbage where the skipped elements would be: it must not be looked at.
    for offset in stride(from: 12, to: 28, by: 4) {
      rig.region.store32(.max, at: Self.used + offset)
    }
    rig.region.store16(3, at: Self.used + 2)
    var seen: [UInt32] = []
    while let chain = try driver.takeUsed() { seen += [chain.token, chain.written] }
    #expect(seen == [0, 8, 1, 8, 2, 5])
    // The next batch starts where the index says: behind the three.
    rig.region.store32(4, at: Self.used + 4 + 8 * 3)
    rig.region.store32(0, at: Self.used + 8 + 8 * 3)
    rig.region.store16(5, at: Self.used + 2)
    seen = []
    while let chain = try driver.takeUsed() { seen += [chain.token, chain.written] }
    #expect(seen == [3, 8, 4, 0])
    #expect(driver.inFlightCount == 0)
  }

  @Test func aBatchBeyondItsIndexIsAnError() throws {
    var rig = Rig(size: 8, features: .inOrder)
    var driver = try rig.driver()
    rig.region.store32(0, at: Self.used)
    for token: UInt32 in 0..<3 {
      try driver.add([Self.buffers(1)[0]], readableCount: 0, token: token)
    }
    _ = driver.publish()
    rig.region.store32(2, at: Self.used + 4)
    rig.region.store16(1, at: Self.used + 2)
    var seen: QueueError?
    do throws(QueueError) {
      while try driver.takeUsed() != nil {}
    } catch { seen = error }
    #expect(seen == .usedUnknown(2))
    #expect(driver.isPoisoned == true)
  }
}
