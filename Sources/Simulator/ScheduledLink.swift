public import IVShmem
public import LinuxSupport
public import SharedMemory

/// A link of two peers in one thread of one process, for seeded, deterministic schedules: the
/// same rules for state, doorbells and one-shot interrupts as ``SimulatorServer``, a clock that
/// moves only when told, and waits that never block.
///
/// The test calls both sides' `step()` in the order its seed gives; everything repeats exactly.
@safe
public final class ScheduledLink {
  private let base: UnsafeMutableRawPointer?
  private let guarded: GuardedMemory?
  /// The shared memory, writable everywhere.
  public let region: SharedRegion
  /// What each peer sees: the same, or a view with its rights.
  public let views: [SharedRegion]
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
  /// Whether ``delivered`` is kept.
  public var recordsVectors = false
  /// Vectors that were delivered to each peer, for a test that plays interrupt handlers and takes
  /// them out.
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
    let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4096)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
    unsafe base = memory
    guarded = nil
    // SAFETY: the memory lives as long as this object, which every peer holds.
    region = unsafe SharedRegion(
      unsafeBase: memory, count: size, isUnalignedSafe: isUnalignedSafe)
    views = [region, region]
    self.geometry = geometry
    random = seed
    if garbage { scramble() }
  }

  /// Makes a link for peers 0 and 1 whose memory each peer sees with its rights, between pages
  /// that nobody may touch: what a peer may not do ends the process.
  ///
  /// - Throws: what the system says about the memory.
  public init(guarding geometry: LinkGeometry, seed: UInt64) throws(SystemError) {
    precondition(geometry.maxPeers == 2, "a scheduled link has two peers")
    let memory = try GuardedMemory(geometry)
    unsafe base = nil
    guarded = memory
    region = memory.whole
    views = memory.views
    self.geometry = geometry
    random = seed
  }

  /// Fills the memory with pseudo-random words.
  public func scramble() {
    for offset in stride(from: 0, to: region.count, by: 8) { region.store64(next(), at: offset) }
  }

  /// Starts over: no peer, a memory of zeroes, another seed.
  public func restart(seed: UInt64) {
    region.fill(region.ownRange(0..<region.count), with: 0)
    armed = [false, false]
    events = [0, 0]
    states = [0, 0]
    isOneShot = [true, true]
    delivered = [[], []]
    time = 0
    random = seed
  }

  /// A peer is gone, as its hypervisor tells the other one: State 0, deaf.
  public func bury(_ peer: PeerID) {
    let own = Int(peer.rawValue)
    armed[own] = false
    events[own] = 0
    delivered[own] = []
    region.store32(0, at: geometry.stateWord(of: peer))
    guard states[own] != 0 else { return }
    states[own] = 0
    raise(1 - own)
  }

  deinit { unsafe base?.deallocate() }

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
    if recordsVectors { delivered[peer].append(vector) }
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
  public var region: SharedRegion { link.views[own] }

  /// Whether a register write happens: a step, and the dead write nothing.
  private func isAlive() -> Bool {
    #if CELLMATE_WATCH
      return region.isRegisterWriteDone()
    #else
      return true
    #endif
  }

  /// Writes State; a changed value interrupts the other peer if it is armed.
  public mutating func writeState(_ value: UInt32) {
    guard isAlive() else { return }
    link.region.store32(value, at: link.geometry.stateWord(of: peerID))
    guard link.states[own] != value else { return }
    link.states[own] = value
    link.raise(1 - own)
  }

  /// Reads the own State.
  public mutating func readState() -> UInt32 { link.states[own] }

  /// Writes the own Interrupt Control.
  public mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    if isAlive() { link.armed[own] = isEnabled }
  }

  /// Reads the own Interrupt Control.
  public mutating func interruptsEnabled() -> Bool { link.armed[own] }

  /// Rings the other peer; lost while it is not armed.
  public mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    guard isAlive(), vector.rawValue < vectorCount, peer.rawValue < 2 else { return }
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
