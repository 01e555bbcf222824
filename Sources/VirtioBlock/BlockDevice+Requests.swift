import SharedMemory
import VirtioDevice
import Virtqueue

// One request: read once, checked, handed to the host (VIRTIO 1.4, 5.2.6).
extension BlockDevice where Host: ~Copyable {
  private static func word(_ bytes: InlineArray<16, UInt8>, _ start: Int, _ width: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[start + index]) }
    return value
  }

  /// Where `count` bytes at `sector` lie; `nil` when they are no whole sectors inside the medium.
  private mutating func position(_ sector: UInt64, _ count: UInt64) -> UInt64? {
    let size = UInt64(BlockFormat.sectorSize)
    guard count > 0, count % size == 0, sector <= configuration.capacity,
      count / size <= configuration.capacity - sector
    else {
      counters.outOfRange &+= 1
      return nil
    }
    return sector * size
  }

  /// Hands a chain with a whole header and a status byte to the host; `written` are the bytes it
  /// writes in front of the status byte when all goes well.
  mutating func submit(
    _ segments: borrowing ChainSegments, _ slot: Int, _ region: SharedRegion
  ) -> (BlockSubmission, written: UInt32) {
    var header = InlineArray<16, UInt8>(repeating: 0)
    var bytes = header.mutableSpan
    _ = segments.copyReadable(from: 0, into: &bytes, in: region)
    let sector = Self.word(header, 8, 8)
    guard let type = BlockRequestType(rawValue: UInt32(Self.word(header, 0, 4))) else {
      return (.done(.unsupported), 0)
    }
    switch type {
    case .read: return submitRead(sector, segments, slot, region)
    case .write: return (submitWrite(sector, segments, slot, region), 0)
    case .flush:
      guard features.contains(.blockFlush) else { return (.done(.unsupported), 0) }
      counters.flushes &+= 1
      let request = BlockRequest(type: .flush, position: 0, count: 0)
      return (start(request, slot, segments, 0, region), 0)
    case .getID:
      counters.identifications &+= 1
      return (.done(.ok), giveID(segments, region))
    case .discard, .writeZeroes: return (submitRange(type, segments, slot, region), 0)
    }
  }

  @inline(never)
  private mutating func start(
    _ request: BlockRequest, _ slot: Int, _ segments: borrowing ChainSegments, _ skip: Int,
    _ region: SharedRegion
  ) -> BlockSubmission {
    let submission = host.submit(request, slot: slot, data: segments, skip: skip, in: region)
    if submission == .done(.ioError) { counters.hostErrors &+= 1 }
    return submission
  }

  private mutating func submitRead(
    _ sector: UInt64, _ segments: borrowing ChainSegments, _ slot: Int, _ region: SharedRegion
  ) -> (BlockSubmission, written: UInt32) {
    let count = UInt64(segments.writableByteCount - 1)
    guard let position = position(sector, count) else { return (.done(.ioError), 0) }
    counters.reads &+= 1
    counters.bytesRead &+= count
    let request = BlockRequest(type: .read, position: position, count: count)
    return (start(request, slot, segments, 0, region), UInt32(truncatingIfNeeded: count))
  }

  private mutating func submitWrite(
    _ sector: UInt64, _ segments: borrowing ChainSegments, _ slot: Int, _ region: SharedRegion
  ) -> BlockSubmission {
    // "MUST set the status byte to IOERR for a write request if RO is offered" (5.2.6.2).
    guard !host.isReadOnly else {
      counters.readOnlyViolations &+= 1
      return .done(.ioError)
    }
    let count = UInt64(segments.readableByteCount - BlockFormat.headerSize)
    guard let position = position(sector, count) else { return .done(.ioError) }
    counters.writes &+= 1
    counters.bytesWritten &+= count
    let request = BlockRequest(
      type: .write, position: position, count: count, isStable: writesAreStable)
    return start(request, slot, segments, BlockFormat.headerSize, region)
  }

  private func giveID(_ segments: borrowing ChainSegments, _ region: SharedRegion) -> UInt32 {
    var name = InlineArray<20, UInt8>(repeating: 0)
    for index in name.indices { name[index] = host.identifierByte(at: index) }
    let room = min(BlockFormat.identifierSize, segments.writableByteCount - 1)
    let bytes = name.span.extracting(0..<room)
    return UInt32(truncatingIfNeeded: segments.copyWritable(from: bytes, at: 0, in: region))
  }

  /// Discard and write zeroes carry their range as data (VIRTIO 1.4, 5.2.6.2).
  private mutating func submitRange(
    _ type: BlockRequestType, _ segments: borrowing ChainSegments, _ slot: Int,
    _ region: SharedRegion
  ) -> BlockSubmission {
    let isDiscard = type == .discard
    guard features.contains(isDiscard ? .blockDiscard : .blockWriteZeroes) else {
      return .done(.unsupported)
    }
    guard !host.isReadOnly else {
      counters.readOnlyViolations &+= 1
      return .done(.ioError)
    }
    // More segments than stated, or a part of one, is an I/O error.
    guard segments.readableByteCount == BlockFormat.headerSize + BlockFormat.rangeSize else {
      counters.outOfRange &+= 1
      return .done(.ioError)
    }
    var range = InlineArray<16, UInt8>(repeating: 0)
    var bytes = range.mutableSpan
    _ = segments.copyReadable(from: BlockFormat.headerSize, into: &bytes, in: region)
    let sectors = Self.word(range, 8, 4)
    let flags = Self.word(range, 12, 4)
    // Only write zeroes knows a flag, unmap: everything else is unsupported.
    guard flags & ~1 == 0, !isDiscard || flags == 0 else { return .done(.unsupported) }
    let limit =
      isDiscard ? configuration.maximumDiscardSectors : configuration.maximumWriteZeroesSectors
    guard sectors <= UInt64(limit) else {
      counters.outOfRange &+= 1
      return .done(.ioError)
    }
    let count = sectors * UInt64(BlockFormat.sectorSize)
    guard let position = position(Self.word(range, 0, 8), count) else { return .done(.ioError) }
    counters.discards &+= 1
    counters.bytesDiscarded &+= count
    let request = BlockRequest(
      type: type, position: position, count: count, mayUnmap: flags & 1 != 0,
      isStable: writesAreStable)
    return start(request, slot, segments, 0, region)
  }
}
