import CommandOptions
public import HostResources
import VirtioNet

/// A network device:
/// `network,mac=ADDRESS[,switch=NAME][,tap=NAME][,rate=BYTES][,isolate][,queues=N]`.
public struct NetworkSpecification: Equatable, Sendable {
  /// The port at the switch.
  public private(set) var port: SwitchPortOptions
  /// The switch of this process that it belongs to; `nil` for one of its own.
  public let switchName: String?
  /// A tap that is connected to the switch.
  public let tap: String?
  /// Queue pairs, 1 to 8.
  public let pairs: Int

  /// Parses the value of `--device`, which starts with `network`.
  init(_ text: String) throws(UsageError) {
    let keyed = try KeyedValue(
      text, option: "device", known: ["mac", "switch", "tap", "rate", "isolate", "queues"])
    guard let mac = keyed.value("mac") else {
      throw UsageError("--device \(text): mac=ADDRESS is missing, as in mac=02:00:00:00:00:01")
    }
    guard let address = Self.address(mac), address.isStation else {
      throw UsageError(
        "--device \(text): mac=\(mac) is no address of one station, as 02:00:00:00:00:01 is")
    }
    port = SwitchPortOptions(address: address)
    for key in ["switch", "tap"] where keyed.value(key)?.isEmpty == true {
      throw UsageError("--device \(text): \(key)=NAME is missing")
    }
    switchName = keyed.value("switch")
    tap = keyed.value("tap")
    if let tap, tap.utf8.count > 15 || tap.contains("/") {
      throw UsageError("--device \(text): tap=\(tap): a name has at most 15 bytes and no slash")
    }
    port.isIsolated = keyed.value("isolate") != nil
    if let rate = keyed.value("rate") {
      guard let number = UInt64(rate), number > 0, number <= 1 << 40 else {
        throw UsageError("--device \(text): rate is a number of bytes a second, 1 to 2^40")
      }
      port.bytesPerSecond = number
    }
    guard let pairs = Int(keyed.value("queues") ?? "1"), (1...8).contains(pairs) else {
      throw UsageError("--device \(text): queues is a number from 1 to 8")
    }
    self.pairs = pairs
  }

  private static func address(_ text: String) -> MACAddress? {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var value: UInt64 = 0
    for part in parts.reversed() {
      guard part.utf8.count == 2, !part.utf8.contains(43), let byte = UInt8(part, radix: 16)
      else { return nil }
      value = value << 8 | UInt64(byte)
    }
    return MACAddress(rawValue: value)
  }
}
