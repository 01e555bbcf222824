import CommandOptions
import LinuxPCI
import LinuxSupport
public import ToolSupport

/// The verbs of `ivshmem` that look at a board and its devices.
public enum BoardTool: Sendable, CaseIterable {
  /// Every ivshmem device.
  case list
  /// One device in detail.
  case info
  /// What is wrong with the set-up.
  case doctor
  /// Gives a device to a driver.
  case bind
  /// Takes it away.
  case unbind
  /// The states of all peers.
  case state
  /// Doorbell round trips.
  case ping
  /// A link live.
  case watch
  /// Registers and memory, decoded.
  case peek

  /// The word on the command line.
  public var page: HelpPage {
    switch self {
    case .list: ListTool.page
    case .info: InfoTool.page
    case .doctor: DoctorTool.page
    case .bind: BindTool.page
    case .unbind: BindTool.unbindPage
    case .state: StateTool.page
    case .ping: PingTool.page
    case .watch: WatchTool.page
    case .peek: PeekTool.page
    }
  }

  /// The verb of that name.
  public init?(_ name: String) {
    guard let found = Self.allCases.first(where: { $0.page.name == name }) else { return nil }
    self = found
  }

  /// Reads the words behind the verb and does it.
  ///
  /// - Returns: the exit status.
  public func run(_ words: [String]) throws(ClientError) -> Int32 {
    let given: CommandOptions
    do throws(UsageError) {
      given = try CommandOptions(words, page.options)
    } catch { throw .usage(error) }
    if given.has("help") {
      writeOutput(page.text)
      return 0
    }
    switch self {
    case .list: return try ListTool(given).run()
    case .info: return try InfoTool(given).run()
    case .doctor: return try DoctorTool(given).run()
    case .bind: return try BindTool(given, "bind").bind()
    case .unbind: return try BindTool(given, "unbind").unbind()
    case .state: return try StateTool(given).run()
    case .ping: return try PingTool(given).run()
    case .watch: return try WatchTool(given).run()
    case .peek: return try PeekTool(given).run()
    }
  }
}

/// How the tools look at the system: options that several of them have.
enum BoardOptions {
  static var root: OptionSpecification {
    OptionSpecification("root", "DIR", "look below DIR (/ for this system) without libudev")
  }
  static var json: OptionSpecification {
    OptionSpecification("json", "JSON on standard output")
  }
  static var help: OptionSpecification { OptionSpecification("help", "this text") }

  /// The discovery that the options ask for.
  static func discovery(_ given: CommandOptions) throws(ClientError) -> PCIDiscovery {
    if let root = given.value("root") {
      let discovery = PCIDiscovery(root: root)
      guard discovery.files.exists("/sys") else {
        throw .usage(
          UsageError("--root \(root): it has no folder sys; is it the root of a system?"))
      }
      return discovery
    }
    do throws(DiscoveryError) {
      return try PCIDiscovery()
    } catch { throw .usage(UsageError(error.text)) }
  }

  static func functions(_ discovery: PCIDiscovery) throws(ClientError) -> [PCIFunction] {
    do throws(DiscoveryError) {
      return try discovery.ivshmem()
    } catch { throw .usage(UsageError(error.text)) }
  }

  /// The one argument, a BDF.
  static func address(_ given: CommandOptions, _ verb: String) throws(ClientError) -> PCIAddress {
    guard given.arguments.count == 1 else {
      throw .usage(
        UsageError("\(verb) needs one device, as in '\(verb) 0000:00:03.0'; see ivshmem list"))
    }
    guard let address = PCIAddress(given.arguments[0]) else {
      throw .usage(
        UsageError(
          "\(verb) \(given.arguments[0]): expected a PCI address, DDDD:BB:DD.F; see ivshmem list"))
    }
    return address
  }

  /// The ivshmem-v2 device at an address.
  static func device(
    at address: PCIAddress, _ discovery: PCIDiscovery
  ) throws(ClientError) -> LinkDevice {
    let found: PCIFunction?
    do throws(DiscoveryError) {
      found = try discovery.function(at: address)
    } catch { throw .usage(UsageError(error.text)) }
    guard let found else {
      throw .usage(UsageError("\(address): no PCI function is there; see ivshmem list"))
    }
    guard found.isIVShmem else {
      let name = "\(hexText(found.vendor, width: 4)):\(hexText(found.device, width: 4))"
      throw .usage(
        UsageError(
          "\(address): the function there is \(name)"
            + (found.isOldIVShmem ? ", ivshmem version 1, another device" : "")
            + "; expected 110a:4106, ivshmem version 2"))
    }
    return LinkDevice(found)
  }

  static func none(_ given: CommandOptions) throws(ClientError) {
    guard let argument = given.arguments.first else { return }
    throw .usage(UsageError("unexpected argument '\(argument)'"))
  }
}
