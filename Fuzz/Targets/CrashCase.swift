public import VirtioTransport

/// One crash, or two: who dies before which step, and what its death looks like.
///
/// It reads and prints as `output,back-end,123,hidden,then,front-end,45`, for other devices than
/// the disk with their name in front: `console,output,back-end,123`.
public struct CrashCase: Equatable, Sendable, CustomStringConvertible {
  /// Which device the story is about.
  public enum Device: String, CaseIterable, Sendable {
    /// A disk.
    case block
    /// Two ports and their control queues.
    case console
    /// Random numbers.
    case entropy
    /// Frames and commands.
    case network
  }

  /// Which device.
  public var device = Device.block
  /// Where blocks and pools lie.
  public var placement: Placement
  /// Who dies.
  public var side: LinkSide
  /// Before which of its steps, from 1; 0: not at all.
  public var step: UInt64
  /// Whether the hypervisor hides the death: no State 0, no interrupt.
  public var isHidden = false
  /// Whether the new start finds garbage at the beginning of what the dead side owned.
  public var findsGarbage = false
  /// Who dies next, so many of its steps after the first one came back; 0: nobody.
  public var nextSide = LinkSide.frontEnd
  /// Steps until then.
  public var nextStep: UInt64 = 0

  /// One crash.
  public init(
    _ placement: Placement, _ side: LinkSide, step: UInt64, device: Device = .block
  ) {
    self.device = device
    self.placement = placement
    self.side = side
    self.step = step
  }

  private static func name(_ side: LinkSide) -> String {
    side == .backEnd ? "back-end" : "front-end"
  }

  private static func side(_ name: some StringProtocol) -> LinkSide? {
    name == "back-end" ? .backEnd : name == "front-end" ? .frontEnd : nil
  }

  /// As ``init(_:)`` reads it.
  public var description: String {
    var text = device == .block ? "" : "\(device.rawValue),"
    text += placement == .shared ? "shared" : "output"
    text += ",\(Self.name(side)),\(step)"
    if isHidden { text += ",hidden" }
    if findsGarbage { text += ",garbage" }
    if nextStep > 0 { text += ",then,\(Self.name(nextSide)),\(nextStep)" }
    return text
  }

  /// Reads what ``description`` prints; `nil` when it is something else.
  public init?(_ text: String) {
    var words = text.split(separator: ",")[...]
    // The disk has no name here: there is one text for each case.
    let device = words.first.flatMap { Device(rawValue: String($0)) }
    if device != nil { words = words.dropFirst() }
    guard device != .block, words.count >= 3, let side = Self.side(words[words.startIndex + 1]),
      let step = UInt64(words[words.startIndex + 2]),
      let place = words.first, place == "shared" || place == "output"
    else { return nil }
    self.init(place == "shared" ? .shared : .output, side, step: step)
    self.device = device ?? .block
    words = words.dropFirst(3)
    while let word = words.popFirst() {
      switch word {
      case "hidden": isHidden = true
      case "garbage": findsGarbage = true
      case "then":
        guard let name = words.popFirst(), let next = Self.side(name),
          let steps = words.popFirst().flatMap({ UInt64($0) })
        else { return nil }
        nextSide = next
        nextStep = steps
      default: return nil
      }
    }
  }
}
