public import SharedMemory

/// The checked, private copy of one chain: what the driver changes afterwards no longer counts.
///
/// Readable segments come first, then writable ones (VIRTIO 1.4, 2.7.4.2). One value serves all
/// chains of a device, one after the other. The segments lie in tables of the arena: a chain may
/// have 130 of them, too many to hold inline in a value that is passed around, and a table is
/// reached with one addition (measured: facts of the toolchain, "private table").
public struct ChainSegments: ~Copyable {
  @usableFromInline let readables: PrivateTable<ReadableRange>
  @usableFromInline let writables: PrivateTable<WritableRange>
  @usableFromInline var readableSegments = 0
  /// Both kinds together; a writable segment lies behind as many unused entries as there are
  /// readable ones, so that one counter bounds both tables.
  @usableFromInline var segmentCount = 0
  @usableFromInline var readableBytes = 0
  @usableFromInline var byteCount = 0

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
  public var writableCount: Int { segmentCount &- readableSegments }
  /// Bytes the device may read; together with ``writableByteCount`` at most 2^32 - 1.
  @inlinable
  public var readableByteCount: Int { readableBytes }
  /// Bytes the device may write.
  @inlinable
  public var writableByteCount: Int { byteCount &- readableBytes }

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
    precondition(index >= 0 && index < writableCount)
    return writables[readableSegments &+ index]
  }
}

extension ChainSegments {
  /// Counts what a finished walk left in the tables.
  @inlinable @inline(__always)
  mutating func adopt(_ chain: OpenChain) {
    readableSegments = chain.readables
    segmentCount = chain.count
    readableBytes = Int(truncatingIfNeeded: chain.readableBytes)
    byteCount = Int(truncatingIfNeeded: chain.bytes)
  }

  @usableFromInline
  mutating func removeAll() {
    readableSegments = 0
    segmentCount = 0
    readableBytes = 0
    byteCount = 0
  }

  /// Copies readable bytes of the chain, from `start`, into private memory, across segment
  /// boundaries; returns how many there were. Each byte is read once.
  @inline(never)
  public func copyReadable(
    from start: Int, into destination: inout MutableSpan<UInt8>, in region: SharedRegion
  ) -> Int {
    var reader = ChainReader(self, in: region)
    _ = reader.skip(start)
    return reader.read(into: &destination)
  }

  /// Copies private bytes into the writable part of the chain, from `start`, across segment
  /// boundaries; returns how many there was room for.
  @inline(never)
  public func copyWritable(
    from source: Span<UInt8>, at start: Int, in region: SharedRegion
  ) -> Int {
    var writer = ChainWriter(self, in: region)
    _ = writer.skip(start)
    return writer.write(source)
  }

  /// The single writable byte `offset` bytes into the writable part, or `nil` outside it. A
  /// device whose request ends after the chain was given back (virtio-blk's status) keeps this.
  public func writableByte(at offset: Int) -> WritableRange? {
    guard offset >= 0 else { return nil }
    var skip = offset
    for index in 0..<writableCount {
      let range = writable(index)
      if skip < range.count { return range.slice(from: skip, count: 1) }
      skip -= range.count
    }
    return nil
  }

  /// The last writable byte of the chain, wherever the descriptors end, or `nil` when there is
  /// none: where virtio-blk and virtio-scsi want their status (VIRTIO 1.4, 2.7.4, message framing).
  public var lastWritableByte: WritableRange? { writableByte(at: writableByteCount - 1) }
}
