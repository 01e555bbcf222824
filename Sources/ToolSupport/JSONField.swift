/// A field of a flat JSON object of our own making; `nil` when it is not there.
public enum JSONField {
  /// A number.
  public static func number(_ key: String, _ text: String) -> UInt64? {
    rest(key, text).flatMap { UInt64($0.prefix { $0 >= "0" && $0 <= "9" }) }
  }

  /// A string, without escapes.
  public static func string(_ key: String, _ text: String) -> String? {
    guard let rest = rest(key, text), rest.hasPrefix("\"") else { return nil }
    return String(rest.dropFirst().prefix { $0 != "\"" })
  }

  private static func rest(_ key: String, _ text: String) -> Substring? {
    let wanted = Array("\"\(key)\":".utf8)
    let bytes = text.utf8
    var at = bytes.startIndex
    while at != bytes.endIndex {
      if bytes[at...].starts(with: wanted) {
        return text[bytes.index(at, offsetBy: wanted.count)...]
      }
      at = bytes.index(after: at)
    }
    return nil
  }
}

/// Bytes in hexadecimal, two digits each.
public func hexBytes(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var text: [UInt8] = []
  text.reserveCapacity(2 * bytes.count)
  for byte in bytes { text += [digits[Int(byte >> 4)], digits[Int(byte & 15)]] }
  return String(decoding: text, as: UTF8.self)
}

/// The bytes that hexadecimal digits stand for; `nil` when they are none.
public func bytesOf(hex text: String) -> [UInt8]? {
  func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 48...57: byte - 48
    case 97...102: byte - 87
    default: nil
    }
  }
  var bytes: [UInt8] = []
  var high: UInt8?
  for byte in text.utf8 {
    guard let value = digit(byte) else { return nil }
    if let first = high {
      bytes.append(first << 4 | value)
      high = nil
    } else {
      high = value
    }
  }
  return high == nil ? bytes : nil
}
