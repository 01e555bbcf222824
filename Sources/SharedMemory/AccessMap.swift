/// Which bytes of a region one side may read and which it may write, and how the peer's addresses
/// translate into offsets.
///
/// A device that follows a peer's descriptors may read everything the link shows it, but may
/// write only the pool that was declared for it: not its own register block, and nothing the page
/// tables would answer with a fault (docs/protocol.md, "Placement").
public struct AccessMap: Equatable, Sendable {
  /// Subtracted from every address the peer uses; 0 when addresses are offsets.
  public let translationBase: UInt64
  @usableFromInline let readableStart: UInt64
  @usableFromInline let readableCount: UInt64
  @usableFromInline let writableStart: UInt64
  @usableFromInline let writableCount: UInt64

  /// Declares the two windows, both as offsets into `region`; `nil` when one of them does not
  /// lie inside it.
  public init?(
    region: SharedRegion, readable: Range<Int>, writable: Range<Int>, translationBase: UInt64 = 0
  ) {
    guard readable.lowerBound >= 0, readable.upperBound <= region.count,
      writable.lowerBound >= 0, writable.upperBound <= region.count
    else { return nil }
    self.translationBase = translationBase
    readableStart = UInt64(readable.lowerBound)
    readableCount = UInt64(readable.count)
    writableStart = UInt64(writable.lowerBound)
    writableCount = UInt64(writable.count)
  }

  /// Checks a claim for reading; `nil` when any byte of it lies outside the readable window.
  @inlinable @inline(__always)
  public func readable(_ claim: ClaimedRange) -> ReadableRange? {
    // Wrapping arithmetic is deliberate: an address below the window becomes a huge offset.
    let offset = claim.address &- translationBase &- readableStart
    guard offset <= readableCount, UInt64(claim.count) <= readableCount &- offset else {
      return nil
    }
    return ReadableRange(
      unchecked: Int(truncatingIfNeeded: offset &+ readableStart), count: Int(claim.count))
  }

  /// Checks a claim for writing; `nil` when any byte of it lies outside the writable window.
  @inlinable @inline(__always)
  public func writable(_ claim: ClaimedRange) -> WritableRange? {
    let offset = claim.address &- translationBase &- writableStart
    guard offset <= writableCount, UInt64(claim.count) <= writableCount &- offset else {
      return nil
    }
    return WritableRange(
      unchecked: Int(truncatingIfNeeded: offset &+ writableStart), count: Int(claim.count))
  }

  /// The address by which the peer knows the byte at `offset` of the region.
  @inlinable
  public func address(ofOffset offset: Int) -> UInt64 {
    UInt64(truncatingIfNeeded: offset) &+ translationBase
  }
}
