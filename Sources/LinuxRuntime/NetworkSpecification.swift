public import CommandOptions
public import HostResources
public import LinuxSupport
import VirtioNet

/// A network device:
/// `network,mac=ADDRESS[,switch=NAME][,tap=NAME][,rate=BYTES][,isolate][,queues=N][,mtu=BYTES]
/// [,change-mac]`.
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
      text, option: "device",
      known: ["mac", "switch", "tap", "rate", "isolate", "queues", "mtu", "change-mac"])
    guard let mac = keyed.value("mac") else {
      throw .device(text, "mac=ADDRESS is missing, as in mac=02:00:00:00:00:01")
    }
    guard let address = Self.address(mac), address.isStation else {
      throw .device(text, "mac=\(mac) is no address of one station, as 02:00:00:00:00:01 is")
    }
    port = SwitchPortOptions(address: address)
    for key in ["switch", "tap"] where keyed.value(key)?.isEmpty == true {
      throw .device(text, "\(key)=NAME is missing")
    }
    switchName = keyed.value("switch")
    tap = try keyed.value("tap").map { name throws(UsageError) in try Self.tapName(name) }
    port.isIsolated = keyed.value("isolate") != nil
    port.mayChangeAddress = keyed.value("change-mac") != nil
    if let rate = keyed.value("rate") {
      guard let number = UInt64(rate), number > 0, number <= 1 << 40 else {
        throw .device(text, "rate is a number of bytes a second, 1 to 2^40")
      }
      port.bytesPerSecond = number
    }
    guard let pairs = Int(keyed.value("queues") ?? "1"), (1...8).contains(pairs) else {
      throw .device(text, "queues is a number from 1 to 8")
    }
    self.pairs = pairs
    guard let mtu = Int(keyed.value("mtu") ?? "1500"), NetFormat.mtuRange.contains(mtu) else {
      throw .device(text, "mtu is a number from 68 to 65535")
    }
    port.mtu = mtu
  }

  /// Checks the name of a tap.
  public static func tapName(_ name: String) throws(UsageError) -> String {
    guard !name.isEmpty, name.utf8.count <= 15, !name.contains("/") else {
      throw UsageError("tap \(name): a name has 1 to 15 bytes and no slash")
    }
    return name
  }

  /// Why a tap cannot be used, with the way out.
  public static func explain(tap error: SystemError) -> String {
    error.text + "; taps need /dev/net/tun and CAP_NET_ADMIN, or a tap made for this user:"
      + " ip tuntap add NAME mode tap user USER vnet_hdr"
  }

  /// An address as people write it; `nil` for anything else.
  static func address(_ text: String) -> MACAddress? {
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
