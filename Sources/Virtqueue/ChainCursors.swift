public import SharedMemory

/// Reads the readable bytes of a chain in order, across segment boundaries: how a message is cut
/// into descriptors is the driver's affair (VIRTIO 1.4, 2.7.4, message framing).
///
/// Every shared byte is read once. A cursor cannot outlive the segments it walks.
public struct ChainReader: ~Copyable, ~Escapable {
  private let segments: PrivateTable<ReadableRange>
  private let segmentCount: Int
  private let region: SharedRegion
  private var segment = 0
  private var offset = 0
  /// Bytes that were neither read nor skipped.
  public private(set) var remaining: Int

  /// Starts at the first readable byte.
  @_lifetime(borrow segments)
  public init(_ segments: borrowing ChainSegments, in region: SharedRegion) {
    self.segments = segments.readables
    segmentCount = segments.readableCount
    remaining = segments.readableByteCount
    self.region = region
  }

  /// The next contiguous piece, of at most `limit` bytes, and moves behind it; `nil` at the end.
  ///
  /// - Complexity: O(1), apart from segments without a byte.
  @_lifetime(self: copy self)
  @inline(never)
  public mutating func next(atMost limit: Int = .max) -> ReadableRange? {
    guard limit > 0 else { return nil }
    while segment < segmentCount {
      let range = segments[segment]
      let length = min(range.count &- offset, limit)
      let piece = range.slice(from: offset, count: length)
      offset &+= length
      remaining &-= length
      if offset == range.count {
        segment &+= 1
        offset = 0
      }
      if length > 0 { return piece }
    }
    return nil
  }

  /// Copies the next bytes into private memory; returns how many there were.
  @_lifetime(self: copy self)
  @inline(never)
  public mutating func read(into destination: inout MutableSpan<UInt8>) -> Int {
    var done = 0
    while let piece = next(atMost: destination.count &- done) {
      var rest = destination._mutatingExtracting(done..<done &+ piece.count)
      done &+= region.copy(piece, into: &rest)
    }
    return done
  }

  /// Moves `count` bytes on (0 or more); returns how many there were.
  @_lifetime(self: copy self)
  public mutating func skip(_ count: Int) -> Int {
    var done = 0
    while let piece = next(atMost: count &- done) { done &+= piece.count }
    return done
  }
}

/// Writes the writable bytes of a chain in order, across segment boundaries.
///
/// A cursor cannot outlive the segments it walks.
public struct ChainWriter: ~Copyable, ~Escapable {
  private let segments: PrivateTable<WritableRange>
  private let segmentCount: Int
  private let region: SharedRegion
  private var segment: Int
  private var offset = 0
  /// Bytes that were neither written nor skipped.
  public private(set) var remaining: Int

  /// Starts at the first writable byte.
  @_lifetime(borrow segments)
  public init(_ segments: borrowing ChainSegments, in region: SharedRegion) {
    self.segments = segments.writables
    segment = segments.readableCount
    segmentCount = segments.segmentCount
    remaining = segments.writableByteCount
    self.region = region
  }

  /// The next contiguous piece, of at most `limit` bytes, and moves behind it; `nil` at the end.
  ///
  /// - Complexity: O(1), apart from segments without a byte.
  @_lifetime(self: copy self)
  @inline(never)
  public mutating func next(atMost limit: Int = .max) -> WritableRange? {
    guard limit > 0 else { return nil }
    while segment < segmentCount {
      let range = segments[segment]
      let length = min(range.count &- offset, limit)
      let piece = range.slice(from: offset, count: length)
      offset &+= length
      remaining &-= length
      if offset == range.count {
        segment &+= 1
        offset = 0
      }
      if length > 0 { return piece }
    }
    return nil
  }

  /// Copies private bytes to the next writable ones; returns how many there was room for.
  @_lifetime(self: copy self)
  @inline(never)
  public mutating func write(_ source: Span<UInt8>) -> Int {
    var done = 0
    while let piece = next(atMost: source.count &- done) {
      done &+= region.copy(source.extracting(done..<done &+ piece.count), into: piece)
    }
    return done
  }

  /// Moves `count` bytes on (0 or more) without touching them; returns how many there were.
  @_lifetime(self: copy self)
  public mutating func skip(_ count: Int) -> Int {
    var done = 0
    while let piece = next(atMost: count &- done) { done &+= piece.count }
    return done
  }

  /// Moves to the last `count` writable bytes; `false`, without moving, when fewer are left.
  @_lifetime(self: copy self)
  public mutating func skipToLast(_ count: Int) -> Bool {
    guard count >= 0, count <= remaining else { return false }
    return skip(remaining - count) >= 0
  }
}
