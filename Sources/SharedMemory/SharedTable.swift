public import CVolatile

#if CELLMATE_WATCH
  public import CWatch
#endif

/// A table of a power-of-two number of fixed-size entries in shared memory, whose index wraps:
/// the shape of descriptor tables and rings.
///
/// An index is reduced modulo the number of entries, so no index can leave the table and the hot
/// path pays no second bounds check. `stride` is the size of an entry in bytes.
@safe
public struct SharedTable<let stride: Int>: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutableRawPointer
  @usableFromInline let mask: Int

  /// The number of entries.
  @inlinable
  public var entryCount: Int { mask &+ 1 }

  @usableFromInline
  init?(region: SharedRegion, offset: Int, entryCount: Int) {
    guard entryCount > 0, entryCount & (entryCount &- 1) == 0, offset >= 0,
      entryCount <= Int(Int32.max), offset <= region.count,
      entryCount &* stride <= region.count &- offset
    else { return nil }
    // SAFETY: all entries lie inside the mapping.
    unsafe base = region.base + offset
    mask = entryCount &- 1
  }

  @inlinable @inline(__always)
  func entry(_ index: Int, _ field: Int, _ size: Int) -> UnsafeMutableRawPointer {
    assert(field >= 0 && field &+ size <= stride)
    // SAFETY: the mask keeps the entry inside the table that `init` checked.
    let entry = unsafe base + ((index & mask) &* stride &+ field)
    #if CELLMATE_WATCH
      unsafe cw_access(entry, size)
    #endif
    return unsafe entry
  }

  /// Where a field is stored: a step of test builds.
  @inlinable @inline(__always)
  func place(_ index: Int, _ field: Int, _ size: Int) -> UnsafeMutableRawPointer {
    let entry = unsafe entry(index, field, size)
    #if CELLMATE_WATCH
      return unsafe cw_store(entry, size)
    #else
      return unsafe entry
    #endif
  }

  /// Loads a 16-bit field of an entry; relaxed.
  @inlinable @inline(__always)
  public func load16(_ index: Int, field: Int = 0) -> UInt16 {
    UInt16(littleEndian: unsafe cv_load16(entry(index, field, 2)))
  }

  /// Loads a 32-bit field of an entry; relaxed.
  @inlinable @inline(__always)
  public func load32(_ index: Int, field: Int = 0) -> UInt32 {
    UInt32(littleEndian: unsafe cv_load32(entry(index, field, 4)))
  }

  /// Loads a 64-bit field of an entry; relaxed. The table must be 8-byte aligned.
  @inlinable @inline(__always)
  public func load64(_ index: Int, field: Int = 0) -> UInt64 {
    UInt64(littleEndian: unsafe cv_load64(entry(index, field, 8)))
  }

  /// Loads a 16-bit field; what the peer stored before its release store is visible afterwards.
  @inlinable @inline(__always)
  public func load16Acquiring(_ index: Int, field: Int = 0) -> UInt16 {
    UInt16(littleEndian: unsafe cv_load16_acquire(entry(index, field, 2)))
  }

  /// Stores a 16-bit field after everything this side stored before.
  @inlinable @inline(__always)
  public func store16Releasing(_ value: UInt16, _ index: Int, field: Int = 0) {
    unsafe cv_store16_release(place(index, field, 2), value.littleEndian)
  }

  /// Stores a 16-bit field of an entry; relaxed.
  @inlinable @inline(__always)
  public func store16(_ value: UInt16, _ index: Int, field: Int = 0) {
    unsafe cv_store16(place(index, field, 2), value.littleEndian)
  }

  /// Stores a 32-bit field of an entry; relaxed.
  @inlinable @inline(__always)
  public func store32(_ value: UInt32, _ index: Int, field: Int = 0) {
    unsafe cv_store32(place(index, field, 4), value.littleEndian)
  }

  /// Stores a 64-bit field of an entry; relaxed. The table must be 8-byte aligned.
  @inlinable @inline(__always)
  public func store64(_ value: UInt64, _ index: Int, field: Int = 0) {
    unsafe cv_store64(place(index, field, 8), value.littleEndian)
  }
}

extension SharedRegion {
  /// A table of `entryCount` entries of `stride` bytes at `offset`; `nil` when it does not lie
  /// inside the region or `entryCount` is not a power of two.
  public func table<let stride: Int>(
    at offset: Int, entryCount: Int
  ) -> SharedTable<stride>? {
    SharedTable<stride>(region: self, offset: offset, entryCount: entryCount)
  }
}
