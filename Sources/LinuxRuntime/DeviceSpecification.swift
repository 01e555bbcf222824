public import CommandOptions
import HostResources

/// One device of a link: a kind and its options, `KIND[,key=value][,flag]`.
public enum DeviceSpecification: Equatable, Sendable {
  /// `block,file=PATH[,readonly][,queues=N][,workers=N]`.
  case block(BlockSpecification)
  /// `console,END[,name=NAME][,size=COLSxROWS][,END...]`.
  case console(ConsoleSpecification)
  /// `entropy`.
  case entropy
  /// `network,mac=ADDRESS[,switch=NAME][,tap=NAME][,rate=BYTES][,isolate][,queues=N][,mtu=BYTES]
  /// [,change-mac]`.
  case network(NetworkSpecification)

  /// The kinds by name, for messages.
  static var kinds: String { "block, console, entropy, network" }

  /// Parses the value of `--device`.
  public init(_ text: String) throws(UsageError) {
    switch String(text.prefix { $0 != "," }) {
    case "block": self = .block(try BlockSpecification(text))
    case "console": self = .console(try ConsoleSpecification(text))
    case "entropy":
      guard text == "entropy" else {
        throw UsageError("--device \(text): entropy takes no options")
      }
      self = .entropy
    case "network": self = .network(try NetworkSpecification(text))
    case let found:
      throw UsageError("--device \(text): unknown device '\(found)'; known are: \(Self.kinds)")
    }
  }
}

extension DeviceSpecification {
  /// Whether it may be that both cannot be open at a time.
  public func excludes(_ other: DeviceSpecification) -> Bool {
    switch (self, other) {
    case (.block(let one), .block(let two)):
      return one.file == two.file && !(one.isReadOnly && two.isReadOnly)
    // Terminals, sockets and logs: the same name may hide in many forms.
    case (.console, .console): return true
    // A port's address is its own, and a tap has one reader.
    case (.network(let one), .network(let two)):
      let isSameSwitch = one.switchName != nil && one.switchName == two.switchName
      return isSameSwitch && one.port.address == two.port.address
        || one.tap != nil && one.tap == two.tap && !isSameSwitch
    default: return false
    }
  }
}

/// A block device: `block,file=PATH[,readonly][,queues=N][,workers=N]`.
public struct BlockSpecification: Equatable, Sendable {
  /// The file or block device.
  public let file: String
  /// Whether writes are refused.
  public let isReadOnly: Bool
  /// Number of queues, 1 to 8.
  public let queueCount: Int
  /// Worker threads, 1 to 64.
  public let workers: Int

  /// Parses the value of `--device`, which starts with `block`.
  init(_ text: String) throws(UsageError) {
    let keyed = try KeyedValue(
      text, option: "device", known: ["file", "readonly", "queues", "workers"])
    guard let file = keyed.value("file"), !file.isEmpty else {
      throw UsageError("--device \(text): file=PATH is missing")
    }
    self.file = file
    isReadOnly = keyed.value("readonly") != nil
    queueCount = try Self.number(keyed, "queues", 1...8, 1, text)
    workers = try Self.number(keyed, "workers", 1...64, 4, text)
  }

  private static func number(
    _ keyed: KeyedValue, _ key: String, _ range: ClosedRange<Int>, _ standard: Int,
    _ text: String
  ) throws(UsageError) -> Int {
    guard let value = keyed.value(key) else { return standard }
    guard let number = Int(value), range.contains(number) else {
      throw UsageError(
        "--device \(text): \(key) is a number from \(range.lowerBound) to \(range.upperBound)")
    }
    return number
  }
}
