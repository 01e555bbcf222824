// SPDX-License-Identifier: Apache-2.0
//
// What the library does with its strings, which are specifications, paths and messages: bytes.
//
// In Embedded Swift the generic parts of String end up inline at each piece of each message, and
// the Unicode algorithms behind `==`, `split` and `count` come along: together they were more than
// half of the library. The declarations here are seen before those of the standard library,
// because they are in the module itself; they are compiled by Library/build alone. As in
// unicode.c, each scalar is a character of its own, and strings are equal when their bytes are.

// MARK: Messages

extension DefaultStringInterpolation {
  @inline(never)
  mutating func appendLiteral(_ literal: String) { write(literal) }

  @inline(never)
  mutating func appendInterpolation(_ value: String) { write(value) }

  @inline(never)
  mutating func appendInterpolation(_ value: Substring) { write(String(value)) }

  @inline(never)
  mutating func appendInterpolation(_ value: UInt64) { write(String(value, radix: 10)) }

  @inline(never)
  mutating func appendInterpolation(_ value: Int) {
    if value < 0 { write("-") }
    write(String(UInt64(value.magnitude), radix: 10))
  }

  mutating func appendInterpolation(_ value: UInt) { appendInterpolation(UInt64(value)) }
  mutating func appendInterpolation(_ value: UInt32) { appendInterpolation(UInt64(value)) }
  mutating func appendInterpolation(_ value: UInt16) { appendInterpolation(UInt64(value)) }
  mutating func appendInterpolation(_ value: UInt8) { appendInterpolation(UInt64(value)) }
  mutating func appendInterpolation(_ value: Int64) { appendInterpolation(Int(value)) }
  mutating func appendInterpolation(_ value: Int32) { appendInterpolation(Int(value)) }

  /// Embedded Swift has no text for a value without a description and would tell the user so:
  /// the function that is called here does not exist, so that linking fails.
  @available(*, deprecated, message: "Embedded Swift prints no such value: give it words")
  mutating func appendInterpolation<Value>(_ value: Value) { valueWithoutWords() }
}

@_silgen_name("cellmate_value_without_words")
func valueWithoutWords()

extension String {
  @inline(never)
  init(_ value: UInt64, radix: Int) {
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
      unsafe String(decoding: UnsafeBufferPointer(rebasing: buffer[first...]), as: UTF8.self)
    }
  }

  init(_ value: UInt32, radix: Int) { self.init(UInt64(value), radix: radix) }
  init(_ value: UInt16, radix: Int) { self.init(UInt64(value), radix: radix) }
  init(_ value: UInt8, radix: Int) { self.init(UInt64(value), radix: radix) }
}

extension Array where Element == String {
  @inline(never)
  func joined(separator: String = "") -> String {
    var all = ""
    for index in indices {
      if index > 0 { all += separator }
      all += self[index]
    }
    return all
  }

  @inline(never)
  func contains(_ wanted: String) -> Bool {
    for word in self where word == wanted { return true }
    return false
  }
}

// MARK: Comparing

extension String {
  @inline(never)
  static func == (left: String, right: String) -> Bool {
    let count = left.utf8.count
    return count == right.utf8.count && right.hasPrefix(left)
  }

  static func != (left: String, right: String) -> Bool { !(left == right) }

  @inline(never)
  func hasPrefix(_ wanted: String) -> Bool {
    var mine = self
    var other = wanted
    return unsafe mine.withUTF8 { mine in
      unsafe other.withUTF8 { other in
        guard mine.count >= other.count else { return false }
        for index in 0..<other.count where unsafe mine[index] != other[index] { return false }
        return true
      }
    }
  }
}

extension Substring {
  static func == (left: Substring, right: Substring) -> Bool { String(left) == String(right) }
  static func == (left: Substring, right: String) -> Bool { String(left) == right }
  func hasPrefix(_ wanted: String) -> Bool { String(self).hasPrefix(wanted) }
}

func == (left: String?, right: String?) -> Bool {
  switch (left, right) {
  case (let left?, let right?): left == right
  case (nil, nil): true
  default: false
  }
}

func ~= (pattern: String, value: String) -> Bool { pattern == value }
func ~= (pattern: String?, value: String?) -> Bool { pattern == value }
func ~= (pattern: Substring, value: Substring) -> Bool { String(pattern) == String(value) }

// MARK: Taking apart

extension String {
  var count: Int { utf8.count }

  @inline(never)
  func dropFirst(_ count: Int = 1) -> Substring { Substring(utf8.dropFirst(count)) }

  @inline(never)
  func prefix(while isWanted: (Unicode.Scalar) -> Bool) -> Substring {
    Substring(utf8.prefix { isWanted(Unicode.Scalar($0)) })
  }

  @inline(never)
  func contains(_ wanted: Unicode.Scalar) -> Bool {
    utf8.contains(UInt8(truncatingIfNeeded: wanted.value))
  }

  @inline(never)
  func split(
    separator: Unicode.Scalar, maxSplits: Int = .max, omittingEmptySubsequences: Bool = true
  ) -> [Substring] {
    Substring(self).split(
      separator: separator, maxSplits: maxSplits,
      omittingEmptySubsequences: omittingEmptySubsequences)
  }
}

extension Substring {
  var count: Int { utf8.count }

  @inline(never)
  func dropFirst(_ count: Int = 1) -> Substring { Substring(utf8.dropFirst(count)) }

  @inline(never)
  func split(
    separator: Unicode.Scalar, maxSplits: Int = .max, omittingEmptySubsequences: Bool = true
  ) -> [Substring] {
    var parts: [Substring] = []
    var rest = utf8
    let wanted = UInt8(truncatingIfNeeded: separator.value)
    while parts.count < maxSplits, let end = rest.firstIndex(of: wanted) {
      let part = rest[..<end]
      if !(part.isEmpty && omittingEmptySubsequences) { parts.append(Substring(part)) }
      rest = rest[rest.index(after: end)...]
    }
    if !(rest.isEmpty && omittingEmptySubsequences) { parts.append(Substring(rest)) }
    return parts
  }
}

// MARK: Numbers

@inline(never)
private func number(_ text: String, _ radix: Int, _ limit: UInt64) -> UInt64? {
  var text = text
  return unsafe text.withUTF8 { bytes in
    var value: UInt64 = 0
    var start = 0
    if unsafe bytes.count > 1 && bytes[0] == 43 { start = 1 }
    guard start < bytes.count else { return nil }
    for index in start..<bytes.count {
      let byte = unsafe bytes[index]
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
}

extension FixedWidthInteger {
  init?(_ text: String) { self.init(text, radix: 10) }
  init?(_ text: Substring) { self.init(String(text), radix: 10) }
  init?(_ text: Substring, radix: Int) { self.init(String(text), radix: radix) }
  init?(_ text: String, radix: Int) {
    // A negative number is in none of the library's specifications.
    guard let value = number(text, radix, UInt64(truncatingIfNeeded: Self.max)) else { return nil }
    self.init(truncatingIfNeeded: value)
  }
}
