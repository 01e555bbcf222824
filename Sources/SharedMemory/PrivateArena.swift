/// Private memory for tables whose size is known only at set-up (shadow rings, request slots).
///
/// The core allocates nothing by itself: whoever composes it brings one block of memory (a host
/// maps it, a bare-metal cell reserves it) and the tables are carved from it before activation.
/// There is no way to give a table back but to drop the arena.
@safe
public struct PrivateArena: ~Copyable {
  private let base: UnsafeMutableRawPointer
  /// Length of the block in bytes.
  public let capacity: Int
  /// Bytes handed out so far.
  public private(set) var used = 0

  /// Takes over a block of private memory aligned to 64 bytes, which must outlive every table.
  @unsafe
  public init(unsafeBase base: UnsafeMutableRawPointer, count: Int) {
    precondition(count >= 0 && UInt(bitPattern: base) & 63 == 0)
    unsafe self.base = base
    capacity = count
  }

  /// A table of `count` entries, all set to `initial`; `nil` when the block is used up.
  @inline(never)
  public mutating func table<T: BitwiseCopyable>(
    of count: Int, initial: T
  ) -> PrivateTable<T>? {
    guard let bytes = unsafe carve(count, MemoryLayout<T>.stride) else { return nil }
    // SAFETY: the bytes are handed out once; 64-byte alignment covers T.
    let first = unsafe bytes.bindMemory(to: T.self, capacity: count)
    unsafe first.initialize(repeating: initial, count: count)
    return unsafe PrivateTable(unsafeBase: first, count: count)
  }

  /// The place of a table: once for tables of all types.
  @inline(never)
  private mutating func carve(_ count: Int, _ stride: Int) -> UnsafeMutableRawPointer? {
    let start = (used &+ 63) & ~63
    guard count >= 0, count <= (1 << 24), start <= capacity, count &* stride <= capacity &- start
    else { return nil }
    used = start &+ count &* stride
    // SAFETY: the bytes lie inside the block.
    return unsafe base + start
  }

  /// A table of `count` entries, a power of two, whose index wraps; all set to `initial`. `nil`
  /// when the block is used up or `count` is no power of two.
  public mutating func ring<T: BitwiseCopyable>(
    of count: Int, initial: T
  ) -> PrivateRing<T>? {
    guard count > 0, count & (count &- 1) == 0, let table = table(of: count, initial: initial)
    else { return nil }
    return unsafe PrivateRing(unsafeBase: table.base, mask: count &- 1)
  }

  /// Splits `count` bytes off as an arena of its own, for tables that are made again and again
  /// (the shadow of a queue that is reset); `nil` when the block is used up.
  @inline(never)
  public mutating func split(_ count: Int) -> PrivateArena? {
    let start = (used &+ 63) & ~63
    guard count >= 0, start <= capacity, count <= capacity &- start else { return nil }
    used = start &+ count
    // SAFETY: the bytes lie inside the block and are handed out once.
    return unsafe PrivateArena(unsafeBase: base + start, count: count)
  }

  /// Starts over: the next table takes the place of the first one. Whoever holds tables of this
  /// arena must have dropped them; they would show the new tables' bytes.
  public mutating func reuse() { used = 0 }
}

/// A fixed table in private memory, bounds-checked: a wrong index is our bug and traps.
@safe
public struct PrivateTable<T: BitwiseCopyable>: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutablePointer<T>
  /// The number of entries.
  public let count: Int

  @unsafe @inlinable @inline(__always)
  init(unsafeBase base: UnsafeMutablePointer<T>, count: Int) {
    unsafe self.base = base
    self.count = count
  }

  /// The first entries, at most `limit` of them (0 or more).
  @inlinable @inline(__always)
  public func prefix(_ limit: Int) -> PrivateTable {
    precondition(limit >= 0)
    // SAFETY: not more entries than there are.
    return unsafe PrivateTable(unsafeBase: base, count: min(count, limit))
  }

  /// `count` entries from `start` on, which have to be there.
  public func slice(from start: Int, count: Int) -> PrivateTable {
    precondition(start >= 0 && count >= 0 && start <= self.count && count <= self.count - start)
    // SAFETY: compared with what there is.
    return unsafe PrivateTable(unsafeBase: base + start, count: count)
  }

  /// Whether there is an entry at `index`; the subscript then needs no second comparison.
  @inlinable @inline(__always)
  public func contains(index: Int) -> Bool { UInt(bitPattern: index) < UInt(bitPattern: count) }

  /// The entry at `index`, below ``count``.
  @inlinable
  public subscript(index: Int) -> T {
    @inline(__always) get {
      // One comparison: a negative index becomes a huge one.
      precondition(contains(index: index))
      return unsafe base[index]
    }
    @inline(__always) nonmutating set {
      // One comparison: a negative index becomes a huge one.
      precondition(contains(index: index))
      unsafe base[index] = newValue
    }
  }
}

extension PrivateTable {
  /// Lends the entries at `range` for reading; a wrong range is our bug and traps.
  @inlinable
  public func withSpan<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (Span<T>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    // SAFETY: inside the table, which outlives the call.
    return try unsafe body(
      Span(_unsafeStart: UnsafePointer(base + range.lowerBound), count: range.count))
  }

  /// Lends the entries at `range` for writing; a wrong range is our bug and traps.
  @inlinable
  public func withMutableSpan<Result, Failure: Error>(
    _ range: Range<Int>, _ body: (inout MutableSpan<T>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    // SAFETY: inside the table, which outlives the call.
    var span = unsafe MutableSpan(_unsafeStart: base + range.lowerBound, count: range.count)
    return try body(&span)
  }
}

/// A private table of a power-of-two number of entries whose index wraps: the shadow of a ring.
///
/// An index is reduced modulo the number of entries, so that no index can leave the table and the
/// hot path pays no bounds check.
@safe
public struct PrivateRing<T: BitwiseCopyable>: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutablePointer<T>
  @usableFromInline let mask: Int

  @unsafe @usableFromInline
  init(unsafeBase base: UnsafeMutablePointer<T>, mask: Int) {
    unsafe self.base = base
    self.mask = mask
  }

  /// The number of entries.
  @inlinable
  public var count: Int { mask &+ 1 }

  /// The entry at `index` modulo ``count``.
  @inlinable
  public subscript(index: UInt16) -> T {
    // SAFETY: the mask keeps the entry inside the table that the arena carved.
    @inline(__always) get { unsafe base[Int(index) & mask] }
    @inline(__always) nonmutating set { unsafe base[Int(index) & mask] = newValue }
  }
}
