/// What is wrong with the configuration space of a PCI function.
public enum PCIConfigurationError: Error, Equatable, Sendable {
  /// Fewer than 64 bytes were read.
  case tooShort(Int)
  /// Nothing answers: the vendor id reads as all ones.
  case absent
  /// Not an ordinary function's header; the header type, without the multi-function bit.
  case headerType(UInt8)
  /// A capability reaches beyond its list: its offset, or the list never ends.
  case capabilityList(UInt8)
  /// The vendor-specific capability is too short for what it has to say: its length byte.
  case vendorCapability(UInt8)
}

/// The vendor-specific capability of an ivshmem-v2 device, as it stands: nothing of it is checked
/// but its length; ``LinkGeometry`` judges the sizes.
///
/// Specification: ivshmem-v2, "Vendor Specific Capability (ID 09h)".
public struct IVShmemCapability: Equatable, Sendable {
  /// Where the capability begins in configuration space.
  public let offset: UInt8
  /// Its length in bytes: 18h, or 20h with a Base Address.
  public let length: UInt8
  /// Privileged Control; bit 0 is one-shot interrupt mode.
  public let privilegedControl: UInt8
  /// State Table Size in bytes.
  public let stateTableSize: UInt32
  /// R/W Section Size in bytes; 0 when there is none.
  public let readWriteSize: UInt64
  /// Output Section Size in bytes; 0 when there are none.
  public let outputSize: UInt64
  /// Where the shared memory lies in the guest's physical addresses; `nil` when BAR 2 has it.
  public let baseAddress: UInt64?

  /// Where Privileged Control lies in configuration space.
  public var privilegedControlOffset: Int { Int(offset) + 3 }
  /// Whether each delivery clears Interrupt Control.
  public var isOneShot: Bool { privilegedControl & 1 != 0 }
}

/// How many message-signalled vectors a function can have, and whether they are in use.
public struct MessageInterrupts: Equatable, Sendable {
  /// Where the capability begins in configuration space.
  public let offset: UInt8
  /// Vectors the device has: 1 to 2048 (MSI-X), or 1 to 32 (MSI).
  public let vectorCount: UInt16
  /// Whether the driver switched it on.
  public let isEnabled: Bool

  /// States a capability.
  public init(offset: UInt8, vectorCount: UInt16, isEnabled: Bool) {
    self.offset = offset
    self.vectorCount = vectorCount
    self.isEnabled = isEnabled
  }
}

/// What a base address register holds.
public enum BaseAddress: Equatable, Sendable {
  /// Nothing: it reads as 0, or it is the upper half of the one before.
  case none
  /// Ports.
  case ports(UInt32)
  /// Memory, with 32 or 64 address bits.
  case memory(UInt64, isWide: Bool, isPrefetchable: Bool)
}

/// The configuration space of one PCI function, decoded; a pure function of bytes that are not
/// believed.
///
/// An unprivileged reader of sysfs gets 64 bytes: then ``isComplete`` is false and what lies in
/// capabilities is unknown, not absent.
public struct PCIConfiguration: Sendable {
  /// Vendor of all ivshmem-v2 devices.
  public static let ivshmemVendor: UInt16 = 0x110a
  /// Device id of all ivshmem-v2 devices.
  public static let ivshmemDevice: UInt16 = 0x4106

  /// Vendor id (00h).
  public let vendor: UInt16
  /// Device id (02h).
  public let device: UInt16
  /// Command (04h): bit 1 memory, bit 2 bus master, bit 10 INTx disabled.
  public let command: UInt16
  /// Status (06h).
  public let status: UInt16
  /// Revision (08h).
  public let revision: UInt8
  /// Base class, sub-class and interface (0Bh to 09h) as 24 bits.
  public let classCode: UInt32
  /// Subsystem vendor id (2Ch).
  public let subsystemVendor: UInt16
  /// Subsystem id (2Eh).
  public let subsystem: UInt16
  /// Interrupt pin (3Dh): 1 to 4, 0 when there is none.
  public let interruptPin: UInt8
  /// Whether there was more than the standard header, so that the capabilities are known.
  public let isComplete: Bool
  /// The vendor-specific capability of an ivshmem-v2 device.
  public let ivshmem: IVShmemCapability?
  /// The MSI capability (id 05h).
  public let msi: MessageInterrupts?
  /// The MSI-X capability (id 11h).
  public let msix: MessageInterrupts?
  private let bases: InlineArray<6, UInt32>

  /// Decodes what was read from the start of a function's configuration space, 64 bytes or more.
  public init(_ bytes: Span<UInt8>) throws(PCIConfigurationError) {
    let space = Bytes(bytes)
    guard bytes.count >= 64 else { throw .tooShort(bytes.count) }
    guard space.word16(0) != 0xffff else { throw .absent }
    let header = space.byte(0x0e) & 0x7f
    guard header == 0 else { throw .headerType(header) }
    vendor = space.word16(0x00)
    device = space.word16(0x02)
    command = space.word16(0x04)
    status = space.word16(0x06)
    revision = space.byte(0x08)
    classCode = space.word32(0x08) >> 8
    subsystemVendor = space.word16(0x2c)
    subsystem = space.word16(0x2e)
    interruptPin = space.byte(0x3d)
    var bases = InlineArray<6, UInt32>(repeating: 0)
    for index in 0..<6 { bases[index] = space.word32(0x10 + 4 * index) }
    self.bases = bases
    isComplete = bytes.count > 64
    var found = Capabilities()
    // Status bit 4 says whether there is a list at all.
    if isComplete, status & 0x10 != 0 {
      let isOurs = vendor == Self.ivshmemVendor && device == Self.ivshmemDevice
      try found.walk(space, wantsVendor: isOurs)
    }
    ivshmem = found.ivshmem
    msi = found.msi
    msix = found.msix
  }

  /// Whether this is an ivshmem-v2 device.
  public var isIVShmem: Bool { vendor == Self.ivshmemVendor && device == Self.ivshmemDevice }

  /// What the class code says of the device's use.
  public var linkProtocol: LinkProtocol? { LinkProtocol(classCode: classCode) }

  /// The vectors the device offers, by MSI-X, else MSI, else INTx; 0 when it cannot interrupt, or
  /// `nil` when the capabilities are unknown.
  public var vectorCount: UInt16? {
    guard isComplete else { return nil }
    if let msix { return msix.vectorCount }
    if let msi { return msi.vectorCount }
    return interruptPin == 0 ? 0 : 1
  }

  /// What base address register `index`, 0 to 5, holds.
  public func baseAddress(_ index: Int) -> BaseAddress {
    precondition(index >= 0 && index < 6, "a function has six base address registers")
    if isUpperHalf(index) { return .none }
    let low = bases[index]
    if low == 0 { return .none }
    if low & 1 != 0 { return .ports(low & ~3) }
    let isWide = Self.isWide(low) && index < 5
    let high = isWide ? UInt64(bases[index + 1]) << 32 : 0
    return .memory(
      high | UInt64(low & ~15), isWide: isWide, isPrefetchable: low & 8 != 0)
  }

  private static func isWide(_ base: UInt32) -> Bool { base & 7 == 4 }

  private func isUpperHalf(_ index: Int) -> Bool {
    var isUpper = false
    for lower in 0..<index { isUpper = !isUpper && Self.isWide(bases[lower]) }
    return isUpper
  }
}

/// Little-endian words of configuration space; what was not read is 0.
private struct Bytes: ~Escapable {
  let span: Span<UInt8>

  @_lifetime(copy span)
  init(_ span: Span<UInt8>) { self.span = span }

  func byte(_ offset: Int) -> UInt8 { offset < span.count ? span[offset] : 0 }
  func word16(_ offset: Int) -> UInt16 {
    UInt16(byte(offset)) | UInt16(byte(offset + 1)) << 8
  }
  func word32(_ offset: Int) -> UInt32 {
    UInt32(word16(offset)) | UInt32(word16(offset + 2)) << 16
  }
  func word64(_ offset: Int) -> UInt64 {
    UInt64(word32(offset)) | UInt64(word32(offset + 4)) << 32
  }
}

/// The capabilities that matter here, as a walk of the list finds them; the first of each kind.
private struct Capabilities {
  var ivshmem: IVShmemCapability?
  var msi: MessageInterrupts?
  var msix: MessageInterrupts?

  mutating func walk(_ space: borrowing Bytes, wantsVendor: Bool) throws(PCIConfigurationError) {
    // 192 bytes hold at most 48 capabilities: a longer list runs in a circle.
    var left = 48
    var at = space.byte(0x34) & ~3
    while at != 0 {
      guard at >= 0x40, Int(at) + 4 <= min(space.span.count, 256), left > 0 else {
        throw .capabilityList(at)
      }
      left -= 1
      let control = space.word16(Int(at) + 2)
      switch space.byte(Int(at)) {
      case 0x05 where msi == nil:
        msi = MessageInterrupts(
          offset: at, vectorCount: 1 << min(5, (control >> 1) & 7), isEnabled: control & 1 != 0)
      case 0x09 where ivshmem == nil && wantsVendor: ivshmem = try Self.vendor(space, at)
      case 0x11 where msix == nil:
        msix = MessageInterrupts(
          offset: at, vectorCount: control & 0x7ff + 1, isEnabled: control & 0x8000 != 0)
      default: break
      }
      at = space.byte(Int(at) + 1) & ~3
    }
  }

  private static func vendor(
    _ space: borrowing Bytes, _ at: UInt8
  ) throws(PCIConfigurationError) -> IVShmemCapability {
    let offset = Int(at)
    let length = space.byte(offset + 2)
    guard length >= 0x18, offset + Int(length) <= min(space.span.count, 256) else {
      throw .vendorCapability(length)
    }
    return IVShmemCapability(
      offset: at, length: length, privilegedControl: space.byte(offset + 3),
      stateTableSize: space.word32(offset + 4), readWriteSize: space.word64(offset + 8),
      outputSize: space.word64(offset + 0x10),
      baseAddress: length >= 0x20 ? space.word64(offset + 0x18) : nil)
  }
}
