import CCellmate
import CDevice
import CommandOptions
import LinkFormat
import LinuxPCI

/// A link that this process has joined and speaks no protocol on, through the library.
@safe
struct RawLink: ~Copyable {
  private let handle: OpaquePointer
  /// The own peer id.
  let peerID: PeerID
  /// Where the sections lie.
  let geometry: LinkGeometry
  /// Vectors this peer may be rung on.
  let vectorCount: UInt16
  /// Whether each delivery disarms.
  let isOneShot: Bool
  /// An event descriptor that ends a wait.
  let wakeDescriptor: Int32

  /// How a wait ended.
  enum WaitOutcome {
    case event
    case deadline
    case gone
  }

  /// Joins the link of a specification.
  static func join(_ specification: String, side: LinkSide) throws(UsageError) -> RawLink {
    var handle: OpaquePointer?
    try unsafe checkedOpening { error in
      unsafe cellmate_link_open(specification, Int32(side.rawValue), &handle, error)
    }
    guard let handle = unsafe handle else { throw UsageError("the library gave no link") }
    return try unsafe RawLink(handle)
  }

  private init(_ handle: OpaquePointer) throws(UsageError) {
    var facts = unsafe cellmate_link_facts()
    unsafe facts.size = MemoryLayout<cellmate_link_facts>.size
    let result = unsafe cellmate_link_info(handle, &facts)
    guard result >= 0, let sizes = unsafe linkSizes(facts) else {
      _ = unsafe cellmate_link_close(handle)
      throw UsageError(resultText(result))
    }
    unsafe self.handle = handle
    geometry = sizes
    peerID = PeerID(UInt16(truncatingIfNeeded: unsafe facts.peer_id))
    vectorCount = UInt16(clamping: unsafe facts.vector_count)
    isOneShot = unsafe facts.capabilities & UInt32(CELLMATE_ONE_SHOT_INTERRUPTS) != 0
    wakeDescriptor = unsafe facts.wake_descriptor
  }

  deinit { _ = unsafe cellmate_link_close(handle) }

  /// The state of a peer of this link.
  func state(of peer: PeerID) -> UInt32 {
    var state: UInt32 = 0
    _ = unsafe cellmate_link_read_state(handle, UInt32(peer.rawValue), &state)
    return state
  }

  /// Writes the own state.
  func writeState(_ value: UInt32) { _ = unsafe cellmate_link_write_state(handle, value) }

  /// Interrupts come, or do not.
  func arm(_ isEnabled: Bool) { _ = unsafe cellmate_link_arm(handle, isEnabled ? 1 : 0) }

  /// Whether interrupts come.
  var isArmed: Bool { unsafe cellmate_link_is_armed(handle) == 1 }

  /// Rings a peer of this link.
  func ring(_ vector: Vector, at peer: PeerID) {
    _ = unsafe cellmate_link_ring(handle, UInt32(vector.rawValue), UInt32(peer.rawValue))
  }

  /// Sleeps until something comes, or until `deadline` of the monotonic clock.
  func wait(until deadline: UInt64) -> WaitOutcome {
    switch unsafe cellmate_link_wait(handle, deadline) {
    case 0: .event
    case 1, 2: .deadline
    default: .gone
    }
  }
}

/// A look at a simulated link, through the library: nothing is joined, nothing can be written.
@safe
struct LinkObserver: ~Copyable {
  private let handle: OpaquePointer
  private let memory: UnsafeRawPointer
  /// Where the sections lie.
  let geometry: LinkGeometry

  /// Looks at the link of a specification, which is `sim:PATH`.
  static func open(_ specification: String) throws(UsageError) -> LinkObserver {
    var handle: OpaquePointer?
    try unsafe checkedOpening { error in
      unsafe cellmate_observer_open(specification, &handle, error)
    }
    guard let handle = unsafe handle else { throw UsageError("the library gave no observer") }
    return try unsafe LinkObserver(handle)
  }

  private init(_ handle: OpaquePointer) throws(UsageError) {
    var facts = unsafe cellmate_link_facts()
    unsafe facts.size = MemoryLayout<cellmate_link_facts>.size
    let result = unsafe cellmate_observer_info(handle, &facts)
    guard result >= 0, let sizes = unsafe linkSizes(facts), let memory = unsafe facts.memory else {
      _ = unsafe cellmate_observer_close(handle)
      throw UsageError(resultText(result))
    }
    unsafe self.handle = handle
    unsafe self.memory = UnsafeRawPointer(memory)
    geometry = sizes
  }

  deinit { _ = unsafe cellmate_observer_close(handle) }

  /// The words from `offset` on, each loaded once, as bytes; empty when they are not whole words of
  /// the link.
  func words(_ offset: Int, _ count: Int) -> [UInt8] {
    guard offset >= 0, count > 0, offset & 3 == 0, count & 3 == 0,
      offset <= geometry.totalSize - count
    else { return [] }
    // SAFETY: the range was checked, and the mapping lives as long as the handle.
    return unsafe loadedWords(memory, offset, count)
  }

  /// The state of a peer of this link.
  func state(of peer: PeerID) -> UInt32 { word32(geometry.stateWord(of: peer)) }

  /// The 32-bit word at a place inside the link.
  func word32(_ offset: Int) -> UInt32 {
    precondition(offset >= 0 && offset & 3 == 0 && offset <= geometry.totalSize - 4)
    return unsafe cd_load32(memory, offset)
  }

  /// The 64-bit word at a place inside the link.
  func word64(_ offset: Int) -> UInt64 {
    precondition(offset >= 0 && offset & 7 == 0 && offset <= geometry.totalSize - 8)
    return unsafe cd_load64(memory, offset)
  }

  /// Interrupts delivered to and dropped at a peer of this link.
  func interruptCounts(of peer: PeerID) -> (delivered: UInt64, dropped: UInt64) {
    var counts: (delivered: UInt64, dropped: UInt64) = (0, 0)
    _ = unsafe cellmate_observer_interrupts(
      handle, UInt32(peer.rawValue), &counts.delivered, &counts.dropped)
    return counts
  }
}

/// The sizes of a link; `nil` when they make none.
private func linkSizes(_ facts: cellmate_link_facts) -> LinkGeometry? {
  try? unsafe LinkGeometry(
    maxPeers: facts.max_peers, stateTableSize: facts.state_table_size,
    readWriteSize: facts.read_write_size, outputSize: facts.output_size)
}

/// Calls a function of the library that opens something.
///
/// - Throws: the library's own line about it, or what its result means.
private func checkedOpening(
  _ call: (UnsafeMutablePointer<cellmate_error>) -> cellmate_result
) throws(UsageError) {
  var error = cellmate_error()
  error.size = MemoryLayout<cellmate_error>.size
  let result = unsafe call(&error)
  guard result < 0 else { return }
  guard error.result == result else { throw UsageError(resultText(result)) }
  let text = unsafe withUnsafeBytes(of: &error.text) { bytes in
    unsafe String(decoding: unsafe bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
  throw UsageError(text)
}

/// What a result of the library means.
private func resultText(_ result: cellmate_result) -> String {
  unsafe cellmate_result_text(result).map { unsafe String(cString: $0) } ?? ""
}
