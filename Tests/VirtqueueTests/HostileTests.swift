import SharedMemory
import Testing
import Virtqueue

/// Both sides over memory that a third party overwrites at any moment: errors, and nothing else.
@Suite struct HostileTests {
  static let featureSets: [QueueFeatures] = [
    QueueFeatures(), .inOrder, .eventIndex | .indirectDescriptors,
    .inOrder | .eventIndex | .indirectDescriptors,
  ]

  /// Overwrites one word in one of the rings, often with a value that nearly fits.
  static func strike(_ region: SharedRegion, _ dice: inout Dice) {
    let spots = [
      (Rig.ringBase, 8 * 16), (Rig.ringBase + 0x4000, 6 + 2 * 8),
      (Rig.ringBase + 0x6000, 6 + 8 * 8),
      (0xb000, 8 * 8 * 16),
    ]
    let (start, length) = spots[dice.below(spots.count)]
    let offset = (start + dice.below(length)) & ~1
    let values: [UInt16] = [
      0, 1, 2, 3, 4, 7, 8, .max, UInt16(truncatingIfNeeded: dice.next()),
      region.load16(offset) &+ 1, region.load16(offset) &- 1,
    ]
    region.store16(values[dice.below(values.count)], at: offset)
  }

  @Test(arguments: featureSets, UInt64(1)...8)
  func twoQueuesOverGarbageReportErrorsOnly(features: QueueFeatures, seed: UInt64) throws {
    var dice = Dice(state: seed &* 1009)
    var rig = Rig(size: 8, features: features)
    var errors = 0
    var used = 0
    for _ in 0..<150 {
      rig.startOver()
      var driver = try rig.driver(indirect: features.contains(.indirectDescriptors))
      var device = try rig.device()
      var segments = rig.segments()
      var tickets: [ChainTicket] = []
      for _ in 0..<30 {
        for _ in 0..<dice.below(3) { Self.add(&driver, &dice) }
        if driver.publish() { driver.armNotifications() }
        if dice.below(2) == 0 { Self.strike(rig.region, &dice) }
        let before = errors
        Self.take(&device, &segments, &tickets, &errors, rig)
        while !tickets.isEmpty, dice.below(3) != 0 {
          device.complete(tickets.remove(at: dice.below(tickets.count)), written: 8)
        }
        if device.publish() { device.armNotifications() }
        if dice.below(2) == 0 { Self.strike(rig.region, &dice) }
        used += Self.reap(&driver, &errors)
        if errors > before { break }
      }
      for ticket in tickets { device.complete(ticket, written: 0) }
      #expect(driver.freeDescriptorCount <= 8)
    }
    let whole = rig.guardsAreWhole
    #expect(whole, "seed \(seed)")
    #expect(errors > 20 && used > 100, "seed \(seed): too tame or too wild to prove anything")
  }

  static func add(_ driver: inout DriverQueue, _ dice: inout Dice) {
    let buffer = BufferSegment(offset: Rig.dataBase, count: 8)
    do throws(AddError) {
      try driver.add([buffer, buffer], readableCount: dice.below(3), token: 0)
    } catch {}
  }

  /// Takes everything; whatever was accepted lies inside the windows.
  static func take(
    _ device: inout DeviceQueue, _ segments: inout ChainSegments, _ tickets: inout [ChainTicket],
    _ errors: inout Int, _ rig: borrowing Rig
  ) {
    do throws(QueueError) {
      while let chain = try device.takeChain(into: &segments) {
        for index in 0..<segments.writableCount {
          let range = segments.writable(index)
          guard range.count > 0 else { continue }
          #expect(range.offset >= Rig.ringBase && range.offset + range.count <= Rig.total - 0x1000)
        }
        tickets.append(chain.detach())
      }
    } catch { errors += 1 }
  }

  static func reap(_ driver: inout DriverQueue, _ errors: inout Int) -> Int {
    var count = 0
    do throws(QueueError) {
      while try driver.takeUsed() != nil { count += 1 }
    } catch { errors += 1 }
    return count
  }
}
