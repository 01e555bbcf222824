import CLinux
public import CommandOptions
import HostResources
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// `ivshmem frontend network`: drives a network device from the command line.
public struct NetworkTool: DeviceTool, Sendable {
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

  let place: FrontendPlace
  private let action: String
  private let end: FrameEnd.Kind?
  private let traffic: TrafficPlan
  private let address: MACAddress?
  private let takesOwn: Bool
  private let pairs: Int
  private let withheld: FeatureSet
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
    guard address == nil && !takesOwn || !withheld.contains(.netControl) else {
      throw UsageError("--address and --own need the control queue; leave --without control out")
    }
  }

  private static func end(
    _ action: String, _ given: CommandOptions
  ) throws(UsageError) -> FrameEnd.Kind? {
    var ends: [FrameEnd.Kind] = []
    if let name = given.value("tap") { ends.append(.tap(try NetworkSpecification.tapName(name))) }
    if let path = given.value("socket") { ends.append(.socket(path)) }
    if given.has("stdio") { ends.append(.stdio) }
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

  static func address(
    _ given: CommandOptions, _ option: String
  ) throws(UsageError) -> MACAddress? {
    guard let text = given.value(option) else { return nil }
    guard let address = NetworkSpecification.address(text) else {
      throw UsageError("--\(option) \(text): expected an address as 02:00:00:00:00:01")
    }
    return address
  }

  private static func withheld(_ list: String) throws(UsageError) -> FeatureSet {
    var result = FeatureSet()
    let cut = FeatureSet.netHostTCP4.union(.netHostTCP6).union(.netGuestTCP4).union(.netGuestTCP6)
      .union(.netHostECN).union(.netGuestECN)
    for name in list.split(separator: ",") {
      switch name {
      case "checksum": result = result.union(cut).union(.netChecksum).union(.netGuestChecksum)
      case "tso": result = result.union(cut)
      case "mergeable": result = result.union(.netMergeable)
      case "control": result = result.union(.netControl).union(.netQueuePairs)
      default:
        throw UsageError(
          "--without \(name): expected some of checksum, tso, mergeable, control")
      }
    }
    return result
  }

  /// Runs the action.
  public func run() throws(ClientError) { try open() }

  var memoryBytes: Int { NetworkPortDriver.memoryBytes(pairs: pairs) }

  /// What may not be left undone in frames that another end cannot finish.
  private var refused: FeatureSet {
    if case .tap = end { return withheld }
    let guest = FeatureSet.netGuestChecksum.union(.netGuestTCP4).union(.netGuestTCP6)
    return withheld.union(guest).union(.netGuestECN)
  }

  func drive(_ path: consuming some DevicePath & ~Copyable) throws(ClientError) {
    var path = path
    let driver = try NetworkPortDriver(pairs: pairs, without: refused, &path)
    var client = DeviceClient(path, driver, place)
    do throws(ClientError) {
      try client.start()
      var commands = NetworkCommands(address: address, takesOwn: takesOwn)
      try commands.run(&client, patience: place.patience)
      switch action {
      case "info": info(client)
      case "bridge":
        var session = try BridgeSession(end, place, commands, wake: client.wakeDescriptor)
        try session.run(&client)
      default:
        var session = TrafficSession(traffic, place, commands, isJSON: isJSON)
        if action == "send" { try session.send(&client) } else { try session.receive(&client) }
      }
    } catch {
      client.leave()
      throw error
    }
    client.leave()
  }

  private func info(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) {
    let now = NetConfiguration(client.configuration.span, features: client.features)
    let address = now.address.map { $0.text } ?? "none"
    let features = String(client.features.rawValue, radix: 16)
    let control = client.driver.controlIndex.map { "\($0)" }
    if isJSON {
      writeOutput(
        "{\"address\":\"\(address)\",\"linkUp\":\(now.isLinkUp),\"mtu\":\(now.mtu),"
          + "\"pairs\":\(now.pairs),\"pairsInUse\":\(client.driver.pairs),"
          + "\"controlQueue\":\(control ?? "null"),\"frameLimit\":\(client.driver.frameLimit),"
          + "\"features\":\"0x\(features)\"}\n")
    } else {
      writeOutput(
        """
        address     \(address)
        link        \(now.isLinkUp ? "up" : "down")
        MTU         \(now.mtu)
        pairs       \(client.driver.pairs) of \(now.pairs) in use
        control     \(control.map { "queue \($0)" } ?? "no queue")
        frames      up to \(client.driver.frameLimit) bytes
        features    0x\(features)

        """)
    }
  }
}

extension MACAddress {
  /// The address as people write it.
  var text: String {
    var text = ""
    for index in 0..<6 {
      let byte = byte(at: index)
      text += (index > 0 ? ":" : "") + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
    return text
  }
}
