/// Numbers of the vfio-user protocol, version 0.0: "vfio-user Protocol Specification" in QEMU's
/// documentation, and `struct vfio_*` of Linux.
public enum VfioUserFormat {
  /// Bytes of a header.
  public static let headerSize = 16
  /// The most data of one region access that is accepted and announced, in bytes.
  public static let dataLimit = 64 << 10
  /// The longest message, header included: a region write with all the data it may have.
  public static let messageLimit = headerSize + 16 + dataLimit
  /// The most descriptors one message may carry, as announced.
  public static let descriptorLimit = 16
  /// Regions a PCI device has: six BARs, the ROM, configuration space, VGA.
  public static let regionCount: UInt32 = 9
  /// The region that is configuration space.
  public static let configurationRegion: UInt32 = 7
  /// Interrupt kinds a PCI device has.
  public static let interruptKinds: UInt32 = 5

  /// Bits of a header's flags.
  enum HeaderFlag {
    static let typeMask: UInt32 = 0xf
    static let reply: UInt32 = 1
    static let noReply: UInt32 = 0x10
    static let error: UInt32 = 0x20
  }

  /// Bits of a region's flags.
  enum RegionFlag {
    static let read: UInt32 = 1
    static let write: UInt32 = 2
    static let map: UInt32 = 4
  }

  /// Bits of an interrupt kind's flags.
  enum InterruptFlag {
    static let eventDescriptor: UInt32 = 1
    static let maskable: UInt32 = 2
    static let masksItself: UInt32 = 4
    static let noResize: UInt32 = 8
  }
}

/// What a client may ask for.
public enum VfioUserCommand: UInt16, Sendable, CaseIterable {
  /// The first message: version and capabilities.
  case version = 1
  /// Memory of the client that a device might reach.
  case mapMemory = 2
  /// The end of that.
  case unmapMemory = 3
  /// What kind of device this is.
  case deviceInfo = 4
  /// Size and rights of a region.
  case regionInfo = 5
  /// Interrupts of one kind.
  case interruptInfo = 7
  /// Where interrupts are signalled; masks.
  case setInterrupts = 8
  /// Reads a region.
  case read = 9
  /// Writes a region.
  case write = 10
  /// Resets the device.
  case reset = 13
}

/// A request that is answered with an error number; the connection goes on.
public struct VfioUserFault: Error, Equatable, Sendable {
  /// The errno value of the answer.
  public let code: UInt32
  /// What was wrong, for the log.
  public let reason: String

  /// EINVAL: the request makes no sense.
  public static func invalid(_ reason: String) -> VfioUserFault {
    VfioUserFault(code: 22, reason: reason)
  }
  /// EOPNOTSUPP: a command or a flag that this server does not know.
  public static func notSupported(_ reason: String) -> VfioUserFault {
    VfioUserFault(code: 95, reason: reason)
  }
  /// EBUSY: somebody else is this peer.
  public static func busy(_ reason: String) -> VfioUserFault {
    VfioUserFault(code: 16, reason: reason)
  }
}

/// The header in front of every message.
public struct VfioUserHeader: Equatable, Sendable {
  /// Chosen by the sender, echoed in the reply.
  public var id: UInt16
  /// A ``VfioUserCommand``, if it is one that is known.
  public var command: UInt16
  /// Bytes of the whole message, this header included.
  public var size: UInt32
  /// Type, no-reply and error bits.
  public var flags: UInt32
  /// In a reply with the error bit: an errno value.
  public var error: UInt32

  /// A header of these words.
  public init(id: UInt16, command: UInt16, size: UInt32, flags: UInt32 = 0, error: UInt32 = 0) {
    self.id = id
    self.command = command
    self.size = size
    self.flags = flags
    self.error = error
  }

  /// Reads a header from the start of `bytes`; bytes behind their end count as 0.
  public init(_ bytes: [UInt8]) {
    let view = VfioUserPayload(bytes)
    self.init(
      id: UInt16(truncatingIfNeeded: view.word32(0)),
      command: UInt16(truncatingIfNeeded: view.word32(0) >> 16), size: view.word32(4),
      flags: view.word32(8), error: view.word32(12))
  }

  /// Whether the sender waits for no reply.
  public var wantsNoReply: Bool { flags & VfioUserFormat.HeaderFlag.noReply != 0 }
  /// Whether this is a command and not a reply.
  public var isCommand: Bool { flags & VfioUserFormat.HeaderFlag.typeMask == 0 }

  /// The bytes as they travel.
  public var bytes: [UInt8] {
    var writer = VfioUserWriter()
    writer.append32(UInt32(id) | UInt32(command) << 16)
    writer.append32(size)
    writer.append32(flags)
    writer.append32(error)
    return writer.bytes
  }

  /// The header of the reply to this command, with `count` bytes behind it.
  func reply(payload count: Int, error: UInt32 = 0) -> VfioUserHeader {
    VfioUserHeader(
      id: id, command: command, size: UInt32(VfioUserFormat.headerSize + count),
      flags: VfioUserFormat.HeaderFlag.reply | (error != 0 ? VfioUserFormat.HeaderFlag.error : 0),
      error: error)
  }
}

/// Little-endian words of a payload; what lies behind its end reads 0.
struct VfioUserPayload {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var count: Int { bytes.count }

  func byte(_ offset: Int) -> UInt8 { offset < bytes.count ? bytes[offset] : 0 }

  func word32(_ offset: Int) -> UInt32 {
    var value: UInt32 = 0
    for index in (0..<4).reversed() { value = value << 8 | UInt32(byte(offset + index)) }
    return value
  }

  func word64(_ offset: Int) -> UInt64 {
    UInt64(word32(offset)) | UInt64(word32(offset + 4)) << 32
  }
}

/// Builds a payload of little-endian words.
struct VfioUserWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append32(_ value: UInt32) {
    for shift in stride(from: UInt32(0), to: 32, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func append64(_ value: UInt64) {
    append32(UInt32(truncatingIfNeeded: value))
    append32(UInt32(truncatingIfNeeded: value >> 32))
  }

  mutating func append(_ more: some Sequence<UInt8>) { bytes.append(contentsOf: more) }
}
