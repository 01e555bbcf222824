import SharedMemory
import Testing
import Virtqueue

/// The driver side against a device that lies.
@Suite struct DriverQueueTests {
  static let used = Rig.ringBase + 0x6000

  static func oneInFlight(_ rig: inout Rig) throws -> DriverQueue {
    var driver = try rig.driver()
    rig.region.store32(0, at: used)
    let segment: [BufferSegment] = [BufferSegment(offset: Rig.dataBase, count: 32)]
    let none: [BufferSegment] = []
    try driver.add(readable: none.span, writable: segment.span, token: 9)
    _ = driver.publish()
    return driver
  }

  static func use(_ region: SharedRegion, id: UInt32, written: UInt32, index: UInt16) {
    region.store32(id, at: used + 4)
    region.store32(written, at: used + 8)
    region.store16(index, at: used + 2)
  }

  @Test func anHonestAnswerComesBackWithItsToken() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    var driver = try Self.oneInFlight(&rig)
    Self.use(rig.region, id: 0, written: 32, index: 1)
    let chain = try driver.takeUsed()
    #expect(chain?.token == 9)
    #expect(chain?.written == 32)
    let next = try driver.takeUsed()
    #expect(next == nil)
  }

  @Test(arguments: [
    (UInt32(0), UInt32(33), UInt16(1), UInt32(15)), (1, 8, 1, 14), (8, 8, 1, 14),
    (.max, 8, 1, 14), (0, 8, 2, 13), (0, 8, 0x8000, 13),
  ])
  func liesAreErrors(id: UInt32, written: UInt32, index: UInt16, reason: UInt32) throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    var driver = try Self.oneInFlight(&rig)
    Self.use(rig.region, id: id, written: written, index: index)
    var seen: UInt32 = 0
    do throws(QueueError) { _ = try driver.takeUsed() } catch { seen = error.reason }
    #expect(seen == reason)
    #expect(driver.isPoisoned == true)
  }

  @Test func aFullRingSaysSo() throws {
    var rig = Rig(size: 2, features: QueueFeatures())
    var driver = try rig.driver()
    let segment: [BufferSegment] = [BufferSegment(offset: Rig.dataBase, count: 32)]
    let none: [BufferSegment] = []
    try driver.add(readable: segment.span, writable: none.span, token: 1)
    try driver.add(readable: segment.span, writable: none.span, token: 2)
    var seen: AddError?
    do throws(AddError) {
      try driver.add(readable: segment.span, writable: none.span, token: 3)
    } catch { seen = error }
    #expect(seen == .full)
  }

  /// The rule of VIRTIO 1.4, 2.7.10, for every pair of indices near a wrap: an event that is due
  /// notifies, one that is not stays quiet. At least two publications, so that an event index of
  /// 0 cannot fit by chance.
  @Test func eventIndicesDecideAboutNotifications() throws {
    var rig = Rig(size: 8, features: .eventIndex)
    var driver = try rig.driver()
    let segment: [BufferSegment] = [BufferSegment(offset: Rig.dataBase, count: 32)]
    let none: [BufferSegment] = []
    rig.region.store32(0, at: Self.used)
    let event = Self.used + 4 + 8 * 8
    for index in 0..<8 {
      let wanted = UInt16((index * 5) % 8)
      rig.region.store16(wanted, at: event)
      try driver.add(readable: segment.span, writable: none.span, token: 0)
      let notifies = driver.publish()
      #expect(notifies == (Int(wanted) == index))
    }
  }

  @Test func poolsNeverOverlapAndTrapOnADoubleFree() async throws {
    var dice = Dice(state: 11)
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 64)
    var arena = unsafe PrivateArena(unsafeBase: base, count: 1 << 16)
    guard var pool = BufferPool(window: 100..<100_000, blockSize: 512, arena: &arena) else {
      Issue.record("the arena is large enough")
      return
    }
    let free = pool.freeBlocks
    // A number that cannot be rounded up is too much, not our end.
    for count in [Int.max, Int.max - 510, free * 512 + 1, 0, -1, Int.min] {
      let got = pool.allocate(count)
      #expect(got == nil)
    }
    var held: [BufferSegment] = []
    for _ in 0..<5_000 {
      if dice.below(2) == 0, let got = pool.allocate(1 + dice.below(4000)) {
        #expect(got.offset % 512 == 0 && got.offset >= 100 && got.offset + got.count <= 100_000)
        for other in held {
          #expect(
            got.offset >= other.offset + other.count || other.offset >= got.offset + got.count)
        }
        held.append(got)
      } else if !held.isEmpty {
        pool.free(held.remove(at: dice.below(held.count)))
      }
    }
    for segment in held { pool.free(segment) }
    let end = pool.freeBlocks
    #expect(end == free)
    await #expect(processExitsWith: .failure) {
      let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 16, alignment: 64)
      var arena = unsafe PrivateArena(unsafeBase: base, count: 1 << 16)
      guard var pool = BufferPool(window: 0..<4096, blockSize: 512, arena: &arena),
        let segment = pool.allocate(512)
      else { return }
      pool.free(segment)
      pool.free(segment)
    }
  }
}
