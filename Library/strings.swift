// SPDX-License-Identifier: Apache-2.0
//
// The library's strings, which are specifications, paths and messages: bytes.
//
// In Embedded Swift every use of the standard library's String brings its small and its large form,
// its indices and the Unicode algorithms along, inline at each place: they were a third of the
// library. The types here have the same names and as much of the interface as the rooms use. They
// are found before the standard library's, because they are in the module itself; Library/build
// alone compiles them. Strings are equal when their bytes are. `Library/foreign` makes the C
// functions that take names take these.

public typealias StringLiteralType = String
public typealias Substring = String
public typealias Character = Unicode.Scalar

public protocol CustomStringConvertible {
  var description: String { get }
}

/// What a function asks of a text that it takes as `some StringProtocol`.
public protocol StringProtocol {
  var utf8: [UInt8] { get }
  var count: Int { get }
  var isEmpty: Bool { get }
  var first: Character? { get }
  var last: Character? { get }
  func dropFirst(_ count: Int) -> String
  func dropLast(_ count: Int) -> String
  func hasPrefix(_ wanted: String) -> Bool
  func hasSuffix(_ wanted: String) -> Bool
  func split(separator: Character, maxSplits: Int, omittingEmptySubsequences: Bool) -> [String]
  subscript(_ all: UnboundedRange) -> String { get }
}

extension StringProtocol {
  public func dropFirst() -> String { dropFirst(1) }
  public func dropLast() -> String { dropLast(1) }

  public func split(
    separator: Character, maxSplits: Int = .max, omittingEmptySubsequences: Bool = true
  ) -> [String] {
    split(
      separator: separator, maxSplits: maxSplits,
      omittingEmptySubsequences: omittingEmptySubsequences)
  }
}

public struct String:
  Comparable, Sendable, ExpressibleByStringInterpolation, CustomStringConvertible, StringProtocol
{
  public typealias Index = Int

  /// The bytes: UTF-8, where the system and a peer keep to it.
  public private(set) var utf8: [UInt8]

  public init() { utf8 = [] }
  public init(_ text: some StringProtocol) { self = text[...] }
  public init(_ utf8: [UInt8]) { self.utf8 = utf8 }

  public init(stringLiteral text: StaticString) {
    self = unsafe String(literal: text.utf8Start)
  }

  /// A literal in code ends with a zero: one argument less at each of hundreds of places.
  @inline(never)
  private init(literal start: UnsafePointer<UInt8>) {
    self.init()
    unsafe append(literal: start)
  }

  @inline(never)
  fileprivate mutating func append(literal start: UnsafePointer<UInt8>) {
    var count = 0
    while unsafe start[count] != 0 { count += 1 }
    unsafe append(start, count)
  }

  @inline(never)
  private init(_ start: UnsafePointer<UInt8>, _ count: Int) {
    utf8 = unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
  }

  public init(stringInterpolation: StringInterpolation) { self = stringInterpolation.text }

  public var description: String { self }
}

// MARK: Messages

extension String {
  public struct StringInterpolation: StringInterpolationProtocol {
    fileprivate var text: String

    public init(literalCapacity: Int, interpolationCount: Int) { text = String() }

    public mutating func appendLiteral(_ literal: StaticString) {
      unsafe text.append(literal: literal.utf8Start)
    }

    public mutating func appendInterpolation(_ value: String) { text.append(value) }
    public mutating func appendInterpolation(_ value: StaticString) { appendLiteral(value) }
    public mutating func appendInterpolation<Value: BinaryInteger>(_ value: Value) {
      if Value.isSigned {
        text.append(Int(truncatingIfNeeded: value))
      } else {
        text.append(UInt64(truncatingIfNeeded: value))
      }
    }
    public mutating func appendInterpolation(_ value: Bool) {
      text.append(value ? "true" : "false" as String)
    }

    public mutating func appendInterpolation<Value: CustomStringConvertible>(_ value: Value) {
      text.append(value.description)
    }

    /// Embedded Swift has no text for a value without a description and would tell the user so:
    /// the function that is called here does not exist, so that linking fails.
    @available(*, deprecated, message: "Embedded Swift prints no such value: give it words")
    public mutating func appendInterpolation<Value>(_ value: Value) { valueWithoutWords() }
  }

  @inline(never)
  fileprivate mutating func append(_ start: UnsafePointer<UInt8>, _ count: Int) {
    unsafe utf8.append(contentsOf: UnsafeBufferPointer(start: start, count: count))
  }

  @inline(never)
  public mutating func append(_ text: String) {
    unsafe text.utf8.withUnsafeBufferPointer { bytes in
      if let start = bytes.baseAddress { unsafe append(start, bytes.count) }
    }
  }

  public mutating func append(contentsOf text: String) { append(text) }

  @inline(never)
  fileprivate mutating func append(_ value: UInt64) { append(String(value, radix: 10)) }

  @inline(never)
  fileprivate mutating func append(_ value: Int) {
    if value < 0 { append("-" as String) }
    append(UInt64(value.magnitude))
  }

  public static func += (left: inout String, right: String) { left.append(right) }

  @inline(never)
  public static func + (left: String, right: String) -> String {
    var all = left
    all.append(right)
    return all
  }
}

@_silgen_name("cellmate_value_without_words")
func valueWithoutWords()

extension String {
  @inline(never)
  public init(_ value: UInt64, radix: Int) {
    var digits = InlineArray<64, UInt8>(repeating: 0)
    var rest = value
    var first = 64
    repeat {
      first -= 1
      let digit = UInt8(truncatingIfNeeded: rest % UInt64(radix))
      digits[first] = digit < 10 ? 48 + digit : 87 + digit
      rest /= UInt64(radix)
    } while rest > 0
    self = unsafe digits.span.withUnsafeBufferPointer { buffer in
      unsafe String(buffer.baseAddress! + first, 64 - first)
    }
  }

  /// No negative number is printed with a radix of its own.
  public init(_ value: some BinaryInteger, radix: Int) {
    self.init(UInt64(truncatingIfNeeded: value), radix: radix)
  }
  public init(_ value: Int) { self = "\(value)" }
  public init(_ value: some UnsignedInteger) { self.init(UInt64(value), radix: 10) }

  @inline(never)
  public init(repeating text: String, count: Int) {
    self.init()
    for _ in 0..<count { append(text) }
  }
}

extension Array where Element == String {
  @inline(never)
  public func joined(separator: String = "") -> String {
    var all = String()
    for index in indices {
      if index > 0 { all += separator }
      all += self[index]
    }
    return all
  }

  @inline(never)
  public func contains(_ wanted: String) -> Bool {
    for word in self where word == wanted { return true }
    return false
  }
}

extension ArraySlice where Element == String {
  public func joined(separator: String = "") -> String {
    Array(self).joined(separator: separator)
  }
}

// MARK: From and to C

extension String {
  @inline(never)
  public init(cString: UnsafePointer<CChar>) {
    var count = 0
    while unsafe cString[count] != 0 { count += 1 }
    self = unsafe cString.withMemoryRebound(to: UInt8.self, capacity: count) {
      unsafe String(decoding: UnsafeBufferPointer(start: $0, count: count), as: UTF8.self)
    }
  }

  @inline(never)
  public init(decoding bytes: UnsafeBufferPointer<UInt8>, as encoding: UTF8.Type) {
    self.init()
    if let start = bytes.baseAddress { unsafe append(start, bytes.count) }
    repair()
  }

  public init(decoding bytes: [UInt8], as encoding: UTF8.Type) {
    self.init(bytes)
    repair()
  }

  public init(decoding bytes: some Collection<UInt8>, as encoding: UTF8.Type) {
    self.init(decoding: [UInt8](bytes), as: encoding)
  }

  /// Bytes that are no UTF-8 become replacement characters: what is printed or sent is text.
  @inline(never)
  private mutating func repair() {
    var result: [UInt8] = []
    var index = 0
    while index < utf8.count {
      let length = textLength(at: index)
      if length == 0 {
        append("\u{fffd}", to: &result)
        index += 1
      }
      for _ in 0..<length {
        result.append(utf8[index])
        index += 1
      }
    }
    utf8 = result
  }

  private func append(_ text: StaticString, to bytes: inout [UInt8]) {
    for index in 0..<text.utf8CodeUnitCount { unsafe bytes.append(text.utf8Start[index]) }
  }

  /// The bytes of the scalar that begins at an index; 0: none does.
  private func textLength(at index: Int) -> Int {
    let first = utf8[index]
    let length =
      switch first {
      case ..<0x80: 1
      case 0xc2..<0xe0: 2
      case 0xe0..<0xf0: 3
      case 0xf0..<0xf5: 4
      default: 0
      }
    guard length > 1 else { return length }
    guard length <= utf8.count - index else { return 0 }
    // The second byte excludes long forms, surrogates and what lies beyond Unicode.
    let range: ClosedRange<UInt8> =
      switch first {
      case 0xe0: 0xa0...0xbf
      case 0xed: 0x80...0x9f
      case 0xf0: 0x90...0xbf
      case 0xf4: 0x80...0x8f
      default: 0x80...0xbf
      }
    guard range.contains(utf8[index + 1]) else { return 0 }
    for next in 1..<length where utf8[index + next] & 0xc0 != 0x80 { return 0 }
    return length
  }

  public mutating func withUTF8<Result, Failure: Error>(
    _ body: (UnsafeBufferPointer<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    unsafe try utf8.withUnsafeBufferPointer(body)
  }

  public func withCString<Result, Failure: Error>(
    _ body: (UnsafePointer<CChar>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    unsafe try forC.withUnsafeBufferPointer { (bytes) throws(Failure) in
      unsafe try body(bytes.baseAddress!)
    }
  }

  /// The bytes and the zero behind them.
  public var forC: [CChar] {
    @inline(never)
    get {
      var bytes = [CChar](repeating: 0, count: utf8.count + 1)
      for index in utf8.indices { bytes[index] = CChar(bitPattern: utf8[index]) }
      return bytes
    }
  }
}

// MARK: Comparing

extension String {
  @inline(never)
  public static func == (left: String, right: String) -> Bool {
    left.utf8.count == right.utf8.count && right.hasPrefix(left)
  }

  @inline(never)
  public static func < (left: String, right: String) -> Bool {
    let count = min(left.utf8.count, right.utf8.count)
    for index in 0..<count where left.utf8[index] != right.utf8[index] {
      return left.utf8[index] < right.utf8[index]
    }
    return count < right.utf8.count
  }

  public func hasPrefix(_ wanted: String) -> Bool { has(wanted, at: 0) }
  public func hasSuffix(_ wanted: String) -> Bool {
    has(wanted, at: utf8.count - wanted.utf8.count)
  }

  @inline(never)
  private func has(_ wanted: String, at start: Int) -> Bool {
    guard start >= 0, wanted.utf8.count <= utf8.count - start else { return false }
    for index in wanted.utf8.indices where utf8[start + index] != wanted.utf8[index] {
      return false
    }
    return true
  }
}

public func ~= (pattern: String, value: String) -> Bool { pattern == value }
public func ~= (pattern: String?, value: String?) -> Bool { pattern == value }

// MARK: Taking apart

extension String {
  public var count: Int { utf8.count }
  public var isEmpty: Bool { utf8.isEmpty }
  public var first: Character? { utf8.first.map { Character($0) } }
  public var last: Character? { utf8.last.map { Character($0) } }

  public subscript(_ all: UnboundedRange) -> String { self }
  public subscript(_ range: PartialRangeFrom<Int>) -> String {
    part(range.lowerBound..<utf8.count)
  }

  /// The scalars, of which ASCII is appended alone.
  public var unicodeScalars: String {
    get { self }
    set { self = newValue }
  }

  public mutating func append(_ character: Character) {
    utf8.append(UInt8(truncatingIfNeeded: character.value))
  }

  public mutating func removeLast() { utf8.removeLast() }

  @inline(never)
  private func part(_ range: Range<Int>) -> String {
    unsafe utf8.withUnsafeBufferPointer { bytes in
      guard let start = bytes.baseAddress else { return String() }
      return unsafe String(start + range.lowerBound, range.count)
    }
  }

  @inline(never)
  public func dropFirst(_ count: Int) -> String { part(min(count, utf8.count)..<utf8.count) }

  @inline(never)
  public func dropLast(_ count: Int) -> String { part(0..<max(0, utf8.count - count)) }

  @inline(never)
  public func prefix(while isWanted: (Character) -> Bool) -> String {
    var end = 0
    while end < utf8.count, isWanted(Character(utf8[end])) { end += 1 }
    return part(0..<end)
  }

  public func contains(_ wanted: Character) -> Bool {
    utf8.contains(UInt8(truncatingIfNeeded: wanted.value))
  }

  public func split(
    separator: Character, maxSplits: Int, omittingEmptySubsequences: Bool
  ) -> [String] {
    split(UInt8(truncatingIfNeeded: separator.value), maxSplits, omittingEmptySubsequences)
  }

  @inline(never)
  private func split(_ wanted: UInt8, _ maxSplits: Int, _ omitsEmpty: Bool) -> [String] {
    var parts: [String] = []
    var start = 0
    for index in 0...utf8.count {
      guard index == utf8.count || (utf8[index] == wanted && parts.count < maxSplits) else {
        continue
      }
      if index > start || !omitsEmpty { parts.append(part(start..<index)) }
      start = index + 1
    }
    return parts
  }
}

extension Array where Element: Comparable {
  /// A heap sort: a tenth of the standard library's, which keeps the order of equal elements.
  func sorted() -> [Element] {
    var result = self
    for start in stride(from: count / 2 - 1, through: 0, by: -1) { result.sift(start, count) }
    for end in stride(from: count - 1, to: 0, by: -1) {
      result.swapAt(0, end)
      result.sift(0, end)
    }
    return result
  }

  private mutating func sift(_ start: Int, _ end: Int) {
    var parent = start
    while true {
      var largest = 2 * parent + 1
      guard largest < end else { return }
      if largest + 1 < end, self[largest] < self[largest + 1] { largest += 1 }
      guard self[parent] < self[largest] else { return }
      swapAt(parent, largest)
      parent = largest
    }
  }
}

extension Array where Element == UInt8 {
  /// As for every sequence, without a copy.
  public init(_ bytes: [UInt8]) { self = bytes }

  @inline(never)
  public func contains(_ wanted: UInt8) -> Bool {
    for byte in self where byte == wanted { return true }
    return false
  }
}

// MARK: Numbers

@inline(never)
private func number(_ bytes: [UInt8], _ radix: Int, _ limit: UInt64) -> UInt64? {
  var value: UInt64 = 0
  var start = 0
  if bytes.count > 1 && bytes[0] == 43 { start = 1 }
  guard start < bytes.count else { return nil }
  for index in start..<bytes.count {
    let byte = bytes[index]
    let digit: UInt8 =
      switch byte {
      case 48...57: byte - 48
      case 65...90: byte - 55
      case 97...122: byte - 87
      default: 255
      }
    guard Int(digit) < radix else { return nil }
    let (product, isOver) = value.multipliedReportingOverflow(by: UInt64(radix))
    let (sum, isOverToo) = product.addingReportingOverflow(UInt64(digit))
    guard !isOver, !isOverToo, sum <= limit else { return nil }
    value = sum
  }
  return value
}

extension FixedWidthInteger {
  public init?(_ text: some StringProtocol) { self.init(text, radix: 10) }
  public init?(_ text: some StringProtocol, radix: Int) {
    // A negative number is in none of the library's specifications.
    let limit = UInt64(truncatingIfNeeded: Self.max)
    guard let value = number(text.utf8, radix, limit) else { return nil }
    self.init(truncatingIfNeeded: value)
  }
}
