/// The Ethernet address of a network device, as people write it.
struct StationAddress: Equatable, Sendable {
  /// In the order of the wire.
  let bytes: [UInt8]

  /// Parses `02:00:00:00:00:01`; `nil` for anything else.
  init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    guard parts.count == 6 else { return nil }
    var bytes: [UInt8] = []
    for part in parts {
      guard part.utf8.count == 2, !part.utf8.contains(43), let byte = UInt8(part, radix: 16)
      else { return nil }
      bytes.append(byte)
    }
    self.bytes = bytes
  }

  /// Two lower-case digits a byte.
  var text: String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: ":")
  }
}
