import SharedMemory
import Virtqueue

/// The chains that a device has and completes later: all that is its own of the shared memory while
/// it looks at its host.
struct HeldChains {
  private struct Entry {
    let queue: Int
    let ticket: ChainTicket
    let ranges: [Range<Int>]
  }

  private var entries: [Entry] = []
  private var region: SharedRegion?
  var isEmpty: Bool { entries.isEmpty }
  /// Every byte of them.
  var ranges: [Range<Int>] { entries.flatMap(\.ranges) }

  /// Notes a chain that was served, if the device has kept it, and forgets those of the same queue
  /// that went back together with it.
  mutating func note(
    _ ticket: ChainTicket, _ ranges: [Range<Int>], index: Int, on queue: borrowing DeviceQueue,
    in region: SharedRegion
  ) {
    #if CELLMATE_WATCH
      self.region = region
      entries.removeAll { $0.queue == index && queue.hasReturned($0.ticket) }
      guard !queue.hasReturned(ticket) else { return }
      entries.append(Entry(queue: index, ticket: ticket, ranges: ranges))
    #endif
  }

  /// One of them is complete.
  mutating func remove(_ queue: Int, _ ticket: ChainTicket) {
    entries.removeAll { $0.queue == queue && $0.ticket == ticket }
  }

  /// A device that has nothing in flight has given all of them up.
  mutating func removeAll() { entries = [] }

  /// Bans everything else, and reads a byte of it when told to.
  func fence(strays: Bool) {
    guard let region else { return }
    FuzzTargets.fence(ranges, in: region)
    if strays, !isEmpty { _ = region.load8(region.count - 1) }
  }

  /// Takes the ban back.
  func unfence() {
    guard let region else { return }
    FuzzTargets.unfence(region)
  }
}

/// The segments of a chain.
func ranges(_ segments: borrowing ChainSegments) -> [Range<Int>] {
  var found: [Range<Int>] = []
  for index in 0..<segments.readableCount {
    let range = segments.readable(index)
    found.append(range.offset..<range.offset + range.count)
  }
  for index in 0..<segments.writableCount {
    let range = segments.writable(index)
    found.append(range.offset..<range.offset + range.count)
  }
  return found
}

/// Bans the whole region but these ranges. They are never banned, not even for a moment: a thread
/// of the device's may be at work in them.
func fence(_ ranges: [Range<Int>], in region: SharedRegion) {
  #if CELLMATE_WATCH
    var position = 0
    for range in ranges.sorted(by: { $0.lowerBound < $1.lowerBound }) {
      if range.lowerBound > position { region.forbid(position..<range.lowerBound) }
      position = max(position, range.upperBound)
    }
    if position < region.count { region.forbid(position..<region.count) }
  #endif
}

/// Takes every ban back.
func unfence(_ region: SharedRegion) {
  #if CELLMATE_WATCH
    region.allow(0..<region.count)
  #endif
}
