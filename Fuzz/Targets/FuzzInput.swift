/// The input of a fuzzer, read from front to back; zeroes behind its end.
struct FuzzInput {
  let bytes: [UInt8]
  var position = 0
  var isAtEnd: Bool { position >= bytes.count }

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func byte() -> UInt8 {
    guard position < bytes.count else { return 0 }
    defer { position += 1 }
    return bytes[position]
  }

  mutating func half() -> UInt16 { UInt16(byte()) | UInt16(byte()) << 8 }

  mutating func word() -> UInt32 {
    (0..<4).reduce(0) { value, shift in value | UInt32(byte()) << UInt32(8 * shift) }
  }

  mutating func long() -> UInt64 { UInt64(word()) | UInt64(word()) << 32 }
}

/// A promise that a run found broken; a trap is the other way to find one.
public struct FuzzFailure: Error, CustomStringConvertible {
  /// Which promise, and what was seen.
  public let description: String

  init(_ description: String) { self.description = description }
}
