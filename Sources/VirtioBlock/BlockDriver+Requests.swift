import SharedMemory
public import Virtqueue

// The six requests (VIRTIO 1.4, 5.2.6). Each is checked against what the device said of itself,
// once there was a device; `token` comes back with the completion, the buffer with it.
extension BlockDriver {
  /// Reads sectors from `sector` on into `buffer`, which the device may write.
  ///
  /// - Throws: that there is no room now, or that the request is not one this device can do.
  public mutating func read(
    sector: UInt64, into buffer: BufferSegment, token: UInt32
  ) throws(BlockDriverError) {
    try checkData(sector, buffer.count)
    try open(Request(type: .read, sector: sector, token: token, data: buffer))
  }

  /// Writes `buffer`, which the device may read, to the sectors from `sector` on. The buffer stays
  /// as it is until the completion: the request may be repeated.
  ///
  /// - Throws: that there is no room now, or that the request is not one this device can do.
  public mutating func write(
    sector: UInt64, from buffer: BufferSegment, token: UInt32
  ) throws(BlockDriverError) {
    try checkWritable()
    try checkData(sector, buffer.count)
    try open(Request(type: .write, sector: sector, token: token, data: buffer))
  }

  /// Makes every write whose completion was taken stable.
  ///
  /// - Throws: that there is no room now, or that the device has no flush.
  public mutating func flush(token: UInt32) throws(BlockDriverError) {
    if isAttached, !features.contains(.blockFlush) { throw .notOffered(.flush) }
    try open(Request(type: .flush, token: token))
  }

  /// Asks for the device's name: 20 bytes, padded with zeroes, into `buffer`.
  ///
  /// - Throws: that there is no room now, or that the buffer is not of 20 bytes.
  public mutating func getID(
    into buffer: BufferSegment, token: UInt32
  ) throws(BlockDriverError) {
    guard buffer.count == BlockFormat.identifierSize else {
      throw .badLength(buffer.count, limit: BlockFormat.identifierSize)
    }
    try open(Request(type: .getID, token: token, data: buffer))
  }

  /// Tells that `sectors` sectors from `sector` on are no longer needed.
  ///
  /// - Throws: that there is no room now, or that the request is not one this device can do.
  public mutating func discard(
    sector: UInt64, sectors: UInt32, token: UInt32
  ) throws(BlockDriverError) {
    if isAttached, !features.contains(.blockDiscard) { throw .notOffered(.discard) }
    try checkRange(sector, sectors, limit: configuration.maximumDiscardSectors)
    try open(Request(type: .discard, sector: sector, sectors: sectors, token: token))
  }

  /// Whether write zeroes may give the storage back.
  public enum Unmapping: Equatable, Sendable {
    /// The storage stays allocated.
    case keep
    /// The device may free it.
    case allow
  }

  /// Makes `sectors` sectors from `sector` on read as zeroes.
  ///
  /// - Throws: that there is no room now, or that the request is not one this device can do.
  public mutating func writeZeroes(
    sector: UInt64, sectors: UInt32, unmapping: Unmapping, token: UInt32
  ) throws(BlockDriverError) {
    if isAttached, !features.contains(.blockWriteZeroes) { throw .notOffered(.writeZeroes) }
    try checkRange(sector, sectors, limit: configuration.maximumWriteZeroesSectors)
    try open(
      Request(
        type: .writeZeroes, mayUnmap: unmapping == .allow, sector: sector, sectors: sectors,
        token: token))
  }

  private func checkWritable() throws(BlockDriverError) {
    if isAttached, features.contains(.blockReadOnly) { throw .readOnly }
  }

  private func checkData(_ sector: UInt64, _ count: Int) throws(BlockDriverError) {
    // One data segment, of at most SIZE_MAX bytes where the device says so.
    let stated = isAttached && features.contains(.blockSizeMax) && configuration.sizeMax > 0
    let limit = stated ? Int(configuration.sizeMax) : 1 << 30
    guard count > 0, count % BlockFormat.sectorSize == 0, count <= limit else {
      throw .badLength(count, limit: limit)
    }
    try checkInside(sector, UInt64(count / BlockFormat.sectorSize))
  }

  private func checkRange(
    _ sector: UInt64, _ sectors: UInt32, limit: UInt32
  ) throws(BlockDriverError) {
    try checkWritable()
    guard sectors > 0 else {
      throw .outOfRange(sector: sector, sectors: 0, capacity: configuration.capacity)
    }
    guard !isAttached || sectors <= limit else { throw .tooManySectors(sectors, limit: limit) }
    try checkInside(sector, UInt64(sectors))
  }

  private func checkInside(_ sector: UInt64, _ sectors: UInt64) throws(BlockDriverError) {
    let capacity = configuration.capacity
    guard !isAttached || (sector <= capacity && sectors <= capacity - sector) else {
      throw .outOfRange(sector: sector, sectors: sectors, capacity: capacity)
    }
  }
}
