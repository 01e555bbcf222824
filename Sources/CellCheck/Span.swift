/// A stretch of addresses that is not empty. Both ends are inside it, so that one which reaches
/// 2^64 needs no number that does not exist; what would run over is cut off there (E49 says so).
struct Span: Hashable {
  let first: UInt64
  let last: UInt64

  /// `nil` for a size of 0: an empty region covers nothing.
  init?(_ start: UInt64, _ size: UInt64) {
    guard size > 0 else { return nil }
    first = start
    let (end, overflow) = start.addingReportingOverflow(size - 1)
    last = overflow ? .max : end
  }

  init(first: UInt64, last: UInt64) {
    self.first = first
    self.last = max(first, last)
  }

  func overlaps(_ other: Span) -> Bool { first <= other.last && other.first <= last }
  func contains(_ other: Span) -> Bool { first <= other.first && other.last <= last }
  func contains(_ address: UInt64) -> Bool { first <= address && address <= last }

  /// `0x40000000-0x4fffffff`.
  var text: String { "\(hex(first))-\(hex(last))" }
}

/// `0x` and the digits.
func hex(_ value: some BinaryInteger) -> String { "0x" + String(UInt64(value), radix: 16) }

/// Pairs of overlapping spans of two lists, as indices into them; with `nil` for `right`, pairs
/// within one list. A sweep over the sorted starts: n log n and the pairs. A hostile file could
/// hold very many pairs, so that no more than `limit` are looked at.
func overlappingPairs(
  _ left: [(index: Int, span: Span)], _ right: [(index: Int, span: Span)]?, limit: Int = 20_000
) -> [(Int, Int)] {
  struct Event {
    let span: Span
    let side: Int
    let index: Int
  }
  var events = left.map { Event(span: $0.span, side: 0, index: $0.index) }
  if let right { events += right.map { Event(span: $0.span, side: 1, index: $0.index) } }
  events.sort {
    ($0.span.first, $0.side, $0.index) < ($1.span.first, $1.side, $1.index)
  }
  var active: [[Event]] = [[], []]
  var pairs: [(Int, Int)] = []
  for event in events {
    let against = right == nil ? 0 : 1 - event.side
    active[against].removeAll { $0.span.last < event.span.first }
    for other in active[against] {
      switch (right == nil, event.side) {
      case (true, _): pairs.append((min(event.index, other.index), max(event.index, other.index)))
      case (false, 0): pairs.append((event.index, other.index))
      case (false, _): pairs.append((other.index, event.index))
      }
      if pairs.count >= limit { return pairs.sorted { $0 < $1 } }
    }
    active[event.side].append(event)
  }
  return pairs.sorted { $0 < $1 }
}

/// Stretches of addresses joined into disjoint ones, to ask many times what they leave open.
struct Coverage {
  private let spans: [Span]

  init(_ parts: [Span]) {
    var joined: [Span] = []
    for part in parts.sorted(by: { ($0.first, $0.last) < ($1.first, $1.last) }) {
      if let last = joined.last, last.last == .max || part.first <= last.last + 1 {
        joined[joined.count - 1] = Span(first: last.first, last: max(last.last, part.last))
      } else {
        joined.append(part)
      }
    }
    spans = joined
  }

  /// What of `span` is not covered, ascending.
  func gaps(in span: Span) -> [Span] {
    // The first stretch that ends at or behind the start of `span`.
    var low = 0
    var high = spans.count
    while low < high {
      let middle = (low + high) / 2
      if spans[middle].last < span.first { low = middle + 1 } else { high = middle }
    }
    var rest: [Span] = []
    var next = span.first
    for cover in spans[low...] {
      guard cover.first <= span.last else { break }
      if cover.first > next { rest.append(Span(first: next, last: cover.first - 1)) }
      guard cover.last < span.last else { return rest }
      next = cover.last + 1
    }
    rest.append(Span(first: next, last: span.last))
    return rest
  }

  func overlaps(_ span: Span) -> Bool { gaps(in: span) != [span] }
}
