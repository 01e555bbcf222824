import CLinux
import LinkFormat
import ToolSupport

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

/// One side of a ping on a link of its own; every wait has a deadline.
struct PingRounds: ~Copyable {
  private let link: RawLink
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

  init(_ link: consuming RawLink, peer: PeerID, patience: UInt64) {
    self.link = link
    self.peer = peer
    self.patience = patience
  }

  /// What the peer's state says, and the state.
  private var peerState: UInt32 { link.state(of: peer) }
  private var isStopped: Bool { cl_stop_requested() != 0 }

  /// Arms, then looks, then sleeps, at most until `end`: nothing that came before is lost.
  ///
  /// - Returns: whether something woke it; `nil` when the platform is gone.
  private mutating func sleep(until end: UInt64) -> Bool? {
    switch link.wait(until: end) {
    case .event: true
    case .deadline: false
    case .gone: nil
    }
  }

  /// From here on a doorbell is delivered. Only one-shot devices have to be armed again: a register
  /// access may cost more than the rest of a round trip.
  private mutating func arm() {
    if isArmed, !link.isOneShot { return }
    isArmed = true
    link.arm(true)
  }

  /// Takes what was raised by states that were seen already, until nothing comes any more; bounded.
  private mutating func settle() -> Bool {
    for _ in 0..<64 {
      arm()
      switch sleep(until: cl_monotonic_ns() &+ Self.quiet) {
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
      link.writeState(0)
      link.arm(false)
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
    link.writeState(PingWord.state(.ask, sent))
    if waitForPhase(.seen) == nil, let seen = PingWord.read(peerState)?.content {
      result.strays = seen &- sent
    }
    link.writeState(PingWord.state(.end, 0))
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
    link.writeState(PingWord.state(.begin, vector.rawValue))
    if let failure = waitForPhase(.begun) { return failure }
    return settle() ? nil : .platformGone
  }

  /// Waits until the peer's state says this.
  private mutating func waitForPhase(_ phase: PingWord.Phase) -> PingFailure? {
    let end = cl_monotonic_ns() &+ patience
    var last: UInt32 = 0
    while true {
      arm()
      let state = peerState
      if state != 0 { last = state }
      if PingWord.read(state)?.phase == phase { return nil }
      let now = cl_monotonic_ns()
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
    let start = cl_monotonic_ns()
    let end = start &+ min(patience, Self.roundLimit)
    link.ring(vector, at: peer)
    while true {
      guard let isWoken = sleep(until: end) else { return .failed(.platformGone) }
      let now = cl_monotonic_ns()
      if isWoken {
        // A state interrupt equals a doorbell: who left did not answer.
        if PingWord.read(peerState)?.phase != .begun { return .failed(.peerLeft) }
        return .time(now &- start)
      }
      if isStopped || now >= end { return .lost }
    }
  }

  private mutating func pause(_ nanoseconds: UInt64) -> PingFailure? {
    let end = cl_monotonic_ns() &+ nanoseconds
    while cl_monotonic_ns() < end, !isStopped {
      if sleep(until: end) == nil { return .platformGone }
    }
    return nil
  }

  /// Finds out through the state alone which half of a round was lost.
  private mutating func diagnose(sent: UInt16) -> PingFailure {
    let isArmed = link.isArmed
    link.writeState(PingWord.state(.ask, sent))
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
      link.writeState(0)
      link.arm(false)
    }
    arm()
    link.writeState(PingWord.state(.ready, 0))
    while !isStopped, count.map({ sessions < $0 }) ?? true {
      let now = cl_monotonic_ns()
      arm()
      if PingWord.read(peerState)?.phase != .begin {
        if sleep(until: now &+ Self.glance) == nil { return (answered, .platformGone) }
        continue
      }
      guard let rounds = session() else { return (answered, .platformGone) }
      answered &+= rounds
      sessions += 1
      link.writeState(PingWord.state(.ready, 0))
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
    link.writeState(PingWord.state(.begun, vector))
    var asked: UInt32 = 0
    while !isStopped {
      let end = cl_monotonic_ns() &+ Self.glance
      guard let isWoken = sleep(until: end) else { return nil }
      // Armed before the answer: the next doorbell follows it at once.
      arm()
      let state = peerState
      switch PingWord.read(state)?.phase {
      case .begin:
        guard isWoken else { continue }
        seen &+= 1
        link.ring(Vector(vector), at: peer)
      case .ask:
        guard state != asked else { continue }
        asked = state
        link.writeState(PingWord.state(.seen, UInt16(truncatingIfNeeded: seen)))
      case .end, .ready, .begun, .seen, nil: return seen
      }
    }
    return seen
  }
}
