public import CommandOptions
public import IVShmem
public import VirtioTransport

/// Where a link is.
public enum LinkPlace: Equatable, Sendable {
  /// The socket of a simulated link.
  case simulator(String)
}

/// Which link to use and as whom: `sim:PATH[,peer=N][,placement=shared|output]
/// [,dialect=auto|native|siemens]`.
public struct LinkSpecification: Equatable, Sendable {
  /// Where it is.
  public let place: LinkPlace
  /// The peer id to join as; `nil` for the side's usual one (back-end 0, front-end 1).
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
    guard keyed.first.hasPrefix("sim:"), keyed.first.count > 4 else {
      throw UsageError(
        "--link \(text): expected sim:PATH, the socket of ivshmem-sim"
          + " (real devices arrive with the UIO and VFIO platforms)")
    }
    place = .simulator(String(keyed.first.dropFirst(4)))
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
  public var name: String {
    switch place {
    case .simulator(let path): path
    }
  }

  /// The link as the operator names it.
  public var text: String {
    switch place {
    case .simulator(let path): "sim:\(path)"
    }
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
