/// Where a PCI function is: domain, bus, device, function ("0000:00:03.0").
public struct PCIAddress: Equatable, Comparable, Sendable, CustomStringConvertible {
  /// The domain; 32 bits, because virtual host bridges are given large ones.
  public let domain: UInt32
  /// The bus.
  public let bus: UInt8
  /// The device on its bus, 0 to 31.
  public let device: UInt8
  /// The function of the device, 0 to 7.
  public let function: UInt8

  /// Parses `DDDD:BB:DD.F`, or `BB:DD.F` in domain 0; hexadecimal, as sysfs and lspci write it.
  public init?(_ text: some StringProtocol) {
    var parts = text.split(separator: ":", omittingEmptySubsequences: false).map { String($0) }
    if parts.count == 2 { parts.insert("0", at: 0) }
    guard parts.count == 3, parts[0].count <= 8, parts[1].count <= 2 else { return nil }
    let last = parts[2].split(separator: ".", omittingEmptySubsequences: false)
    guard last.count == 2, last[0].count <= 2, last[1].count == 1,
      let domain = UInt32(parts[0], radix: 16), let bus = UInt8(parts[1], radix: 16),
      let device = UInt8(last[0], radix: 16), device < 32,
      let function = UInt8(last[1], radix: 16), function < 8,
      !text.utf8.contains(43), !text.utf8.contains(45)
    else { return nil }
    self.domain = domain
    self.bus = bus
    self.device = device
    self.function = function
  }

  /// As sysfs names it.
  public var description: String {
    "\(hexText(domain, width: 4)):\(hexText(bus, width: 2)):\(hexText(device, width: 2))"
      + ".\(function)"
  }

  /// By domain, then bus, device and function.
  public static func < (left: PCIAddress, right: PCIAddress) -> Bool {
    left.order < right.order
  }

  private var order: UInt64 {
    UInt64(domain) << 16 | UInt64(bus) << 8 | UInt64(device) << 3 | UInt64(function)
  }
}

/// A number, not below 0 and of at most 64 bits, in hexadecimal with at least `width` digits.
public func hexText(_ value: some BinaryInteger, width: Int = 1) -> String {
  hexDigits(UInt64(truncatingIfNeeded: value), width)
}

@inline(never)
private func hexDigits(_ value: UInt64, _ width: Int) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: max(0, width - digits.utf8.count)) + digits
}

/// The number a file of sysfs holds: decimal, or hexadecimal with `0x`; `nil` for anything else.
@inline(never)
public func kernelNumber(_ text: some StringProtocol) -> UInt64? {
  text.hasPrefix("0x") ? UInt64(text.dropFirst(2), radix: 16) : UInt64(text, radix: 10)
}
