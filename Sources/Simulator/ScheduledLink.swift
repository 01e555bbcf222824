public import IVShmem
public import SharedMemory

/// A link of two peers in one thread of one process, for seeded, deterministic schedules: the
/// same rules for state, doorbells and one-shot interrupts as ``SimulatorServer``, a clock that
/// moves only when told, and waits that never block.
///
/// The test calls both sides' `step()` in the order its seed gives; everything repeats exactly.
@safe
public final class ScheduledLink {
  private let base: UnsafeMutableRawPointer
  /// The shared memory, writable everywhere: rights are the process simulator's business.
  public let region: SharedRegion
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// The clock, in nanoseconds.
  public var time: UInt64 = 0
  /// One wait in so many ends with an interrupt that nobody raised; 0: none.
  public var spuriousOneIn: UInt64 = 0
  /// The other side's turn: called at each wait, before it is decided. Whatever it does to the
  /// memory, the waiting side has to survive it.
  public var onWait: (() -> Void)?
  /// Whether a delivery disarms its peer; false for a driver that has switched one-shot mode off.
  public var isOneShot = [true, true]
  /// Vectors that were delivered to each peer, for a test that plays interrupt handlers; the test
  /// takes them out.
  public var delivered: [[UInt16]] = [[], []]
  var armed: [Bool] = [false, false]
  var events: [Int] = [0, 0]
  var states: [UInt32] = [0, 0]
  private var random: UInt64

  /// Makes a link for peers 0 and 1.
  ///
  /// - Parameters:
  ///   - seed: every pseudo-random number follows from it.
  ///   - garbage: fill memory and state table with pseudo-random words.
  ///   - isUnalignedSafe: false imitates Device memory.
  public init(
    geometry: LinkGeometry, seed: UInt64, garbage: Bool, isUnalignedSafe: Bool = true
  ) {
    precondition(geometry.maxPeers == 2, "a scheduled link has two peers")
    let size = geometry.totalSize
    unsafe base = .allocate(byteCount: size, alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    // SAFETY: the memory lives as long as this object, which every peer holds.
    region = unsafe SharedRegion(
      unsafeBase: base, count: size, isUnalignedSafe: isUnalignedSafe)
    self.geometry = geometry
    random = seed
    guard garbage else { return }
    for offset in stride(from: 0, to: size, by: 8) { region.store64(next(), at: offset) }
  }

  deinit { unsafe base.deallocate() }

  /// The next pseudo-random number of the seed.
  public func next() -> UInt64 {
    random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return random ^ random >> 29
  }

  /// What a cell start may do (hazard H16): the first `count` bytes of `range` are garbage.
  public func overwrite(_ range: Range<Int>, count: Int) {
    for offset in stride(from: range.lowerBound, to: range.lowerBound + count, by: 8) {
      region.store64(next(), at: offset)
    }
  }

  /// Delivers to a peer if it is armed.
  func raise(_ peer: Int, _ vector: UInt16 = 0) {
    guard armed[peer] else { return }
    if isOneShot[peer] { armed[peer] = false }
    events[peer] += 1
    delivered[peer].append(vector)
  }

  /// What the hypervisor does when a cell stops: State 0, not armed, nothing pending.
  public func stopCell(_ peer: Int) {
    armed[peer] = false
    events[peer] = 0
    delivered[peer] = []
    region.store32(0, at: geometry.stateWord(of: PeerID(UInt16(peer))))
    guard states[peer] != 0 else { return }
    states[peer] = 0
    raise(1 - peer)
  }
}

/// One peer of a ``ScheduledLink``.
public struct ScheduledPeer: Platform, ~Copyable {
  private let link: ScheduledLink
  /// This peer's id, 0 or 1.
  public let peerID: PeerID
  /// Vectors each peer may be rung on.
  public let vectorCount: UInt16

  /// Joins as `peerID`.
  public init(link: ScheduledLink, peerID: PeerID, vectorCount: UInt16 = 1) {
    precondition(peerID.rawValue < 2, "a scheduled link has two peers")
    self.link = link
    self.peerID = peerID
    self.vectorCount = vectorCount
  }

  private var own: Int { Int(peerID.rawValue) }

  /// One-shot interrupts over memory of this process.
  public var capabilities: PlatformCapabilities {
    let base: PlatformCapabilities = .oneShotInterrupts | .pinnable
    return link.region.isUnalignedSafe ? base | .unalignedSafe : base
  }
  /// Where the sections lie.
  public var geometry: LinkGeometry { link.geometry }
  /// The shared memory.
  public var region: SharedRegion { link.region }

  /// Writes State; a changed value interrupts the other peer if it is armed.
  public mutating func writeState(_ value: UInt32) {
    link.region.store32(value, at: link.geometry.stateWord(of: peerID))
    guard link.states[own] != value else { return }
    link.states[own] = value
    link.raise(1 - own)
  }

  /// Reads the own State.
  public mutating func readState() -> UInt32 { link.states[own] }

  /// Writes the own Interrupt Control.
  public mutating func setInterruptsEnabled(_ isEnabled: Bool) { link.armed[own] = isEnabled }

  /// Reads the own Interrupt Control.
  public mutating func interruptsEnabled() -> Bool { link.armed[own] }

  /// Rings the other peer; lost while it is not armed.
  public mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    guard vector.rawValue < vectorCount, peer.rawValue < 2 else { return }
    link.raise(Int(peer.rawValue), vector.rawValue)
  }

  /// Never blocks: `.event` when one is pending (or spuriously), else `.deadline`.
  public mutating func wait(until deadline: Instant?) -> WaitOutcome {
    link.onWait?()
    if link.spuriousOneIn > 0, link.next() % link.spuriousOneIn == 0 { return .event }
    guard link.events[own] > 0 else { return .deadline }
    link.events[own] = 0
    return .event
  }

  /// The link's clock.
  public func now() -> Instant { Instant(nanoseconds: link.time) }

  /// From the link's seed.
  public mutating func randomNumber() -> UInt64 { link.next() }
}
