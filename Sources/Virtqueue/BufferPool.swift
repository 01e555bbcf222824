public import SharedMemory

/// Bytes of the shared region that the driver side has allocated: for buffers it fills in place
/// or hands to the device.
public struct BufferSegment: Equatable, Sendable, BitwiseCopyable {
  /// Offset of the first byte from the start of the region.
  public let offset: Int
  /// Length in bytes.
  public let count: Int

  /// Names bytes of the region; the driver's own, so a wrong one is our bug.
  @inlinable
  public init(offset: Int, count: Int) {
    self.offset = offset
    self.count = count
  }

  /// No bytes.
  public static let empty = BufferSegment(offset: 0, count: 0)

  /// The part that starts `start` bytes in; must lie inside.
  @inline(never)
  public func slice(from start: Int, count: Int) -> BufferSegment {
    precondition(start >= 0 && count >= 0 && start <= self.count && count <= self.count - start)
    return BufferSegment(offset: offset + start, count: count)
  }
}

/// The front-end's allocator for one pool of the shared region.
///
/// Its books are private: nothing a peer writes can confuse it. Allocations are runs of blocks of
/// equal, power-of-two size; a run is found by a bounded scan from where the last one ended.
public struct BufferPool: ~Copyable {
  private let start: Int
  private let blockSize: Int
  private let states: PrivateTable<UInt32>
  private var hint = 0
  /// Blocks that are free.
  public private(set) var freeBlocks: Int

  /// Takes over `window`, a range of offsets into the region, in blocks of `blockSize` bytes (a
  /// power of two from 64); `nil` when `arena` cannot hold the books or no block fits.
  public init?(window: Range<Int>, blockSize: Int, arena: inout PrivateArena) {
    precondition(blockSize >= 64 && blockSize & (blockSize - 1) == 0)
    start = (window.lowerBound + blockSize - 1) & ~(blockSize - 1)
    self.blockSize = blockSize
    let blocks = (window.upperBound - start) / blockSize
    guard blocks > 0, let states = arena.table(of: blocks, initial: UInt32(0)) else { return nil }
    self.states = states
    freeBlocks = blocks
  }

  /// Private memory the books of a window need, in bytes.
  public static func privateBytes(window: Range<Int>, blockSize: Int) -> Int {
    4 * (window.count / blockSize + 1) + 64
  }

  /// Allocates `count` bytes, aligned to the block size; `nil` when no run is free.
  public mutating func allocate(_ count: Int) -> BufferSegment? {
    // Compared before it is rounded up: a caller may ask for the largest number there is.
    guard count > 0, count <= freeBlocks * blockSize else { return nil }
    let need = (count + blockSize - 1) / blockSize
    guard let first = run(of: need, in: hint..<states.count) ?? run(of: need, in: 0..<states.count)
    else { return nil }
    // The first block remembers the length of the run, the others that they belong to one.
    states[first] = UInt32(need)
    for block in first + 1..<first + need { states[block] = .max }
    freeBlocks -= need
    hint = first + need
    return BufferSegment(offset: start + first * blockSize, count: count)
  }

  private func run(of need: Int, in range: Range<Int>) -> Int? {
    var length = 0
    for block in range {
      length = states[block] == 0 ? length + 1 : 0
      if length == need { return block + 1 - need }
    }
    return nil
  }

  /// Whether `segment` is an allocation that was not given back.
  public func isAllocated(_ segment: BufferSegment) -> Bool {
    let first = (segment.offset - start) / blockSize
    guard segment.offset >= start, segment.count > 0, first < states.count,
      start + first * blockSize == segment.offset
    else { return false }
    let need = Int(states[first])
    return need > 0 && need <= states.count - first
      && need == (segment.count + blockSize - 1) / blockSize
  }

  /// Gives an allocation back; giving back twice is our bug and traps.
  public mutating func free(_ segment: BufferSegment) {
    let first = (segment.offset - start) / blockSize
    let need = Int(states[first])
    precondition(
      start + first * blockSize == segment.offset && need > 0 && need <= states.count - first,
      "freed what was not allocated")
    for block in first..<first + need { states[block] = 0 }
    freeBlocks += need
    hint = min(hint, first)
  }
}
