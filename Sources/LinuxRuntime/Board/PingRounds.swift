import CLinux
import IVShmem
import SharedMemory

/// What came of asking.
struct PingResult {
  /// Round trips in nanoseconds, in their order.
  let times: [UInt64]
  /// Doorbells that the peer saw beyond those that were rung: somebody else's interrupts.
  var strays: UInt16 = 0
  /// Where it stopped early.
  let failure: PingFailure?

  init(_ times: [UInt64], _ failure: PingFailure?) {
    self.times = times
    self.failure = failure
  }
}

/// One side of a ping on a platform of its own; every wait has a deadline.
struct PingRounds<P: Platform & ~Copyable>: ~Copyable {
  private var platform: P
  private let peer: PeerID
  /// How long a stage may take, in nanoseconds.
  private let patience: UInt64
  /// What one look at the table may be late, where no interrupt comes.
  private static var glance: UInt64 { 20_000_000 }
  /// How long one doorbell may take, in nanoseconds.
  private static var roundLimit: UInt64 { 1_000_000_000 }
  /// An interrupt of a state that was seen already is taken for a doorbell when it is later than
  /// this; the count at the end would tell.
  private static var quiet: UInt64 { 2_000_000 }
  private var isArmed = false

  init(_ platform: consuming P, peer: PeerID, patience: UInt64) {
    self.platform = platform
    self.peer = peer
    self.patience = patience
  }

  /// What the peer's state says, and the state.
  private var peerState: UInt32 { platform.region.state(of: peer, in: platform.geometry) }
  private var isStopped: Bool { cl_stop_requested() != 0 }

  /// Arms, then looks, then sleeps, at most until `end`: nothing that came before is lost.
  ///
  /// - Returns: whether something woke it; `nil` when the platform is gone.
  private mutating func sleep(until end: UInt64) -> Bool? {
    switch platform.wait(until: Instant(nanoseconds: end)) {
    case .event: return true
    case .deadline, .interrupted: return false
    case .gone: return nil
    }
  }

  /// From here on a doorbell is delivered. Only one-shot devices have to be armed again: a register
  /// access may cost more than the rest of a round trip.
  private mutating func arm() {
    if isArmed, !platform.capabilities.contains(.oneShotInterrupts) { return }
    isArmed = true
    platform.setInterruptsEnabled(true)
    // The read completes a posted write.
    if platform.capabilities.contains(.postedRegisterWrites) { _ = platform.interruptsEnabled() }
  }

  /// Takes what was raised by states that were seen already, until nothing comes any more; bounded.
  private mutating func settle() -> Bool {
    for _ in 0..<64 {
      arm()
      switch sleep(until: platform.now().nanoseconds &+ Self.quiet) {
      case true?: continue
      case false?: return true
      case nil: return false
      }
    }
    return true
  }

  // MARK: Asking

  /// Pings.
  ///
  /// - Returns: the round trips that were made, how many doorbells the peer saw beyond them, and
  ///   where it stopped, if it did.
  mutating func ask(count: Int, vector: Vector, intervalNanoseconds: UInt64) -> PingResult {
    defer {
      platform.writeState(0)
      platform.setInterruptsEnabled(false)
    }
    var times: [UInt64] = []
    if let failure = begin(vector) { return PingResult(times, failure) }
    times.reserveCapacity(count)
    for round in 0..<count where !isStopped {
      if round > 0, intervalNanoseconds > 0, let failure = pause(intervalNanoseconds) {
        return PingResult(times, failure)
      }
      switch roundTrip(vector) {
      case .time(let time): times.append(time)
      case .failed(let failure): return PingResult(times, failure)
      case .lost where isStopped: return PingResult(times, nil)
      case .lost:
        return PingResult(times, diagnose(sent: UInt16(truncatingIfNeeded: round + 1)))
      }
    }
    var result = PingResult(times, nil)
    let sent = UInt16(truncatingIfNeeded: times.count)
    platform.writeState(PingWord.state(.ask, sent))
    if waitForPhase(.seen) == nil, let seen = PingWord.read(peerState)?.content {
      result.strays = seen &- sent
    }
    platform.writeState(PingWord.state(.end, 0))
    _ = waitForPhase(.ready)
    return result
  }

  /// Waits for the answering side, tells it the vector and waits until it is armed.
  private mutating func begin(_ vector: Vector) -> PingFailure? {
    arm()
    if let failure = waitForPhase(.ready) {
      // Whoever is in the middle of something else is busy, not silent.
      return failure == .peerSilent ? .peerBusy(peerState) : failure
    }
    platform.writeState(PingWord.state(.begin, vector.rawValue))
    if let failure = waitForPhase(.begun) { return failure }
    return settle() ? nil : .platformGone
  }

  /// Waits until the peer's state says this.
  private mutating func waitForPhase(_ phase: PingWord.Phase) -> PingFailure? {
    let end = platform.now().nanoseconds &+ patience
    var last: UInt32 = 0
    while true {
      arm()
      let state = peerState
      if state != 0 { last = state }
      if PingWord.read(state)?.phase == phase { return nil }
      let now = platform.now().nanoseconds
      guard now < end, !isStopped else {
        if state == 0 { return last == 0 ? .peerAbsent : .peerLeft }
        return PingWord.read(state) == nil ? .peerBusy(state) : .peerSilent
      }
      if sleep(until: min(end, now &+ Self.glance)) == nil { return .platformGone }
    }
  }

  private enum Round {
    case time(UInt64)
    case lost
    case failed(PingFailure)
  }

  private mutating func roundTrip(_ vector: Vector) -> Round {
    arm()
    let start = platform.now().nanoseconds
    let end = start &+ min(patience, Self.roundLimit)
    platform.ringDoorbell(vector, at: peer)
    while true {
      guard let isWoken = sleep(until: end) else { return .failed(.platformGone) }
      let now = platform.now().nanoseconds
      if isWoken {
        // A state interrupt equals a doorbell: who left did not answer.
        if PingWord.read(peerState)?.phase != .begun { return .failed(.peerLeft) }
        return .time(now &- start)
      }
      if isStopped || now >= end { return .lost }
    }
  }

  private mutating func pause(_ nanoseconds: UInt64) -> PingFailure? {
    let end = platform.now().nanoseconds &+ nanoseconds
    while platform.now().nanoseconds < end, !isStopped {
      if sleep(until: end) == nil { return .platformGone }
    }
    return nil
  }

  /// Finds out through the state alone which half of a round was lost.
  private mutating func diagnose(sent: UInt16) -> PingFailure {
    let isArmed = platform.interruptsEnabled()
    platform.writeState(PingWord.state(.ask, sent))
    switch waitForPhase(.seen) {
    case nil: break
    case .peerAbsent?, .peerLeft?, .peerBusy?: return .peerLeft
    case let failure?: return failure
    }
    guard let seen = PingWord.read(peerState)?.content else { return .peerLeft }
    if seen != sent { return .doorbellLost }
    return isArmed ? .answerLost : .notArmed
  }

  // MARK: Answering

  /// Answers pings until `count` of them came to their end (`nil`: for ever) or a signal stops it.
  ///
  /// - Returns: the doorbells that were answered, and why it ended early.
  mutating func answer(count: Int?) -> (answered: UInt64, failure: PingFailure?) {
    var answered: UInt64 = 0
    var sessions = 0
    defer {
      platform.writeState(0)
      platform.setInterruptsEnabled(false)
    }
    arm()
    platform.writeState(PingWord.state(.ready, 0))
    while !isStopped, count.map({ sessions < $0 }) ?? true {
      let now = platform.now().nanoseconds
      arm()
      if PingWord.read(peerState)?.phase != .begin {
        if sleep(until: now &+ Self.glance) == nil { return (answered, .platformGone) }
        continue
      }
      guard let rounds = session() else { return (answered, .platformGone) }
      answered &+= rounds
      sessions += 1
      platform.writeState(PingWord.state(.ready, 0))
    }
    return (answered, nil)
  }

  /// One asking side, from its first state to its last; `nil` when the platform is gone.
  private mutating func session() -> UInt64? {
    guard let vector = PingWord.read(peerState)?.content else { return 0 }
    var seen: UInt64 = 0
    // What the beginning itself raised is taken first: afterwards every event is a doorbell.
    guard settle() else { return nil }
    arm()
    platform.writeState(PingWord.state(.begun, vector))
    var asked: UInt32 = 0
    while !isStopped {
      let end = platform.now().nanoseconds &+ Self.glance
      guard let isWoken = sleep(until: end) else { return nil }
      // Armed before the answer: the next doorbell follows it at once.
      arm()
      let state = peerState
      switch PingWord.read(state)?.phase {
      case .begin:
        guard isWoken else { continue }
        seen &+= 1
        platform.ringDoorbell(Vector(vector), at: peer)
      case .ask:
        guard state != asked else { continue }
        asked = state
        platform.writeState(PingWord.state(.seen, UInt16(truncatingIfNeeded: seen)))
      case .end, .ready, .begun, .seen, nil: return seen
      }
    }
    return seen
  }
}
