public import IVShmem
public import SharedMemory
public import Virtqueue

/// Why a link cannot carry the Siemens dialect.
public enum SiemensPlanError: Error, Equatable, Sendable {
  /// The dialect knows peers 0 and 1 and no others.
  case peers(own: PeerID, maxPeers: UInt32)
  /// The read/write section cannot hold the header and a pool.
  case sectionTooSmall(have: Int, need: Int)
  /// The driver counts chunks in 32 bits and fails from 2 GiB on.
  case sectionTooLarge(have: Int)
}

/// Who is who on a link of the Siemens dialect and where header and pool lie.
public struct SiemensPlan: Equatable, Sendable {
  /// This side.
  public let own: PeerID
  /// The other side.
  public let peer: PeerID
  /// The read/write section.
  public let section: Range<Int>
  /// Bytes of the device's configuration space.
  public let configurationSize: Int
  /// Bytes of the header with the configuration space, as it is published.
  public let headerSize: Int
  /// What rings and buffers may lie in.
  public let pool: Range<Int>
  /// The unit in which the Linux driver allocates: the section in 4096 parts, at least 64 bytes,
  /// at most a page, a power of two.
  public let chunkSize: Int
  /// Bytes that driver keeps for the header: a power of two of chunks.
  public let reservation: Int

  /// Plans a link.
  ///
  /// - Parameter configurationSize: bytes of configuration space, which the back-end knows; a
  ///   front-end learns the size of the header from the header.
  public init(
    own: PeerID, geometry: LinkGeometry, configurationSize: Int
  ) throws(SiemensPlanError) {
    guard geometry.maxPeers == 2, own.rawValue < 2 else {
      throw .peers(own: own, maxPeers: geometry.maxPeers)
    }
    precondition(configurationSize >= 0 && configurationSize <= 4096)
    let section = geometry.readWrite
    let page = 4096
    guard section.count < 1 << 31 else { throw .sectionTooLarge(have: section.count) }
    // Not 0 even without configuration: the driver would reserve 2^58 chunks.
    headerSize = (SiemensHeader.configuration + configurationSize + 7) & ~7
    var chunk = 64
    while chunk < section.count / 4096, chunk < page { chunk *= 2 }
    var reserved = chunk
    while reserved < headerSize { reserved *= 2 }
    guard section.count >= max(2 * page, reserved + page) else {
      throw .sectionTooSmall(have: section.count, need: max(2 * page, reserved + page))
    }
    self.own = own
    peer = PeerID(1 - own.rawValue)
    self.section = section
    self.configurationSize = configurationSize
    chunkSize = chunk
    reservation = reserved
    pool = section.lowerBound + headerSize..<section.upperBound
  }

  /// What a device may touch: addresses are offsets from the start of the section.
  public func access(in region: SharedRegion) -> AccessMap {
    guard
      let map = AccessMap(
        region: region, readable: pool, writable: pool,
        translationBase: 0 &- UInt64(section.lowerBound))
    else { preconditionFailure("the plan lies inside the region") }
    return map
  }

  /// The largest queue on offer: all rings together take an eighth of the pool, because what is
  /// left carries the data.
  public func queueSize(upTo maximum: QueueSize, queues: Int) -> QueueSize {
    var size = maximum
    while size.rawValue > 8 {
      let layout = QueueLayout(size)
      let bytes = layout.descriptorTable + layout.availableRing + layout.usedRing
      if bytes * queues <= pool.count / 8 { break }
      guard let half = QueueSize(size.rawValue / 2) else { break }
      size = half
    }
    return size
  }
}
