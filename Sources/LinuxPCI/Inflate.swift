/// What is wrong with compressed data.
public enum InflateError: Error, Equatable, Sendable {
  /// Not gzip, or of a kind this does not know.
  case notGzip
  /// It ends too early.
  case truncated
  /// It makes no sense.
  case malformed
  /// It would be longer than allowed.
  case tooLong
}

/// Unpacks gzip (RFC 1952, RFC 1951), for `/proc/config.gz`. The check sum is not looked at: the
/// kernel made it a moment ago.
public func gunzip(_ bytes: [UInt8], limit: Int) throws(InflateError) -> [UInt8] {
  guard bytes.count >= 18, bytes[0] == 0x1f, bytes[1] == 0x8b, bytes[2] == 8 else {
    throw .notGzip
  }
  var at = 10
  let flags = bytes[3]
  if flags & 4 != 0 {
    guard at + 2 <= bytes.count else { throw .truncated }
    at += 2 + Int(bytes[at]) + Int(bytes[at + 1]) << 8
  }
  // A name, then a comment, each up to its 0.
  for bit in [UInt8(8), 16] where flags & bit != 0 {
    while at < bytes.count, bytes[at] != 0 { at += 1 }
    at += 1
  }
  if flags & 2 != 0 { at += 2 }
  guard at < bytes.count else { throw .truncated }
  var inflater = Inflater(input: bytes, at: at, limit: limit)
  try inflater.run()
  return inflater.output
}

/// Deflate, bit by bit (RFC 1951); each loop is bounded by the input or by the limit.
private struct Inflater {
  let input: [UInt8]
  var at: Int
  let limit: Int
  var output: [UInt8] = []
  private var held: UInt32 = 0
  private var heldCount: UInt32 = 0

  init(input: [UInt8], at: Int, limit: Int) {
    self.input = input
    self.at = at
    self.limit = limit
  }

  /// A canonical Huffman code: how many codes each length has, and the symbols in order.
  struct Code {
    var counts = [Int](repeating: 0, count: 16)
    var symbols: [Int] = []

    init(_ lengths: ArraySlice<Int>) throws(InflateError) {
      for length in lengths { counts[length] += 1 }
      counts[0] = 0
      var left = 1
      for length in 1...15 {
        left = left * 2 - counts[length]
        guard left >= 0 else { throw .malformed }
      }
      for length in 1...15 {
        for (symbol, own) in lengths.enumerated() where own == length { symbols.append(symbol) }
      }
    }
  }

  mutating func run() throws(InflateError) {
    var isLast = false
    while !isLast {
      isLast = try bits(1) == 1
      switch try bits(2) {
      case 0: try stored()
      case 1: try fixed()
      case 2: try dynamic()
      default: throw .malformed
      }
    }
  }

  private mutating func bits(_ count: UInt32) throws(InflateError) -> Int {
    while heldCount < count {
      guard at < input.count else { throw .truncated }
      held |= UInt32(input[at]) << heldCount
      at += 1
      heldCount += 8
    }
    let value = held & ((1 << count) &- 1)
    held >>= count
    heldCount -= count
    return Int(value)
  }

  private mutating func symbol(_ code: Code) throws(InflateError) -> Int {
    var value = 0
    var first = 0
    var index = 0
    for length in 1...15 {
      value |= try bits(1)
      let count = code.counts[length]
      if value - first < count { return code.symbols[index + value - first] }
      index += count
      first = (first + count) * 2
      value *= 2
    }
    throw .malformed
  }

  private mutating func put(_ byte: UInt8) throws(InflateError) {
    guard output.count < limit else { throw .tooLong }
    output.append(byte)
  }

  private mutating func stored() throws(InflateError) {
    held = 0
    heldCount = 0
    guard at + 4 <= input.count else { throw .truncated }
    let length = Int(input[at]) | Int(input[at + 1]) << 8
    at += 4
    guard at + length <= input.count else { throw .truncated }
    for index in at..<at + length { try put(input[index]) }
    at += length
  }

  private mutating func fixed() throws(InflateError) {
    let lengths = (0..<288).map { $0 < 144 ? 8 : $0 < 256 ? 9 : $0 < 280 ? 7 : 8 }
    try codes(Code(lengths[...]), Code([Int](repeating: 5, count: 30)[...]))
  }

  private mutating func dynamic() throws(InflateError) {
    let literals = try bits(5) + 257
    let distances = try bits(5) + 1
    let count = try bits(4) + 4
    guard literals <= 286, distances <= 30 else { throw .malformed }
    let order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    var lengths = [Int](repeating: 0, count: 19)
    for index in 0..<count { lengths[order[index]] = try bits(3) }
    let code = try Code(lengths[...])
    var all: [Int] = []
    while all.count < literals + distances {
      let found = try symbol(code)
      if found < 16 {
        all.append(found)
        continue
      }
      guard found > 16 || !all.isEmpty else { throw .malformed }
      let value = found == 16 ? all[all.count - 1] : 0
      let times =
        found == 16 ? 3 + (try bits(2)) : found == 17 ? 3 + (try bits(3)) : 11 + (try bits(7))
      for _ in 0..<times { all.append(value) }
    }
    guard all.count == literals + distances, all[256] != 0 else { throw .malformed }
    try codes(Code(all[..<literals]), Code(all[literals...]))
  }

  private mutating func codes(_ literals: Code, _ distances: Code) throws(InflateError) {
    while true {
      let found = try symbol(literals)
      if found == 256 { return }
      if found < 256 {
        try put(UInt8(found))
        continue
      }
      guard found <= 285 else { throw .malformed }
      let length = try Self.length(found - 257) { count throws(InflateError) in try bits(count) }
      let place = try symbol(distances)
      guard place < 30 else { throw .malformed }
      let extra = place < 4 ? 0 : UInt32(place / 2 - 1)
      let base = place < 4 ? place + 1 : (2 + place % 2) << Int(extra) + 1
      let distance = base + (try bits(extra))
      guard distance <= output.count else { throw .malformed }
      for _ in 0..<length { try put(output[output.count - distance]) }
    }
  }

  /// A length of RFC 1951, section 3.2.5.
  private static func length(
    _ index: Int, _ bits: (UInt32) throws(InflateError) -> Int
  ) throws(InflateError) -> Int {
    if index < 8 { return index + 3 }
    if index == 28 { return 258 }
    let extra = UInt32(index / 4 - 1)
    return (4 + index % 4) << Int(extra) + 3 + (try bits(extra))
  }
}
