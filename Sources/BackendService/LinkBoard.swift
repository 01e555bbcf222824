import CCellmate
import CLinux
import ToolSupport

/// What a number of a link means.
struct Counter {
  enum Scope: Equatable {
    case link
    case vhostUser
    case device
    /// Of the kind of device; its name.
    case kind(String)
  }

  let scope: Scope
  /// The device's slot, -1 for the link itself.
  let slot: Int
  let name: String
}

/// What the service and the thread of one link tell each other: orders one way, numbers the other.
///
/// The link's thread looks at one word each turn. Numbers are copied under a monitor when they are
/// asked for; an answer also tells that the link's loop is alive. Nothing is allocated after
/// `init`.
@safe
final class LinkBoard: @unchecked Sendable {
  private enum Word: Int {
    case stop = 0
    case asked = 1
    case answered = 2
    case ended = 3
  }

  /// Every queue that a link can have.
  private static var ringLimit: Int { 256 }

  /// The meaning of each number.
  let counters: [Counter]
  /// The kind of each device.
  let kinds: [String]
  private let words: UnsafeMutablePointer<UInt32>
  private let values: UnsafeMutablePointer<UInt64>
  private let monitor: OpaquePointer
  /// Guarded by the monitor; there as long as the link has not ended.
  private var backend: OpaquePointer?
  /// What the link's memory is like; `nil` for a socket, which has none.
  private let facts: LinkFacts?
  /// Guarded by the monitor; room for every queue of a link, so that nothing is allocated later.
  private let rings: UnsafeMutablePointer<cellmate_ring>
  private var ringCount = 0

  init(_ backend: OpaquePointer, _ counters: [Counter], kinds: [String], _ facts: LinkFacts?) {
    unsafe self.backend = backend
    self.counters = counters
    self.kinds = kinds
    self.facts = facts
    unsafe rings = .allocate(capacity: Self.ringLimit)
    unsafe rings.initialize(repeating: cellmate_ring(), count: Self.ringLimit)
    unsafe words = .allocate(capacity: 4)
    unsafe words.initialize(repeating: 0, count: 4)
    unsafe values = .allocate(capacity: max(1, counters.count))
    unsafe values.initialize(repeating: 0, count: max(1, counters.count))
    unsafe monitor = cl_monitor_create()
  }

  deinit {
    unsafe words.deallocate()
    unsafe values.deallocate()
    unsafe rings.deallocate()
    unsafe cl_monitor_destroy(monitor)
  }

  private func load(_ word: Word) -> UInt32 { unsafe cl_word_load(words + word.rawValue) }
  private func store(_ value: UInt32, _ word: Word) {
    _ = unsafe cl_word_exchange(words + word.rawValue, value)
  }

  // MARK: The service

  /// Asks the link to finish what is in flight and leave.
  func askToStop() { store(1, .stop) }
  /// Asks for the numbers; `serial` has to differ from the one before.
  func ask(_ serial: UInt32) { store(serial, .asked) }
  /// The last question that was answered.
  var answered: UInt32 { load(.answered) }
  /// Whether the link serves no more.
  var hasEnded: Bool { load(.ended) != 0 }

  /// The numbers as last published.
  func snapshot() -> [UInt64] {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return (0..<counters.count).map { unsafe values[$0] }
  }

  /// What the link's memory is like; `nil` when there is none (any more).
  var shownMemory: LinkFacts? {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return unsafe backend == nil ? nil : facts
  }

  /// Ends a sleep of the link's loop.
  func wakeUp() {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    if unsafe backend != nil { _ = unsafe cellmate_backend_wake(backend) }
  }

  /// Copies words of the link's shared memory, which stays mapped meanwhile; `nil` when it is gone
  /// or the range is not inside it. The link's thread is not asked and does not wait.
  ///
  /// - Parameters:
  ///   - offset: from the start of the state table, a multiple of 4.
  ///   - count: bytes, a multiple of 4, at most ``LinkFacts/lookLimit``.
  func look(_ offset: Int, _ count: Int) -> [UInt8]? {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    guard offset >= 0, count > 0, count <= LinkFacts.lookLimit, unsafe backend != nil else {
      return nil
    }
    var bytes = [UInt8](repeating: 0, count: count)
    let result = unsafe bytes.withUnsafeMutableBytes { room in
      unsafe cellmate_backend_look(backend, UInt64(offset), room.baseAddress, room.count)
    }
    return result == 0 ? bytes : nil
  }

  /// The rings as last published.
  func ringPlaces() -> [RingPlace] {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return (0..<ringCount).map { RingPlace(unsafe rings[$0]) }
  }

  // MARK: The link

  /// Publishes where the rings lie; `fill` says how many there are.
  @safe func publishRings(_ fill: (UnsafeMutablePointer<cellmate_ring>, Int) -> Int) {
    unsafe cl_monitor_enter(monitor)
    ringCount = min(max(0, unsafe fill(rings, Self.ringLimit)), Self.ringLimit)
    unsafe cl_monitor_leave(monitor)
  }

  /// The back-end is about to be closed: nobody else uses it from now on.
  func hideBackend() {
    unsafe cl_monitor_enter(monitor)
    unsafe backend = nil
    unsafe cl_monitor_leave(monitor)
  }

  /// Whether the link was asked to stop.
  var isAskedToStop: Bool { load(.stop) != 0 }
  /// The question that waits for an answer.
  var question: UInt32? {
    let asked = load(.asked)
    return asked == load(.answered) ? nil : asked
  }

  /// Publishes numbers; `fill` gives them in the order of ``counters``.
  @safe func publish(_ fill: (UnsafeMutablePointer<UInt64>, Int) -> Void) {
    unsafe cl_monitor_enter(monitor)
    unsafe fill(values, counters.count)
    unsafe cl_monitor_leave(monitor)
  }

  /// The numbers that `serial` asked for are published.
  func answer(_ serial: UInt32) { store(serial, .answered) }
  /// The link serves no more.
  func noteEnd() { store(1, .ended) }
}

extension LinkBoard {
  /// The numbers as one JSON object that begins with `head`, `"name":value` pairs.
  func json(_ head: String) -> String {
    let values = snapshot()
    var text = "{" + head
    for index in counters.indices where counters[index].slot < 0 {
      text += ",\"\(counters[index].name)\":\(values[index])"
    }
    text += ",\"devices\":["
    for slot in kinds.indices {
      text += slot > 0 ? ",{" : "{"
      text += "\"slot\":\(slot),\"kind\":\"\(kinds[slot])\""
      for index in counters.indices where counters[index].slot == slot {
        text += ",\"\(counters[index].name)\":\(values[index])"
      }
      text += "}"
    }
    return text + "]}"
  }
}
