import SharedMemory
import VirtioDevice
import Virtqueue

/// The requests of one device that the caller completes later, and those it has completed.
///
/// It lives in tables, so that a callback may complete a request while the device is being served.
/// The owner's thread only.
struct PendingRequests {
  private struct Entry: BitwiseCopyable {
    var ticket = ChainTicket.none
    var queue: UInt32 = 0
    var limit: UInt32 = 0
    var written: UInt32 = 0
    var life: UInt32 = 0
    var state: UInt32 = Self.free
    static var free: UInt32 { 0 }
    /// Handed to the caller, who has not answered yet.
    static var open: UInt32 { 1 }
    static var completed: UInt32 { 2 }
  }

  private struct Heads: BitwiseCopyable {
    var free: Int32
    var firstDone: Int32 = -1
    var lastDone: Int32 = -1
    var count: Int32 = 0
  }

  private let entries: PrivateTable<Entry>
  private let next: PrivateTable<Int32>
  private let heads: PrivateTable<Heads>

  /// Room for `places` requests; `nil` when the arena is used up.
  init?(_ places: Int, arena: inout PrivateArena) {
    guard let entries = arena.table(of: places, initial: Entry()),
      let next = arena.table(of: places, initial: Int32(-1)),
      let heads = arena.table(of: 1, initial: Heads(free: 0))
    else { return nil }
    for place in 0..<places - 1 { next[place] = Int32(place + 1) }
    self.entries = entries
    self.next = next
    self.heads = heads
  }

  /// Whether another request can be opened.
  var hasRoom: Bool { heads[0].free >= 0 }
  /// Requests that ``nextCompletion()`` has not returned.
  var count: Int { Int(heads[0].count) }

  /// Names a request before the caller sees it; there is room.
  func open(queue: Int, limit: Int) -> UInt64 {
    let place = Int(heads[0].free)
    heads[0].free = next[place]
    next[place] = -1
    var entry = entries[place]
    entry.queue = UInt32(queue)
    entry.limit = UInt32(truncatingIfNeeded: limit)
    entry.life &+= 1
    entry.state = Entry.open
    entry.ticket = .none
    entries[place] = entry
    heads[0].count += 1
    return UInt64(entry.life) << 32 | UInt64(place)
  }

  /// The request is pending: its chain will be given back with `chain`.
  func attach(_ ticket: UInt64, _ chain: ChainTicket) {
    entries[Int(truncatingIfNeeded: ticket & 0xffff_ffff)].ticket = chain
  }

  /// The request was answered at once; `false` when it has been completed already.
  func drop(_ ticket: UInt64) -> Bool {
    let place = Int(truncatingIfNeeded: ticket & 0xffff_ffff)
    guard entries[place].state == Entry.open else { return false }
    free(place)
    return true
  }

  private func free(_ place: Int) {
    entries[place].state = Entry.free
    next[place] = heads[0].free
    heads[0].free = Int32(place)
    heads[0].count -= 1
  }

  /// The caller's answer; `false` for a ticket that is not open.
  func complete(_ ticket: UInt64, written: UInt32) -> Bool {
    let place = Int(truncatingIfNeeded: ticket & 0xffff_ffff)
    guard entries.contains(index: place), entries[place].life == UInt32(ticket >> 32),
      entries[place].state == Entry.open
    else { return false }
    entries[place].state = Entry.completed
    entries[place].written = min(written, entries[place].limit)
    next[place] = -1
    let last = heads[0].lastDone
    if last >= 0 { next[Int(last)] = Int32(place) } else { heads[0].firstDone = Int32(place) }
    heads[0].lastDone = Int32(place)
    return true
  }

  /// Whether ``nextCompletion()`` has something to return.
  var hasAnswer: Bool { heads[0].firstDone >= 0 }

  /// The oldest answer.
  func nextCompletion() -> DeviceCompletion? {
    let first = heads[0].firstDone
    guard first >= 0 else { return nil }
    let entry = entries[Int(first)]
    heads[0].firstDone = next[Int(first)]
    if heads[0].firstDone < 0 { heads[0].lastDone = -1 }
    free(Int(first))
    return DeviceCompletion(
      queue: Int(entry.queue), ticket: entry.ticket, written: entry.written)
  }
}
