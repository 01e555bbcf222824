import CommandOptions

/// What `send` sends.
struct TrafficPlan: Sendable {
  let target: EtherAddress
  let source: EtherAddress?
  let count: UInt64
  let size: Int
  /// Frames that may be unacknowledged; 0 when nobody acknowledges.
  let window: UInt64
  /// Whether only the first and the last bytes are filled and looked at.
  let isEdges: Bool

  /// Reads the options.
  init(_ given: CommandOptions) throws(UsageError) {
    target = try NetworkTool.address(given, "to") ?? .broadcast
    source = try NetworkTool.address(given, "from")
    count = try given.number("count", in: 1...(1 << 40), default: 1000)
    // The largest IP packet behind an Ethernet header.
    let limit = UInt64(65535 + 14)
    size = Int(
      try given.number("size", in: UInt64(TrafficFrame.headerSize)...limit, default: 1514))
    window = try given.number("window", in: 0...4096, default: 32)
    isEdges = given.has("edges")
  }
}

/// A frame of the traffic that `send` and `receive` exchange: type 88b5 (for local experiments),
/// and behind it a magic number, a kind, flags, the run, a sequence number and a digest of the
/// whole frame, all most significant byte first.
struct TrafficFrame {
  enum Kind: UInt8 {
    case data = 1
    case acknowledgement = 2
  }

  static var headerSize: Int { 42 }
  static var isAcknowledgementWanted: UInt8 { 1 }
  static var isEdges: UInt8 { 2 }
  /// Nobody acknowledges and nothing is repeated.
  static var isLoose: UInt8 { 4 }
  private static var magic: UInt64 { 0x636d_6e74 }

  var kind: Kind
  var flags: UInt8
  var run: UInt32
  var sequence: UInt64
  /// Of the whole frame, as it was sent.
  private(set) var digest: UInt64 = 0
  let source: EtherAddress

  init(_ kind: Kind, flags: UInt8, run: UInt32, sequence: UInt64, source: EtherAddress) {
    self.kind = kind
    self.flags = flags
    self.run = run
    self.sequence = sequence
    self.source = source
  }

  /// Reads a frame; `nil` when it is none of this traffic, or not as it was sent.
  init?(_ bytes: Span<UInt8>, isCorrupt: inout Bool) {
    func number(_ start: Int, _ count: Int) -> UInt64 {
      var value: UInt64 = 0
      for index in start..<start + count { value = value << 8 | UInt64(bytes[index]) }
      return value
    }
    isCorrupt = false
    guard bytes.count >= Self.headerSize, number(12, 2) == 0x88b5, number(14, 4) == Self.magic
    else { return nil }
    source = EtherAddress(bytes, at: 6)
    flags = bytes[19]
    run = UInt32(number(20, 4))
    sequence = number(24, 8)
    digest = number(32, 8)
    guard let kind = Kind(rawValue: bytes[18]),
      digest == Self.digest(bytes, flags & Self.isEdges != 0)
    else {
      isCorrupt = true
      return nil
    }
    self.kind = kind
  }

  /// Writes the frame over all of `bytes`; its digest.
  mutating func write(to target: EtherAddress, _ bytes: inout MutableSpan<UInt8>) -> UInt64 {
    func put(_ value: UInt64, _ start: Int, _ count: Int) {
      for index in 0..<count {
        bytes[start + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * (count - 1 - index)))
      }
    }
    for index in 0..<6 {
      bytes[index] = target.byte(at: index)
      bytes[6 + index] = source.byte(at: index)
    }
    put(0x88b5, 12, 2)
    put(Self.magic, 14, 4)
    bytes[18] = kind.rawValue
    bytes[19] = flags
    put(UInt64(run), 20, 4)
    put(sequence, 24, 8)
    put(0, 32, 8)
    put(UInt64(bytes.count), 40, 2)
    if flags & Self.isEdges == 0 {
      var value = UInt32(truncatingIfNeeded: sequence) &* 2_654_435_761 ^ run
      for index in Self.headerSize..<bytes.count {
        value = value &* 1_664_525 &+ 1_013_904_223
        bytes[index] = UInt8(value >> 24)
      }
    } else {
      for index in max(Self.headerSize, bytes.count - 8)..<bytes.count {
        bytes[index] = UInt8(truncatingIfNeeded: sequence &+ UInt64(index))
      }
    }
    digest = Self.digest(bytes.span, flags & Self.isEdges != 0)
    put(digest, 32, 8)
    return digest
  }

  /// A digest of everything but its own eight bytes and the wish for an answer, which differs in a
  /// repetition; or of the start and the end alone.
  private static func digest(_ bytes: Span<UInt8>, _ isEdges: Bool) -> UInt64 {
    var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    func add(_ range: Range<Int>) {
      for index in range { digest = (digest ^ UInt64(bytes[index])) &* 0x100_0000_01b3 }
    }
    add(0..<19)
    digest = (digest ^ UInt64(bytes[19] & ~isAcknowledgementWanted)) &* 0x100_0000_01b3
    add(20..<32)
    add(40..<42)
    add((isEdges ? max(headerSize, bytes.count - 8) : headerSize)..<bytes.count)
    return digest
  }
}
