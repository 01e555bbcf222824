public import CommandOptions
public import LinkFormat
import LinuxPCI

// The core has no texts. These are for the ends of sentences; names of enumerations that scripts
// read are those of docs/ivshmem.md.

extension Placement: CustomStringConvertible {
  /// `shared` or `output`.
  public var description: String { self == .shared ? "shared" : "output" }
}

extension LinkSide: CustomStringConvertible {
  /// `frontEnd` or `backEnd`.
  public var description: String { self == .frontEnd ? "frontEnd" : "backEnd" }
}

extension LinkReason: CustomStringConvertible {
  /// The name of docs/protocol.md, section 9.
  public var description: String {
    switch self {
    case .none: "none"
    case .badMagic: "badMagic"
    case .badVersion: "badVersion"
    case .badKind: "badKind"
    case .badPlacement: "badPlacement"
    case .unknownFeatures: "unknownFeatures"
    case .badPool: "badPool"
    case .badSlotCount: "badSlotCount"
    case .foreignRequest: "foreignRequest"
    case .refusedTransaction: "refusedTransaction"
    case .foreignAcknowledgement: "foreignAcknowledgement"
    case .brokenQueue: "brokenQueue"
    }
  }
}

/// Why the two sides cannot share this link, with the way out.
public func explain(_ error: LinkPlanError, link: String) -> UsageError {
  switch error {
  case .peers(let own, let peer, let count):
    UsageError(
      "link \(link): peers \(own.rawValue) and \(peer.rawValue) are not two of its \(count)")
  case .readWriteTooSmall(let have, let need):
    UsageError(
      "link \(link): its read/write section has \(have) bytes, the shared placement needs"
        + " \(need); make it larger or use placement=output")
  case .outputTooSmall(let have, let need):
    UsageError(
      "link \(link): its output sections have \(have) bytes, the output placement needs"
        + " \(need); make them larger or use placement=shared")
  }
}

/// Why the sizes of a platform make no link.
public func explain(_ error: GeometryError, link: String) -> UsageError {
  UsageError("link \(link): \(error)")
}
