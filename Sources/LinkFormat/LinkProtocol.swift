/// What a link is for, as the low 16 bits of its devices' class code say.
///
/// Specification: ivshmem-v2, "Protocols".
public enum LinkProtocol: Equatable, Sendable {
  /// 0000h: not said.
  case undefined
  /// 0001h: virtual Ethernet, the protocol of Linux' ivshmem-net.
  case ethernet
  /// 0002h to 3FFFh.
  case reserved(UInt16)
  /// 4000h to 7FFFh: the user's own.
  case user(UInt16)
  /// 8000h to BFFFh: the driver's side of the virtio device with this id.
  case virtioFrontEnd(UInt16)
  /// C000h to FFFFh: the device's side of the virtio device with this id.
  case virtioBackEnd(UInt16)

  /// Decodes the 16 bits.
  public init(_ value: UInt16) {
    switch value {
    case 0: self = .undefined
    case 1: self = .ethernet
    case 2..<0x4000: self = .reserved(value)
    case 0x4000..<0x8000: self = .user(value)
    case 0x8000..<0xc000: self = .virtioFrontEnd(value & 0x3fff)
    default: self = .virtioBackEnd(value & 0x3fff)
    }
  }

  /// Decodes a 24-bit class code; `nil` when its base class is not FFh.
  public init?(classCode: UInt32) {
    guard classCode >> 16 == 0xff else { return nil }
    self.init(UInt16(truncatingIfNeeded: classCode))
  }
}
