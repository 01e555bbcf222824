/// One JSON object, key by key, in the order they are added. Keys are our own words.
public struct JSONObject {
  private var body = ""

  /// An empty object.
  public init() {}

  /// The whole object.
  public var text: String { "{" + body + "}" }

  // A program adds hundreds of keys: each is a call.

  /// Adds something that is JSON already.
  @inline(never)
  public mutating func add(_ key: String, json: String) {
    if !body.isEmpty { body += "," }
    body += "\"\(key)\":\(json)"
  }

  /// Adds a string, or null.
  @inline(never)
  public mutating func add(_ key: String, _ value: String?) {
    add(key, json: value.map { quoted($0) } ?? "null")
  }

  /// Adds a number, or null.
  public mutating func add(_ key: String, number value: (some BinaryInteger)?) {
    guard let value else { return add(key, json: "null") }
    add(key, number: UInt64(truncatingIfNeeded: value.magnitude), isNegative: value < 0)
  }

  @inline(never)
  private mutating func add(_ key: String, number: UInt64, isNegative: Bool) {
    add(key, json: isNegative ? "-\(number)" : "\(number)")
  }

  /// Adds a truth, or null.
  @inline(never)
  public mutating func add(_ key: String, flag value: Bool?) {
    add(key, json: value.map { $0 ? "true" : "false" } ?? "null")
  }

  /// Adds a list of things that are JSON already.
  @inline(never)
  public mutating func add(_ key: String, list: [String]) {
    add(key, json: "[" + list.joined(separator: ",") + "]")
  }

  /// Adds a list of strings.
  public mutating func add(_ key: String, strings: [String]) {
    add(key, list: strings.map { quoted($0) })
  }
}

/// Columns of text, each as wide as its widest entry; the last one is not filled up.
@inline(never)
public func columns(_ rows: [[String]], gap: Int = 2) -> String {
  var widths: [Int] = []
  for row in rows {
    for (index, cell) in row.enumerated() {
      if index == widths.count { widths.append(0) }
      widths[index] = max(widths[index], cell.utf8.count)
    }
  }
  var text = ""
  for row in rows {
    for (index, cell) in row.enumerated() {
      text += cell
      guard index + 1 < row.count else { continue }
      text += String(repeating: " ", count: widths[index] - cell.utf8.count + gap)
    }
    text += "\n"
  }
  return text
}

/// Bytes in the largest unit that leaves no fraction: 4096 is "4K".
public func sizeText(_ bytes: UInt64) -> String {
  let units = ["", "K", "M", "G", "T"]
  var value = bytes
  var unit = 0
  while value != 0, value & 1023 == 0, unit < 4 {
    value >>= 10
    unit += 1
  }
  return "\(value)\(units[unit])"
}

/// A number of JSON: hexadecimal text with 0x, as everywhere where people compare with registers.
///
/// - Parameter value: not below 0, and of at most 64 bits.
public func hexadecimal(_ value: some BinaryInteger) -> String {
  hexadecimalText(UInt64(truncatingIfNeeded: value))
}

@inline(never)
private func hexadecimalText(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

/// A string of JSON (RFC 8259), with its quotes.
@inline(never)
public func quoted(_ text: String) -> String {
  var result: [UInt8] = [34]
  let digits = Array("0123456789abcdef".utf8)
  for byte in text.utf8 {
    switch byte {
    case 34, 92: result += [92, byte]
    case 10: result += [92, 110]
    case 0..<32, 127:
      result += Array("\\u00".utf8)
      result += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    default: result.append(byte)
    }
  }
  result.append(34)
  return String(decoding: result, as: UTF8.self)
}
