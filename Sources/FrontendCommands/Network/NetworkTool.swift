import CCellmate
import CLinux
public import CommandOptions
import LinuxSupport
public import ToolSupport

/// `ivshmem frontend network`: drives a network device from the command line.
public struct NetworkTool: Sendable {
  /// What the tool can do.
  public static let actions = "info, bridge, send, receive"

  /// The options of the tool.
  public static let options =
    FrontendPlace.options + [
      OptionSpecification("tap", "NAME", "bridge: with a tap of this machine (made if missing)"),
      OptionSpecification(
        "socket", "PATH", "bridge: with a Unix stream socket, as QEMU and passt have"),
      OptionSpecification("stdio", "bridge: with standard input and output, framed the same way"),
      OptionSpecification("to", "ADDRESS", "send: whom; default is everybody (broadcast)"),
      OptionSpecification("from", "ADDRESS", "send: as whom; default is the device's address"),
      OptionSpecification("count", "N", "send, receive: frames (default 1000)"),
      OptionSpecification("size", "BYTES", "send: bytes a frame (42 to 65549, default 1514)"),
      OptionSpecification(
        "window", "N", "send: unacknowledged frames (default 32); 0: nobody answers"),
      OptionSpecification("edges", "send: fill only the first and last bytes (to measure)"),
      OptionSpecification("address", "ADDRESS", "ask the device for another address"),
      OptionSpecification("own", "take frames for the own address, and broadcasts, alone"),
      OptionSpecification("pairs", "N", "queue pairs to use (1 to 8, default 1)"),
      OptionSpecification(
        "without", "LIST", "features not to use: checksum, tso, mergeable, control"),
      OptionSpecification("json", "info, send, receive: the result as one JSON object"),
    ] + FrontendPlace.lastOptions

  private let place: FrontendPlace
  private let action: String
  private let end: String?
  private let traffic: TrafficPlan
  private let address: EtherAddress?
  private let takesOwn: Bool
  private let pairs: Int
  private let withheld: UInt32
  private let isJSON: Bool

  /// Checks the command line; nothing is opened yet.
  public init(_ action: String, _ given: CommandOptions) throws(UsageError) {
    guard ["info", "bridge", "send", "receive"].contains(action) else {
      throw UsageError("unknown action '\(action)'; known are: \(Self.actions)")
    }
    place = try FrontendPlace(given)
    self.action = action
    end = try Self.end(action, given)
    traffic = try TrafficPlan(given)
    address = try Self.address(given, "address")
    takesOwn = given.has("own")
    pairs = Int(try given.number("pairs", in: 1...8, default: 1))
    withheld = try Self.withheld(given.value("without") ?? "")
    isJSON = given.has("json")
    guard address == nil && !takesOwn || withheld & Self.withoutControl == 0 else {
      throw UsageError("--address and --own need the control queue; leave --without control out")
    }
  }

  private static func end(
    _ action: String, _ given: CommandOptions
  ) throws(UsageError) -> String? {
    var ends: [String] = []
    if let name = given.value("tap") { ends.append("tap:" + (try tapName(name))) }
    if let path = given.value("socket") { ends.append("socket:" + path) }
    if given.has("stdio") { ends.append("stdio") }
    guard action == "bridge" else {
      guard ends.isEmpty else {
        throw UsageError("\(action): --tap, --socket and --stdio go with bridge")
      }
      return nil
    }
    guard ends.count == 1 else {
      throw UsageError("bridge needs one far end: --tap NAME, --socket PATH or --stdio")
    }
    return ends[0]
  }

  /// Checks the name of a tap.
  private static func tapName(_ name: String) throws(UsageError) -> String {
    guard !name.isEmpty, name.utf8.count <= 15, !name.contains("/") else {
      throw UsageError("tap \(name): a name has 1 to 15 bytes and no slash")
    }
    return name
  }

  static func address(
    _ given: CommandOptions, _ option: String
  ) throws(UsageError) -> EtherAddress? {
    guard let text = given.value(option) else { return nil }
    guard let address = EtherAddress(text) else {
      throw UsageError("--\(option) \(text): expected an address as 02:00:00:00:00:01")
    }
    return address
  }

  private static var withoutControl: UInt32 { UInt32(CELLMATE_WITHOUT_CONTROL) }

  private static func withheld(_ list: String) throws(UsageError) -> UInt32 {
    var result: UInt32 = 0
    for name in list.split(separator: ",") {
      switch name {
      case "checksum": result |= UInt32(CELLMATE_WITHOUT_CHECKSUM)
      case "tso": result |= UInt32(CELLMATE_WITHOUT_TSO)
      case "mergeable": result |= UInt32(CELLMATE_WITHOUT_MERGEABLE)
      case "control": result |= withoutControl
      default:
        throw UsageError(
          "--without \(name): expected some of checksum, tso, mergeable, control")
      }
    }
    return result
  }

  /// Runs the action.
  public func run() throws(ClientError) {
    var driver = unsafe try LibraryDriver(place) { link, driver, error in
      unsafe cellmate_network_create(
        link, place.slot, UInt32(pairs), refused, driver, error)
    }
    try driver.start()
    var commands = NetworkCommands(address: address, takesOwn: takesOwn)
    try commands.run(&driver, patience: place.patience)
    switch action {
    case "info": info(try driver.networkFacts())
    case "bridge":
      guard let end else { preconditionFailure("a bridge has a far end") }
      var session = try BridgeSession(end, place, commands, driver)
      try session.run(&driver)
    default:
      var session = TrafficSession(traffic, place, commands, isJSON: isJSON)
      if action == "send" { try session.send(&driver) } else { try session.receive(&driver) }
    }
  }

  /// What may not be left undone in frames that another end cannot finish.
  private var refused: UInt32 {
    if let end, end.hasPrefix("tap:") { return withheld }
    return withheld | UInt32(CELLMATE_WITHOUT_UNFINISHED)
  }

  private func info(_ now: cellmate_network_facts) {
    let address = now.ownAddress.map { $0.text } ?? "none"
    let features = String(now.features, radix: 16)
    let control = now.control_queue < 0 ? nil : "\(now.control_queue)"
    let isUp = now.is_link_up != 0
    if isJSON {
      writeOutput(
        "{\"address\":\"\(address)\",\"linkUp\":\(isUp),\"mtu\":\(now.mtu),"
          + "\"pairs\":\(now.pairs),\"pairsInUse\":\(now.pairs_in_use),"
          + "\"controlQueue\":\(control ?? "null"),\"frameLimit\":\(now.frame_limit),"
          + "\"features\":\"0x\(features)\"}\n")
    } else {
      writeOutput(
        """
        address     \(address)
        link        \(isUp ? "up" : "down")
        MTU         \(now.mtu)
        pairs       \(now.pairs_in_use) of \(now.pairs) in use
        control     \(control.map { "queue \($0)" } ?? "no queue")
        frames      up to \(now.frame_limit) bytes
        features    0x\(features)

        """)
    }
  }
}
