import SharedMemory
public import VirtioDevice

/// What a network driver counts; never reset.
public struct NetDriverCounters: Equatable, Sendable {
  /// Frames given to the device, and frames taken from it.
  public var framesSent: UInt64 = 0
  /// Frames of the device that were handed out.
  public var framesReceived: UInt64 = 0
  /// Frames of the device with a wrong header, or too short for one.
  public var badFrames: UInt64 = 0
  /// Frames of the device that the caller had no room for.
  public var tooLong: UInt64 = 0
  /// Buffers the device returned empty.
  public var empty: UInt64 = 0
  /// Frames a device had not taken when it went away.
  public var lost: UInt64 = 0
  /// Commands the device refused.
  public var refusedCommands: UInt64 = 0
}

/// Bytes of a network driver's memory.
public struct NetDriverLayout: Equatable, Sendable {
  /// Queue pairs, 1 ... ``NetFormat/pairLimit``.
  public let pairs: Int
  /// Buffers a pair for frames to be sent, 1 ... 64.
  public let depth: Int
  /// Buffers a pair for received frames, 1 ... 256.
  public let receiveDepth: Int
  /// Bytes of a buffer for a frame to be sent, with the header.
  public let sendSize: Int
  /// Bytes of a buffer for a received frame, with the header. Without mergeable buffers a frame
  /// has to fit one; with them it may take several.
  public let receiveSize: Int

  /// States the sizes; as many buffers in each direction unless `receiveDepth` says otherwise.
  public init(pairs: Int, depth: Int, sendSize: Int, receiveSize: Int, receiveDepth: Int? = nil) {
    precondition(pairs > 0 && pairs <= NetFormat.pairLimit && depth > 0 && depth <= 64)
    self.receiveDepth = receiveDepth ?? depth
    precondition(self.receiveDepth > 0 && self.receiveDepth <= 256)
    precondition(sendSize >= NetFormat.headerSize + NetFormat.etherSize && sendSize <= 1 << 17)
    precondition(receiveSize >= NetFormat.headerSize && receiveSize <= 1 << 17)
    self.pairs = pairs
    self.depth = depth
    self.sendSize = sendSize
    self.receiveSize = receiveSize
  }

  /// Bytes of the largest command: two full tables of addresses.
  static var commandSize: Int { 2 + 2 * (4 + 6 * NetFormat.filterLimit) }

  /// Bytes the driver needs where it may write and the device may read.
  public var outBytes: Int { pairs * depth * sendSize + Self.commandSize }
  /// Bytes the driver needs where the device may write.
  public var inBytes: Int { pairs * receiveDepth * receiveSize + 1 }
  /// Queues the driver uses.
  public var queueCount: Int { 2 * pairs + 1 }
  /// Descriptors the driver needs in every queue.
  public var queueSize: Int { max(max(depth, receiveDepth), 2) }
}

/// The configuration space of a device, as a driver reads it (VIRTIO 1.4, 5.1.4): fields of
/// features that were not agreed have the values the specification gives them.
public struct NetConfiguration: Equatable, Sendable {
  /// The device's address; `nil` when it has none or says nonsense.
  public let address: MACAddress?
  /// Whether there is a link.
  public let isLinkUp: Bool
  /// Whether the driver is asked to announce itself.
  public let isAnnouncementDue: Bool
  /// Queue pairs, 1 ... ``NetFormat/pairLimit``.
  public let pairs: Int
  /// The largest packet; 1500 when the device does not say, or says less than 68.
  public let mtu: Int

  /// Reads the first ``NetFormat/configurationSize`` of `bytes`.
  public init(_ bytes: Span<UInt8>, features: FeatureSet) {
    func word(_ start: Int) -> UInt16 { UInt16(bytes[start]) | UInt16(bytes[start + 1]) << 8 }
    let claimed = MACAddress(bytes, at: 0)
    address = features.contains(.netAddress) && claimed.isStation ? claimed : nil
    let status = NetStatus(rawValue: word(6))
    let hasStatus = features.contains(.netStatus)
    isLinkUp = !hasStatus || status.contains(.linkUp)
    isAnnouncementDue =
      hasStatus && features.contains(.netAnnounce) && status.contains(.announce)
    let count = features.contains(.netQueuePairs) ? Int(word(8)) : 1
    pairs = min(max(count, 1), NetFormat.pairLimit)
    let size = features.contains(.netMTU) ? Int(word(10)) : 1500
    mtu = NetFormat.mtuRange.contains(size) ? size : 1500
  }
}
