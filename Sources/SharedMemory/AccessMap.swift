/// A part of a peer's address space that lies in a region.
public struct AccessWindow: Equatable, Sendable, BitwiseCopyable {
  /// The first address, in the peer's terms.
  public let address: UInt64
  /// Bytes.
  public let count: UInt64
  /// Where it starts in the region.
  public let offset: Int

  /// States a window; nothing is checked before an ``AccessMap`` is made from it.
  public init(address: UInt64, count: UInt64, offset: Int) {
    self.address = address
    self.count = count
    self.offset = offset
  }
}

/// Which bytes of a region one side may read and which it may write, and how the peer's addresses
/// translate into offsets.
///
/// A device that follows a peer's descriptors may read everything the link shows it, but may
/// write only the pool that was declared for it: not its own register block, and nothing the page
/// tables would answer with a fault (docs/protocol.md, "Placement").
public struct AccessMap: Sendable {
  /// Subtracted from every address the peer uses; 0 when addresses are offsets.
  public let translationBase: UInt64
  @usableFromInline let readableStart: UInt64
  @usableFromInline let readableCount: UInt64
  @usableFromInline let writableStart: UInt64
  @usableFromInline let writableCount: UInt64
  /// Further windows, readable and writable both; a link has none.
  @usableFromInline let others: PrivateTable<AccessWindow>?

  /// Declares the two windows, both as offsets into `region`; `nil` when one of them does not
  /// lie inside it.
  @inline(never)
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
    others = nil
  }

  /// A peer whose address space lies in the region in several parts, all readable and writable
  /// (guest memory). The first window costs nothing, the others a search: give the largest first.
  /// `nil` when there is no window, or one does not lie inside the region.
  public init?(region: SharedRegion, windows: PrivateTable<AccessWindow>) {
    guard windows.count > 0 else { return nil }
    for index in 0..<windows.count {
      let window = windows[index]
      guard window.offset >= 0, window.offset <= region.count,
        window.count <= UInt64(region.count - window.offset),
        !window.address.addingReportingOverflow(window.count).overflow
      else { return nil }
    }
    let first = windows[0]
    translationBase = first.address &- UInt64(first.offset)
    readableStart = UInt64(first.offset)
    readableCount = first.count
    writableStart = readableStart
    writableCount = readableCount
    others = windows.count > 1 ? windows : nil
  }

  /// Looks for a claim in the other windows: the slow path of guest memory.
  @usableFromInline @inline(never)
  func offsetElsewhere(_ claim: ClaimedRange) -> Int? {
    guard let others else { return nil }
    for index in 1..<others.count {
      let window = others[index]
      let distance = claim.address &- window.address
      if distance <= window.count, UInt64(claim.count) <= window.count &- distance {
        return window.offset &+ Int(truncatingIfNeeded: distance)
      }
    }
    return nil
  }

  /// Checks a claim for reading; `nil` when any byte of it lies outside the readable window.
  @inlinable @inline(__always)
  public func readable(_ claim: ClaimedRange) -> ReadableRange? {
    // Wrapping arithmetic is deliberate: an address below the window becomes a huge offset.
    let offset = claim.address &- translationBase &- readableStart
    guard offset <= readableCount, UInt64(claim.count) <= readableCount &- offset else {
      guard others != nil, let found = offsetElsewhere(claim) else { return nil }
      return ReadableRange(unchecked: found, count: Int(claim.count))
    }
    return ReadableRange(
      unchecked: Int(truncatingIfNeeded: offset &+ readableStart), count: Int(claim.count))
  }

  /// Checks a claim for writing; `nil` when any byte of it lies outside the writable window.
  @inlinable @inline(__always)
  public func writable(_ claim: ClaimedRange) -> WritableRange? {
    let offset = claim.address &- translationBase &- writableStart
    guard offset <= writableCount, UInt64(claim.count) <= writableCount &- offset else {
      guard others != nil, let found = offsetElsewhere(claim) else { return nil }
      return WritableRange(unchecked: found, count: Int(claim.count))
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
