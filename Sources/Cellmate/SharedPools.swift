import CCellmate
import SharedMemory
import VirtioTransport
import Virtqueue

/// The front-end's buffers: one pool for what the device reads, and, where the placement has it,
/// one for what the device writes. Every number that comes from the caller is checked here.
struct SharedPools: ~Copyable {
  /// What the device may read, and write where it has no window of its own.
  private let window: Range<Int>
  /// What only the device may write; `nil` where ``window`` is for both.
  private let deviceWindow: Range<Int>?
  private let blockSize: Int
  private var memory: PrivateArena
  private var pools: PrivateStore<BufferPool>

  /// Pools over the whole of what the plan gives this side; `nil` when the arena is too small.
  static func make(
    _ plan: LinkPlan, blockSize: Int, arena: inout PrivateArena
  ) -> SharedPools? {
    make(
      plan.driverPool, plan.placement == .output ? plan.devicePool : nil, blockSize: blockSize,
      arena: &arena)
  }

  /// Pools over these windows; `nil` when the arena is too small.
  static func make(
    _ window: Range<Int>, _ deviceWindow: Range<Int>?, blockSize: Int, arena: inout PrivateArena
  ) -> SharedPools? {
    let bytes = privateBytes(window, deviceWindow ?? 0..<0, blockSize: blockSize)
    guard let pools = PrivateStore<BufferPool>(count: 2, in: &arena), let own = arena.split(bytes)
    else { return nil }
    var made = SharedPools(window, deviceWindow, blockSize, own, pools)
    guard made.fill() else { return nil }
    return made
  }

  private init(
    _ window: Range<Int>, _ deviceWindow: Range<Int>?, _ blockSize: Int,
    _ memory: consuming PrivateArena, _ pools: consuming PrivateStore<BufferPool>
  ) {
    self.window = window
    self.deviceWindow = deviceWindow
    self.blockSize = blockSize
    self.memory = memory
    self.pools = pools
  }

  static func privateBytes(_ plan: LinkPlan, blockSize: Int) -> Int {
    privateBytes(plan.driverPool, plan.devicePool, blockSize: blockSize)
  }

  static func privateBytes(_ window: Range<Int>, _ other: Range<Int>, blockSize: Int) -> Int {
    BufferPool.privateBytes(window: window, blockSize: blockSize)
      + BufferPool.privateBytes(window: other, blockSize: blockSize) + 256
  }

  private mutating func fill() -> Bool {
    guard let driver = BufferPool(window: window, blockSize: blockSize, arena: &memory)
    else { return false }
    pools.put(driver, at: 0)
    guard let deviceWindow else { return true }
    guard let device = BufferPool(window: deviceWindow, blockSize: blockSize, arena: &memory)
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

  @inline(never)
  mutating func allocate(_ count: Int, forWriting: Bool) -> BufferSegment? {
    pools[pool(forWriting: forWriting)].allocate(count)
  }

  /// Takes a buffer back that is not in use.
  mutating func free(_ segment: BufferSegment, forWriting: Bool) {
    pools[pool(forWriting: forWriting)].free(segment)
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
    guard direction == 0 || direction == 1, let segment = unsafe segment(buffer) else {
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
  func segment(_ buffer: cellmate_buffer) -> BufferSegment? {
    let (offset, length) = unsafe (buffer.offset, buffer.length)
    guard length > 0, length <= UInt64(UInt32.max), offset <= UInt64(UInt32.max) << 16 else {
      return nil
    }
    let range = Int(offset)..<Int(offset + length)
    let isInside =
      Self.contains(window, range) || deviceWindow.map { Self.contains($0, range) } == true
    return isInside ? BufferSegment(offset: range.lowerBound, count: range.count) : nil
  }

  private static func contains(_ window: Range<Int>, _ range: Range<Int>) -> Bool {
    range.lowerBound >= window.lowerBound && range.upperBound <= window.upperBound
  }
}
