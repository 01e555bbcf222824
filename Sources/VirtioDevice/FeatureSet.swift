public import SharedMemory

/// Feature bits of a device or driver (VIRTIO 1.4, 2.2 and chapter 6).
public struct FeatureSet: BitSet, Sendable {
  /// Bit *n* stands for feature *n*; features above 63 are not used by any device here.
  public let rawValue: UInt64

  /// Wraps a set of bits.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The set that holds feature number `bit` alone.
  public static func bit(_ bit: UInt64) -> FeatureSet { FeatureSet(rawValue: 1 << bit) }

  /// VIRTIO_F_INDIRECT_DESC (28).
  public static let indirectDescriptors = bit(28)
  /// VIRTIO_F_EVENT_IDX (29).
  public static let eventIndex = bit(29)
  /// VIRTIO_F_VERSION_1 (32); mandatory.
  public static let version1 = bit(32)
  /// VIRTIO_F_ACCESS_PLATFORM (33); mandatory where the device reaches only the shared region.
  public static let accessPlatform = bit(33)
  /// VIRTIO_F_IN_ORDER (35).
  public static let inOrder = bit(35)
  /// VIRTIO_F_ORDER_PLATFORM (36).
  public static let orderPlatform = bit(36)
  /// VIRTIO_F_RING_RESET (40).
  public static let ringReset = bit(40)

  /// What the transport and the rings offer on behalf of every device.
  public static let transport: FeatureSet = FeatureSet.indirectDescriptors.union(.eventIndex).union(
    .version1
  )
  .union(.accessPlatform).union(.inOrder).union(.orderPlatform).union(.ringReset)

  /// What a driver has to accept on a shared-memory link.
  public static let required: FeatureSet = .version1 | .accessPlatform
}
