public import CVolatile

#if CELLMATE_WATCH
  public import CWatch
#endif

/// Memory that a peer may change at any moment: the one type that owns unsafe shared memory.
///
/// Every access is a single, single-copy atomic load or store of a whole little-endian word, or a
/// copy of checked bytes. Nothing here hands out a view of the memory: a value is read once, into
/// a private copy, and decided upon there (docs/architecture.md, "A claim is not a fact").
/// Offsets are the caller's own and a wrong one is our bug: it traps. What a peer says goes
/// through ``AccessMap`` first.
@safe
public struct SharedRegion: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutableRawPointer
  /// Length of the mapping in bytes.
  public let count: Int
  /// Whether unaligned accesses and library copies are allowed; false where the mapping is
  /// Device memory (vfio and sysfs mappings on arm64).
  public let isUnalignedSafe: Bool

  /// Takes over a mapping.
  ///
  /// The caller promises that `count` bytes from `base` stay mapped for the life of every copy
  /// of this value, and that `base` is aligned to 64 bytes.
  @unsafe
  public init(unsafeBase base: UnsafeMutableRawPointer, count: Int, isUnalignedSafe: Bool = true) {
    precondition(count >= 0, "a region has no negative length")
    precondition(UInt(bitPattern: base) & 63 == 0, "a region starts on a cache line")
    unsafe self.base = base
    self.count = count
    self.isUnalignedSafe = isUnalignedSafe
  }

  @inlinable @inline(__always)
  func cell(_ offset: Int, _ size: Int) -> UnsafeMutableRawPointer {
    precondition(offset >= 0 && offset <= count &- size && offset & (size &- 1) == 0)
    // SAFETY: the whole word lies inside the mapping, naturally aligned.
    let cell = unsafe base + offset
    #if CELLMATE_WATCH
      unsafe cw_access(cell, size)
    #endif
    return unsafe cell
  }

  /// Where a word is stored: a step of test builds.
  @inlinable @inline(__always)
  func place(_ offset: Int, _ size: Int) -> UnsafeMutableRawPointer {
    let cell = unsafe cell(offset, size)
    #if CELLMATE_WATCH
      return unsafe cw_store(cell, size)
    #else
      return unsafe cell
    #endif
  }

  // MARK: Words

  /// Loads a byte; relaxed.
  @inlinable @inline(__always)
  public func load8(_ offset: Int) -> UInt8 { unsafe cv_load8(cell(offset, 1)) }

  /// Loads a 16-bit word; relaxed.
  @inlinable @inline(__always)
  public func load16(_ offset: Int) -> UInt16 {
    UInt16(littleEndian: unsafe cv_load16(cell(offset, 2)))
  }

  /// Loads a 32-bit word; relaxed.
  @inlinable @inline(__always)
  public func load32(_ offset: Int) -> UInt32 {
    UInt32(littleEndian: unsafe cv_load32(cell(offset, 4)))
  }

  /// Loads a 64-bit word; relaxed.
  @inlinable @inline(__always)
  public func load64(_ offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe cv_load64(cell(offset, 8)))
  }

  /// Loads a 16-bit word; what the peer stored before its release store is visible afterwards.
  @inlinable @inline(__always)
  public func load16Acquiring(_ offset: Int) -> UInt16 {
    UInt16(littleEndian: unsafe cv_load16_acquire(cell(offset, 2)))
  }

  /// Loads a 32-bit word; what the peer stored before its release store is visible afterwards.
  @inlinable @inline(__always)
  public func load32Acquiring(_ offset: Int) -> UInt32 {
    UInt32(littleEndian: unsafe cv_load32_acquire(cell(offset, 4)))
  }

  /// Loads a 64-bit word; what the peer stored before its release store is visible afterwards.
  @inlinable @inline(__always)
  public func load64Acquiring(_ offset: Int) -> UInt64 {
    UInt64(littleEndian: unsafe cv_load64_acquire(cell(offset, 8)))
  }

  /// Stores a byte; relaxed.
  @inlinable @inline(__always)
  public func store8(_ value: UInt8, at offset: Int) {
    unsafe cv_store8(place(offset, 1), value)
  }

  /// Stores a 16-bit word; relaxed.
  @inlinable @inline(__always)
  public func store16(_ value: UInt16, at offset: Int) {
    unsafe cv_store16(place(offset, 2), value.littleEndian)
  }

  /// Stores a 32-bit word; relaxed.
  @inlinable @inline(__always)
  public func store32(_ value: UInt32, at offset: Int) {
    unsafe cv_store32(place(offset, 4), value.littleEndian)
  }

  /// Stores a 64-bit word; relaxed.
  @inlinable @inline(__always)
  public func store64(_ value: UInt64, at offset: Int) {
    unsafe cv_store64(place(offset, 8), value.littleEndian)
  }

  /// Stores a 16-bit word after everything this side stored before.
  @inlinable @inline(__always)
  public func store16Releasing(_ value: UInt16, at offset: Int) {
    unsafe cv_store16_release(place(offset, 2), value.littleEndian)
  }

  /// Stores a 32-bit word after everything this side stored before.
  @inlinable @inline(__always)
  public func store32Releasing(_ value: UInt32, at offset: Int) {
    unsafe cv_store32_release(place(offset, 4), value.littleEndian)
  }

  /// Stores a 64-bit word after everything this side stored before.
  @inlinable @inline(__always)
  public func store64Releasing(_ value: UInt64, at offset: Int) {
    unsafe cv_store64_release(place(offset, 8), value.littleEndian)
  }
}
