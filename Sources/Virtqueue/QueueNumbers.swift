public import SharedMemory

/// The size of a split virtqueue: a power of two, 1 ... 32768 (VIRTIO 1.4, 2.7).
public struct QueueSize: Equatable, Sendable {
  /// The number of descriptors.
  public let rawValue: UInt16

  /// Checks a size; `nil` when it is not a power of two from 1 to 32768.
  @inlinable
  public init?(_ size: some FixedWidthInteger) {
    guard let size = UInt16(exactly: size), size > 0, size & (size &- 1) == 0 else { return nil }
    rawValue = size
  }
}

/// A free-running position in a ring: it wraps at 65536, not at the size of the queue
/// (VIRTIO 1.4, 2.7.6 and 2.7.8), and has a distance but no order.
@frozen
public struct RingIndex: Equatable, Sendable, BitwiseCopyable {
  /// The number as it stands in shared memory.
  public var rawValue: UInt16

  /// Wraps a number.
  @inlinable @inline(__always)
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }

  /// Moves on by one entry.
  @inlinable @inline(__always)
  public mutating func advance() { rawValue &+= 1 }

  /// How many entries this index is ahead of `other`, modulo 65536.
  @inlinable @inline(__always)
  public func distance(from other: RingIndex) -> UInt16 { rawValue &- other.rawValue }
}

/// What the two sides agreed about one queue.
public struct QueueFeatures: BitSet, Sendable {
  /// One bit a feature.
  public let rawValue: UInt8

  /// Wraps a set of bits.
  @inlinable
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Chains may be tables of their own (VIRTIO_F_INDIRECT_DESC; VIRTIO 1.4, 2.7.5.3).
  @inlinable
  public static var indirectDescriptors: QueueFeatures { QueueFeatures(rawValue: 1) }
  /// Notification suppression by index (VIRTIO_F_EVENT_IDX; VIRTIO 1.4, 2.7.7 and 2.7.10).
  @inlinable
  public static var eventIndex: QueueFeatures { QueueFeatures(rawValue: 2) }
  /// Buffers are used in the order they were made available (VIRTIO_F_IN_ORDER; 2.7.9).
  @inlinable
  public static var inOrder: QueueFeatures { QueueFeatures(rawValue: 4) }
}

/// Where the rings of a queue lie and what was agreed: consumed into a queue.
public struct QueueConfiguration: Equatable, Sendable {
  /// The number of descriptors.
  public let size: QueueSize
  /// Address of the descriptor table, in the driver's terms.
  public let descriptorTable: UInt64
  /// Address of the available ring, in the driver's terms.
  public let availableRing: UInt64
  /// Address of the used ring, in the driver's terms.
  public let usedRing: UInt64
  /// What was agreed.
  public let features: QueueFeatures
  /// The most descriptors one chain may have; more is an error of the driver.
  public let maximumChainLength: Int

  /// States a configuration; nothing is checked before a queue is made from it.
  public init(
    size: QueueSize, descriptorTable: UInt64, availableRing: UInt64, usedRing: UInt64,
    features: QueueFeatures = QueueFeatures(), maximumChainLength: Int = 130
  ) {
    self.size = size
    self.descriptorTable = descriptorTable
    self.availableRing = availableRing
    self.usedRing = usedRing
    self.features = features
    self.maximumChainLength = maximumChainLength
  }
}

/// Where a device goes on with a queue that an earlier device has used.
public enum QueueResumption: Equatable, Sendable {
  /// At this entry of the available ring.
  case at(UInt16)
  /// Behind this many chains that the earlier device had taken and not returned.
  case afterInFlight(UInt16)
}

/// How many bytes the three parts of a split virtqueue take (VIRTIO 1.4, 2.7, table).
public struct QueueLayout: Equatable, Sendable {
  /// Bytes of the descriptor table, which is aligned to 16.
  public let descriptorTable: Int
  /// Bytes of the available ring with `used_event`, which is aligned to 2.
  public let availableRing: Int
  /// Bytes of the used ring with `avail_event`, which is aligned to 4.
  public let usedRing: Int

  /// The lengths for a size.
  public init(_ size: QueueSize) {
    let count = Int(size.rawValue)
    descriptorTable = 16 * count
    availableRing = 6 + 2 * count
    usedRing = 6 + 8 * count
  }
}

/// The flags of a descriptor and of the rings (VIRTIO 1.4, 2.7.5, 2.7.6, 2.7.8). Computed: a stored
/// constant would cost other modules a call.
@usableFromInline
enum Flag {
  @inlinable static var next: UInt16 { 1 }
  @inlinable static var write: UInt16 { 2 }
  @inlinable static var indirect: UInt16 { 4 }
  @inlinable static var noInterrupt: UInt16 { 1 }
  @inlinable static var noNotify: UInt16 { 1 }
}

extension RingIndex {
  /// Whether a move from `old` to this index passes the event index (VIRTIO 1.4, 2.7.10): the
  /// other side asked to be told when the entry at `event` is done.
  @inlinable @inline(__always)
  func passes(event: UInt16, since old: RingIndex) -> Bool {
    rawValue &- event &- 1 < distance(from: old)
  }
}

/// What one side of a queue has done so far; counted once a publication, not once a chain.
public struct QueueCounters: Equatable, Sendable {
  /// Chains published: made available by a driver, used by a device.
  public var chains: UInt64 = 0
  /// Publications after which the other side wanted a notification.
  public var notifications: UInt64 = 0

  @usableFromInline
  init() {}
}
