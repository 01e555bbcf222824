/// A MAC address; its first byte on the wire is the lowest.
struct EtherAddress: Equatable, Sendable {
  /// The address in the lower 48 bits.
  let rawValue: UInt64

  /// Everybody.
  static var broadcast: EtherAddress { EtherAddress(rawValue: 0xffff_ffff_ffff) }

  init(rawValue: UInt64) { self.rawValue = rawValue }

  /// Six bytes of a frame, from `start` on.
  init(_ bytes: Span<UInt8>, at start: Int) {
    var value: UInt64 = 0
    for index in (0..<6).reversed() { value = value << 8 | UInt64(bytes[start + index]) }
    rawValue = value
  }

  /// An address as people write it; `nil` for anything else.
  init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var value: UInt64 = 0
    for part in parts.reversed() {
      guard part.utf8.count == 2, !part.utf8.contains(43), let byte = UInt8(part, radix: 16)
      else { return nil }
      value = value << 8 | UInt64(byte)
    }
    rawValue = value
  }

  /// Byte `index` (0 ..< 6) of it.
  func byte(at index: Int) -> UInt8 { UInt8(truncatingIfNeeded: rawValue >> UInt64(8 * index)) }

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
