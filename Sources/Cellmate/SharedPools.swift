import CCellmate
import SharedMemory
import VirtioTransport
import Virtqueue

/// The front-end's buffers: one pool for what the device reads, and, where the placement has it,
/// one for what the device writes. Every number that comes from the caller is checked here.
struct SharedPools: ~Copyable {
  private let plan: LinkPlan
  private let blockSize: Int
  private var memory: PrivateArena
  private var pools: PrivateStore<BufferPool>

  /// Pools over the whole of what the plan gives this side; `nil` when the arena is too small.
  static func make(
    _ plan: LinkPlan, blockSize: Int, arena: inout PrivateArena
  ) -> SharedPools? {
    let bytes = privateBytes(plan, blockSize: blockSize)
    guard let pools = PrivateStore<BufferPool>(count: 2, in: &arena), let own = arena.split(bytes)
    else { return nil }
    var made = SharedPools(plan, blockSize, own, pools)
    guard made.fill() else { return nil }
    return made
  }

  private init(
    _ plan: LinkPlan, _ blockSize: Int, _ memory: consuming PrivateArena,
    _ pools: consuming PrivateStore<BufferPool>
  ) {
    self.plan = plan
    self.blockSize = blockSize
    self.memory = memory
    self.pools = pools
  }

  static func privateBytes(_ plan: LinkPlan, blockSize: Int) -> Int {
    BufferPool.privateBytes(window: plan.driverPool, blockSize: blockSize)
      + BufferPool.privateBytes(window: plan.devicePool, blockSize: blockSize) + 256
  }

  private mutating func fill() -> Bool {
    guard let driver = BufferPool(window: plan.driverPool, blockSize: blockSize, arena: &memory)
    else { return false }
    pools.put(driver, at: 0)
    guard plan.placement == .output else { return true }
    guard let device = BufferPool(window: plan.devicePool, blockSize: blockSize, arena: &memory)
    else { return false }
    pools.put(device, at: 1)
    return true
  }

  /// Every buffer is free again.
  mutating func freeAll() {
    for index in 0..<2 where pools.isOccupied(index) { _ = pools.remove(at: index) }
    memory.reuse()
    let isFilled = fill()
    precondition(isFilled, "the books had room before")
  }

  private func pool(forWriting: Bool) -> Int { forWriting && pools.isOccupied(1) ? 1 : 0 }

  mutating func allocate(_ count: Int, forWriting: Bool) -> BufferSegment? {
    pools[pool(forWriting: forWriting)].allocate(count)
  }

  /// A length of the caller's.
  mutating func allocate(
    _ length: UInt64, direction: Int32, _ region: SharedRegion
  ) throws(FaceError) -> cellmate_buffer {
    guard length > 0, direction == 0 || direction == 1 else { throw FaceError(Code.argument) }
    guard let count = Int(exactly: length),
      let segment = allocate(count, forWriting: direction == 1)
    else { throw FaceError(Code.memory) }
    return unsafe Self.buffer(segment, region)
  }

  mutating func free(_ buffer: cellmate_buffer, direction: Int32) throws(FaceError) {
    guard direction == 0 || direction == 1, let segment = unsafe Self.segment(buffer, plan) else {
      throw FaceError(Code.argument)
    }
    let index = pool(forWriting: direction == 1)
    guard pools[index].isAllocated(segment) else { throw FaceError(Code.argument) }
    pools[index].free(segment)
  }

  /// Shows a segment to the caller.
  static func buffer(_ segment: BufferSegment, _ region: SharedRegion) -> cellmate_buffer {
    let range = region.readRange(segment.offset..<segment.offset + segment.count)
    return unsafe cellmate_buffer(
      data: UnsafeMutableRawPointer(mutating: region.unsafeAddress(of: range)),
      offset: UInt64(segment.offset), length: UInt64(segment.count))
  }

  /// A buffer of the caller's, or a part of one: inside the pools.
  static func segment(_ buffer: cellmate_buffer, _ plan: LinkPlan) -> BufferSegment? {
    let (offset, length) = unsafe (buffer.offset, buffer.length)
    guard length > 0, length <= UInt64(UInt32.max), offset <= UInt64(plan.whole.upperBound),
      length <= UInt64(plan.whole.upperBound) - offset
    else { return nil }
    let range = Int(offset)..<Int(offset + length)
    let isInside =
      (range.lowerBound >= plan.driverPool.lowerBound
        && range.upperBound <= plan.driverPool.upperBound)
      || (range.lowerBound >= plan.devicePool.lowerBound
        && range.upperBound <= plan.devicePool.upperBound)
    return isInside ? BufferSegment(offset: range.lowerBound, count: range.count) : nil
  }
}
