public import SharedMemory

/// The checked, private copy of one chain: what the driver changes afterwards no longer counts.
///
/// Readable segments come first, then writable ones (VIRTIO 1.4, 2.7.4.2). One value serves all
/// chains of a device, one after the other.
public struct ChainSegments: ~Copyable {
  @usableFromInline let readables: PrivateTable<ReadableRange>
  @usableFromInline let writables: PrivateTable<WritableRange>
  @usableFromInline var readableSegments = 0
  @usableFromInline var writableSegments = 0
  @usableFromInline var readableBytes = 0
  @usableFromInline var writableBytes = 0

  /// Room for chains of up to `capacity` descriptors; `nil` when `arena` is used up.
  public init?(capacity: Int, arena: inout PrivateArena) {
    guard let readables = arena.table(of: capacity, initial: ReadableRange.empty),
      let writables = arena.table(of: capacity, initial: WritableRange.empty)
    else { return nil }
    self.readables = readables
    self.writables = writables
  }

  /// Segments the device may read.
  @inlinable
  public var readableCount: Int { readableSegments }
  /// Segments the device may write.
  @inlinable
  public var writableCount: Int { writableSegments }
  /// Bytes the device may read.
  @inlinable
  public var readableByteCount: Int { readableBytes }
  /// Bytes the device may write.
  @inlinable
  public var writableByteCount: Int { writableBytes }

  /// The most descriptors a chain may have.
  @inlinable
  public var capacity: Int { readables.count }

  /// Readable segment `index`, below ``readableCount``.
  @inlinable
  public func readable(_ index: Int) -> ReadableRange {
    precondition(index < readableCount)
    return readables[index]
  }

  /// Writable segment `index`, below ``writableCount``.
  @inlinable
  public func writable(_ index: Int) -> WritableRange {
    precondition(index < writableCount)
    return writables[index]
  }

  @inlinable @inline(__always)
  mutating func removeAll() {
    readableSegments = 0
    writableSegments = 0
    readableBytes = 0
    writableBytes = 0
  }

  @inlinable @inline(__always)
  mutating func append(_ range: ReadableRange) {
    readables[readableSegments] = range
    readableSegments &+= 1
    readableBytes &+= range.count
  }

  @inlinable @inline(__always)
  mutating func append(_ range: WritableRange) {
    writables[writableSegments] = range
    writableSegments &+= 1
    writableBytes &+= range.count
  }
}

extension ChainSegments {
  /// Copies readable bytes of the chain, from `start`, into private memory, across segment
  /// boundaries; returns how many there were. Each byte is read once.
  public func copyReadable(
    from start: Int, into destination: inout MutableSpan<UInt8>, in region: SharedRegion
  ) -> Int {
    var skip = start
    var done = 0
    for index in 0..<readableCount {
      let range = readables[index]
      if skip >= range.count {
        skip -= range.count
        continue
      }
      guard done < destination.count else { break }
      let length = min(range.count - skip, destination.count - done)
      guard let part = range.slice(from: skip, count: length) else { break }
      var rest = destination._mutatingExtracting(done..<done + length)
      done += region.copy(part, into: &rest)
      skip = 0
    }
    return done
  }

  /// Copies private bytes into the writable part of the chain, from `start`, across segment
  /// boundaries; returns how many there was room for.
  public func copyWritable(
    from source: Span<UInt8>, at start: Int, in region: SharedRegion
  ) -> Int {
    var skip = start
    var done = 0
    for index in 0..<writableCount {
      let range = writables[index]
      if skip >= range.count {
        skip -= range.count
        continue
      }
      guard done < source.count else { break }
      let length = min(range.count - skip, source.count - done)
      guard let part = range.slice(from: skip, count: length) else { break }
      done += region.copy(source.extracting(done..<done + length), into: part)
      skip = 0
    }
    return done
  }

  /// The single writable byte `offset` bytes into the writable part, or `nil` outside it. A
  /// device whose request ends after the chain was given back (virtio-blk's status) keeps this.
  public func writableByte(at offset: Int) -> WritableRange? {
    var skip = offset
    for index in 0..<writableCount {
      let range = writables[index]
      if skip < range.count { return range.slice(from: skip, count: 1) }
      skip -= range.count
    }
    return nil
  }
}
