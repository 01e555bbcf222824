public import CommandOptions
public import LinkFormat

/// How two sides of an ivshmem link talk to each other.
public enum Dialect: String, Equatable, Sendable {
  /// docs/protocol.md.
  case native
  /// docs/siemens.md: the Linux driver `virtio_ivshmem`.
  case siemens

  /// Parses a dialect; `nil` means that the link itself tells.
  public static func parse(_ text: String, option: String) throws(UsageError) -> Dialect? {
    switch text {
    case "auto": return nil
    case native.rawValue: return .native
    case siemens.rawValue: return .siemens
    default: throw UsageError("\(option): the dialect is auto, native or siemens, got '\(text)'")
    }
  }

  /// What is known of a link before anything is written.
  public struct Signs: Equatable, Sendable {
    /// PCI class code of this side's device, 24 bits; 0 when there is none.
    public var deviceClass: UInt32
    /// State of the other side.
    public var peerState: UInt32

    /// States the signs.
    public init(deviceClass: UInt32, peerState: UInt32) {
      self.deviceClass = deviceClass
      self.peerState = peerState
    }
  }

  /// The dialect of a link by the class code of its device (ff80NN: a virtio front-end of device
  /// type NN, ffc0NN: its back-end), or else by the State of a side that is there already.
  ///
  /// - Throws: when the link is configured the wrong way round.
  public static func recognise(
    _ signs: Signs, side: LinkSide, link: String
  ) throws(UsageError) -> Dialect {
    let (family, wrong): (UInt32, UInt32) = side == .backEnd ? (0xffc0, 0xff80) : (0xff80, 0xffc0)
    switch signs.deviceClass >> 8 {
    case family: return .siemens
    case wrong:
      throw UsageError(
        "link \(link): its class \(String(signs.deviceClass, radix: 16)) says that this side is"
          + " the \(side == .backEnd ? "front-end" : "back-end"); the configuration of the cells"
          + " has the two sides swapped")
    default: return signs.peerState == SiemensHeader.ready ? .siemens : .native
    }
  }

  /// The device type that a class code names; `nil` where it names none.
  public static func deviceType(_ deviceClass: UInt32) -> UInt32? {
    let family = deviceClass >> 8
    return family == 0xffc0 || family == 0xff80 ? deviceClass & 0xff : nil
  }
}
