public import VirtioDevice

/// The numbers of the block device's requests (VIRTIO 1.4, 5.2.6).
public enum BlockFormat {
  /// Bytes of a sector, the unit of every request's position (VIRTIO 1.4, 5.2.4).
  public static let sectorSize = 512
  /// Bytes of the header in front of every request: type, reserved, sector.
  public static let headerSize = 16
  /// Bytes of the device id string (VIRTIO 1.4, 5.2.6).
  public static let identifierSize = 20
  /// Bytes of one discard or write-zeroes segment: sector, count, flags.
  public static let rangeSize = 16
  /// VIRTIO device type.
  public static let deviceID: UInt32 = 2
}

/// What a request asks for (VIRTIO 1.4, 5.2.6).
public enum BlockRequestType: UInt32, Sendable, BitwiseCopyable {
  /// Read sectors.
  case read = 0
  /// Write sectors.
  case write = 1
  /// Make everything completed so far stable.
  case flush = 4
  /// Give the device's name.
  case getID = 8
  /// Tell that ranges are no longer needed.
  case discard = 11
  /// Make ranges read as zeroes.
  case writeZeroes = 13
}

/// The status byte at the end of a request (VIRTIO 1.4, 5.2.6).
public enum BlockStatus: UInt8, Sendable {
  /// Done.
  case ok = 0
  /// The device or the driver made an error.
  case ioError = 1
  /// The device does not know this request.
  case unsupported = 2
}

extension FeatureSet {
  /// VIRTIO_BLK_F_SIZE_MAX (1).
  public static let blockSizeMax = bit(1)
  /// VIRTIO_BLK_F_SEG_MAX (2).
  public static let blockSegmentMax = bit(2)
  /// VIRTIO_BLK_F_RO (5).
  public static let blockReadOnly = bit(5)
  /// VIRTIO_BLK_F_BLK_SIZE (6).
  public static let blockBlockSize = bit(6)
  /// VIRTIO_BLK_F_FLUSH (9).
  public static let blockFlush = bit(9)
  /// VIRTIO_BLK_F_TOPOLOGY (10).
  public static let blockTopology = bit(10)
  /// VIRTIO_BLK_F_CONFIG_WCE (11).
  public static let blockConfigWriteback = bit(11)
  /// VIRTIO_BLK_F_MQ (12).
  public static let blockMultiQueue = bit(12)
  /// VIRTIO_BLK_F_DISCARD (13).
  public static let blockDiscard = bit(13)
  /// VIRTIO_BLK_F_WRITE_ZEROES (14).
  public static let blockWriteZeroes = bit(14)
}
