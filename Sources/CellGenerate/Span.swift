/// A range of addresses that is not empty, or empty at a place.
public struct Span: Hashable, Sendable {
  /// First address.
  public var start: UInt64
  /// Length in bytes.
  public var size: UInt64

  /// A range by its start and length.
  public init(start: UInt64, size: UInt64) {
    self.start = start
    self.size = size
  }
  /// First address behind the span.
  public var end: UInt64 { start + size }

  /// Whether both share a byte.
  public func overlaps(_ other: Span) -> Bool { start < other.end && other.start < end }
  /// Whether `other` lies inside.
  public func contains(_ other: Span) -> Bool { start <= other.start && other.end <= end }

  /// What is left when `holes` are taken away, ascending.
  public func subtracting(_ holes: [Span]) -> [Span] {
    var rest: [Span] = []
    var from = start
    for hole in holes.sorted(by: { $0.start < $1.start }) where hole.overlaps(self) {
      if hole.start > from { rest.append(Span(start: from, size: hole.start - from)) }
      from = max(from, hole.end)
    }
    if from < end { rest.append(Span(start: from, size: end - from)) }
    return rest
  }

  /// `0xfd900000 + 0xe0000`.
  public var text: String { "\(hex(start)) + \(hex(size))" }
}

/// `0x` and lower-case digits.
func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

/// `value` rounded up to a multiple of `unit`.
func roundedUp(_ value: UInt64, to unit: UInt64) -> UInt64 { (value + unit - 1) / unit * unit }

/// A size as people write it: `2M`, `64K`, `4097`.
func sizeText(_ value: UInt64) -> String {
  for (unit, shift) in [("G", 30), ("M", 20), ("K", 10)] as [(String, UInt64)]
  where value > 0 && value & (1 << shift - 1) == 0 {
    return "\(value >> shift)\(unit)"
  }
  return String(value)
}
