public import SharedMemory

/// The messages of a front-end that this back-end knows (QEMU's vhost-user specification,
/// "Front-end message types").
public enum VhostUserRequest: UInt32, Sendable {
  case getFeatures = 1
  case setFeatures = 2
  case setOwner = 3
  case resetOwner = 4
  case setMemoryTable = 5
  case setVringSize = 8
  case setVringAddresses = 9
  case setVringBase = 10
  case getVringBase = 11
  case setVringKick = 12
  case setVringCall = 13
  case setVringError = 14
  case getProtocolFeatures = 15
  case setProtocolFeatures = 16
  case getQueueCount = 17
  case setVringEnable = 18
  case setBackendChannel = 21
  case getConfiguration = 24
  case setConfiguration = 25
  case getInflight = 31
  case setInflight = 32
  case resetDevice = 34
  case vringKick = 35
  case getMemorySlotLimit = 36
  case addMemoryRegion = 37
  case removeMemoryRegion = 38
  case setStatus = 39
  case getStatus = 40
}

/// The messages of the back-end channel that this back-end sends ("Back-end message types").
enum BackendRequest {
  static var configurationChanged: UInt32 { 2 }
  static var vringCall: UInt32 { 4 }
}

/// What front-end and back-end agree about the protocol itself ("Protocol features").
public struct ProtocolFeatures: BitSet, Sendable {
  /// Bit *n* is protocol feature *n*.
  public let rawValue: UInt64

  /// Wraps a set of bits.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Several queues.
  public static var multiQueue: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 0) }
  /// A message can ask for an acknowledgement.
  public static var replyAcknowledge: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 3) }
  /// The back-end may send messages of its own.
  public static var backendChannel: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 5) }
  /// Configuration space is the back-end's.
  public static var configuration: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 9) }
  /// What is in flight is written down where it survives the back-end.
  public static var inflight: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 12) }
  /// RESET_DEVICE is known.
  public static var reset: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 13) }
  /// Kicks and calls may be messages.
  public static var inBandNotifications: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 14) }
  /// Memory regions come and go one by one.
  public static var memorySlots: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 15) }
  /// The device status travels.
  public static var status: ProtocolFeatures { ProtocolFeatures(rawValue: 1 << 16) }

  /// Everything above.
  public static var all: ProtocolFeatures {
    .multiQueue | .replyAcknowledge | .backendChannel | .configuration | .inflight | .reset
      | .inBandNotifications | .memorySlots | .status
  }
}

/// Sizes and limits of the protocol.
enum VhostUserFormat {
  /// Request, flags, size: 32 bits each.
  static var headerSize: Int { 12 }
  /// The largest payload that is taken; the largest that is known has 268 bytes.
  static var payloadLimit: Int { 1024 }
  /// Descriptors one message may carry.
  static var descriptorLimit: Int { 8 }
  /// Version 1 in the low two bits of the flags.
  static var versionMask: UInt32 { 3 }
  static var version: UInt32 { 1 }
  static var replyFlag: UInt32 { 4 }
  static var needReplyFlag: UInt32 { 8 }
  /// In the word of KICK, CALL and ERR: no descriptor comes with it.
  static var noDescriptorFlag: UInt64 { 0x100 }
  /// VHOST_USER_F_PROTOCOL_FEATURES.
  static var protocolFeaturesBit: UInt64 { 1 << 30 }
  /// Bytes of configuration space one message may carry.
  static var configurationLimit: Int { 256 }
  /// Regions of one SET_MEM_TABLE.
  static var tableLimit: Int { 8 }
}
