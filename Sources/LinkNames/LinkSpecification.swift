public import CommandOptions
public import LinkFormat
public import LinuxPCI

/// How a PCI function is named.
public enum FunctionName: Equatable, Sendable {
  /// By its place on the bus.
  case address(PCIAddress)
  /// By its UIO node, or a link to it below `/dev/ivshmem`.
  case node(String)

  /// Parses an address or a path below `/dev`; `nil` for anything else.
  public init?(_ text: String) {
    if let address = PCIAddress(text) {
      self = .address(address)
    } else if text.hasPrefix("/dev/"), text.utf8.count > 5 {
      self = .node(text)
    } else {
      return nil
    }
  }

  /// As the operator names it, the address in full.
  public var text: String {
    switch self {
    case .address(let address): address.description
    case .node(let path): path
    }
  }
}

/// Where a link is.
public enum LinkPlace: Equatable, Sendable {
  /// The socket of a simulated link.
  case simulator(String)
  /// A PCI function that `uio_ivshmem` has.
  case uio(FunctionName)
  /// A PCI function that `vfio-pci` has.
  case vfio(PCIAddress)
  /// A PCI function, through the driver that has it.
  case function(FunctionName)

  /// Parses `sim:PATH`, `uio:BDF`, `uio:/dev/...`, `vfio:BDF`, `BDF` or `/dev/...`; `nil` for
  /// anything else.
  public init?(_ text: String) {
    if text.hasPrefix("sim:"), text.utf8.count > 4 {
      self = .simulator(String(text.dropFirst(4)))
    } else if text.hasPrefix("uio:"), let name = FunctionName(String(text.dropFirst(4))) {
      self = .uio(name)
    } else if text.hasPrefix("vfio:"), let address = PCIAddress(text.dropFirst(5)) {
      self = .vfio(address)
    } else if let name = FunctionName(text) {
      self = .function(name)
    } else {
      return nil
    }
  }
}

/// Which link to use and as whom: `PLACE[,peer=N][,other=N][,placement=shared|output]
/// [,dialect=auto|native|siemens]`; see ``LinkPlace`` for the places.
public struct LinkSpecification: Equatable, Sendable {
  /// The places, for help texts.
  public static var placeholder: String { "PLACE[,...]" }
  /// The places, for help texts.
  public static var placeHelp: String {
    "sim:PATH, BDF, /dev/ivshmem/NAME, uio:BDF or vfio:BDF"
  }

  /// Where it is.
  public let place: LinkPlace
  /// The peer id to join as; `nil` for the side's usual one (back-end 0, front-end 1) of a
  /// simulated link, and for the one that a real device has.
  public let peer: PeerID?
  /// The other side's peer id; `nil` for the usual one.
  public let other: PeerID?
  /// Where blocks lie; `nil` for output sections where the link has them.
  public let placement: Placement?
  /// How to talk on it; `nil` when the link itself tells.
  public var dialect: Dialect?

  /// Parses the value of `--link`.
  public init(_ text: String) throws(UsageError) {
    let keyed = try KeyedValue(
      text, option: "link", known: ["peer", "other", "placement", "dialect"])
    guard let place = LinkPlace(keyed.first) else {
      throw UsageError(
        "--link \(text): expected sim:PATH (the socket of ivshmem-sim), a PCI address like"
          + " 0000:00:03.0, /dev/ivshmem/NAME, uio:BDF or vfio:BDF")
    }
    self.place = place
    peer = try Self.peer(keyed, "peer", text)
    other = try Self.peer(keyed, "other", text)
    dialect = try keyed.value("dialect").flatMap { text throws(UsageError) in
      try Dialect.parse(text, option: "--link \(keyed.first)")
    }
    switch keyed.value("placement") {
    case nil: placement = nil
    case "shared": placement = .shared
    case "output": placement = .output
    case let found?:
      throw UsageError("--link \(text): placement is shared or output, got '\(found)'")
    }
  }

  private static func peer(
    _ keyed: KeyedValue, _ key: String, _ text: String
  ) throws(UsageError) -> PeerID? {
    guard let value = keyed.value(key) else { return nil }
    guard let id = UInt16(value) else {
      throw UsageError("--link \(text): \(key) is a peer id from 0 to 65535, got '\(value)'")
    }
    return PeerID(id)
  }

  /// The link's name in messages, answers and metrics.
  @inline(never)
  public var name: String {
    switch place {
    case .simulator(let path): path
    case .uio(let name), .function(let name): name.text
    case .vfio(let address): address.description
    }
  }

  /// The link as the operator names it.
  public var text: String {
    switch place {
    case .simulator(let path): "sim:\(path)"
    case .uio(let name): "uio:\(name.text)"
    case .vfio(let address): "vfio:\(address)"
    case .function(let name): name.text
    }
  }

  /// The whole specification, which means the same link when it is parsed again.
  public var fullText: String {
    var text = text
    if let peer { text += ",peer=\(peer.rawValue)" }
    if let other { text += ",other=\(other.rawValue)" }
    if let placement { text += ",placement=\(placement == .shared ? "shared" : "output")" }
    if let dialect { text += ",dialect=\(dialect.rawValue)" }
    return text
  }

  /// The id to ask the simulator for.
  public func own(_ side: LinkSide) -> PeerID { peer ?? PeerID(side == .backEnd ? 0 : 1) }

  /// The other side's id where this side is `own`: the one that was given, else the usual one
  /// (back-end 0, front-end 1), or the other of the two when this side has that.
  public func partner(_ side: LinkSide, own: PeerID) -> PeerID {
    let usual: UInt16 = side == .backEnd ? 1 : 0
    return other ?? PeerID(own.rawValue == usual ? 1 - usual : usual)
  }
}
