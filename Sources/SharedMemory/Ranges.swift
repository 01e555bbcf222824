/// A range as a peer states it: not yet compared with anything.
///
/// The address is in the peer's terms (for ivshmem: an offset from the start of the shared
/// memory plus the translation base of the link). Only ``AccessMap`` turns a claim into a
/// range that can be used.
public struct ClaimedRange: Equatable, Sendable {
  /// Address in the peer's terms.
  public let address: UInt64
  /// Length in bytes.
  public let count: UInt32

  /// Wraps what the peer said, as it said it.
  @inlinable
  public init(address: UInt64, count: UInt32) {
    self.address = address
    self.count = count
  }
}

/// Bytes of the shared memory that this side may read: checked against the region once.
public struct ReadableRange: Equatable, Sendable, BitwiseCopyable {
  /// Offset of the first byte from the start of the region.
  public let offset: Int
  /// Length in bytes.
  public let count: Int

  @inlinable
  init(unchecked offset: Int, count: Int) {
    self.offset = offset
    self.count = count
  }

  /// No bytes.
  @inlinable
  public static var empty: ReadableRange { ReadableRange(unchecked: 0, count: 0) }

  /// The part that starts `start` bytes in and is `count` bytes long, or `nil` when it does not
  /// lie inside this range.
  @inlinable
  public func slice(from start: Int, count: Int) -> ReadableRange? {
    guard start >= 0, count >= 0, start <= self.count, count <= self.count &- start else {
      return nil
    }
    return ReadableRange(unchecked: offset &+ start, count: count)
  }
}

/// Bytes of the shared memory that this side may write: section, direction and bounds checked.
public struct WritableRange: Equatable, Sendable, BitwiseCopyable {
  /// Offset of the first byte from the start of the region.
  public let offset: Int
  /// Length in bytes.
  public let count: Int

  @inlinable
  init(unchecked offset: Int, count: Int) {
    self.offset = offset
    self.count = count
  }

  /// No bytes.
  @inlinable
  public static var empty: WritableRange { WritableRange(unchecked: 0, count: 0) }

  /// The part that starts `start` bytes in and is `count` bytes long, or `nil` when it does not
  /// lie inside this range.
  @inlinable
  public func slice(from start: Int, count: Int) -> WritableRange? {
    guard start >= 0, count >= 0, start <= self.count, count <= self.count &- start else {
      return nil
    }
    return WritableRange(unchecked: offset &+ start, count: count)
  }

  /// The same bytes for reading: what one may write one may also read.
  @inlinable
  public var readable: ReadableRange { ReadableRange(unchecked: offset, count: count) }
}
