import ToolSupport

/// The states by which the two sides of a ping tell each other what they are doing: 12 bits that
/// no other protocol of ours or of Linux uses, 4 bits of phase, 16 bits of content.
///
/// A ping needs nothing of a link but State and doorbell: the shared memory is not touched, so
/// it works on links of every kind.
enum PingWord {
  /// Bits 31:20.
  static var mark: UInt32 { 0xce9 }

  enum Phase: UInt32 {
    /// Answering side: waits for somebody. Content 0.
    case ready = 1
    /// Asking side: rounds begin. Content: the vector to ring and to be rung on.
    case begin = 2
    /// Answering side: rounds may come. Content: 1 when the interrupt of the asking side's state
    /// woke it, 0 when it found the state by looking.
    case begun = 3
    /// Asking side: a round was lost; how many doorbells did you see? Content: a serial.
    case ask = 4
    /// Answering side: this many, in 16 bits.
    case seen = 5
    /// Asking side: done.
    case end = 6
  }

  static func state(_ phase: Phase, _ content: UInt16) -> UInt32 {
    mark << 20 | phase.rawValue << 16 | UInt32(content)
  }

  /// What a state says; `nil` when it is none of a ping's.
  static func read(_ state: UInt32) -> (phase: Phase, content: UInt16)? {
    guard state >> 20 == mark, let phase = Phase(rawValue: state >> 16 & 15) else { return nil }
    return (phase, UInt16(truncatingIfNeeded: state))
  }
}

/// Where a ping stopped.
enum PingFailure: Equatable {
  /// The peer's state is 0 for the whole time.
  case peerAbsent
  /// The peer does something else; its state.
  case peerBusy(UInt32)
  /// The peer waits for a ping and does not take ours.
  case peerSilent
  /// The peer ended in the middle.
  case peerLeft
  /// The doorbell of a round did not wake the peer.
  case doorbellLost
  /// The peer answered, and nothing woke us although interrupts were armed.
  case answerLost
  /// The peer answered, and we were not armed: Interrupt Control reads 0 without a delivery.
  case notArmed
  /// The platform went away.
  case platformGone

  /// A stable name for scripts.
  var name: String {
    switch self {
    case .peerAbsent: "peer-absent"
    case .peerBusy: "peer-busy"
    case .peerSilent: "peer-silent"
    case .peerLeft: "peer-left"
    case .doorbellLost: "doorbell-lost"
    case .answerLost: "answer-lost"
    case .notArmed: "not-armed"
    case .platformGone: "platform-gone"
    }
  }

  /// One line with the way out.
  func text(_ peer: UInt16, vector: UInt16) -> String {
    switch self {
    case .peerAbsent:
      "peer \(peer) is absent (its state is 0); start 'ivshmem ping LINK --answer' on its side"
    case .peerBusy(let state):
      "peer \(peer) does something else (state \(stateText(state))); a ping needs both devices for"
        + " itself"
    case .peerSilent:
      "peer \(peer) waits for a ping and does not answer ours: it hangs, or it sees another state"
        + " table than we do (memory addresses of the link differ between the cells?)"
    case .peerLeft: "peer \(peer) left in the middle"
    case .doorbellLost:
      "the doorbell does not reach peer \(peer) on vector \(vector): its interrupt is not delivered"
        + " (not owned by its cell? INTx and a vector other than 0?)"
    case .answerLost:
      "peer \(peer) got the doorbell and rang back, and no interrupt came here, on vector"
        + " \(vector): 'ivshmem doctor' on this side"
    case .notArmed:
      "peer \(peer) rang back while Interrupt Control was 0: something else disarms this"
    case .platformGone: "the device or the simulator went away"
    }
  }
}

/// Round trips in nanoseconds, at most one for each ping.
struct PingTimes {
  private(set) var sorted: [UInt64]

  init(_ times: [UInt64]) { sorted = times.sorted() }

  /// The time that `perMille` of 1000 round trips do not exceed (nearest rank); 0 without any.
  func percentile(_ perMille: Int) -> UInt64 {
    guard !sorted.isEmpty else { return 0 }
    let rank = (sorted.count * perMille + 999) / 1000
    return sorted[min(sorted.count, max(1, rank)) - 1]
  }

  var mean: UInt64 {
    guard !sorted.isEmpty else { return 0 }
    return sorted.reduce(0) { $0 &+ $1 } / UInt64(sorted.count)
  }

  /// How many fell into each doubling: the lower end in nanoseconds, and the count.
  var histogram: [(from: UInt64, count: Int)] {
    var bins: [(from: UInt64, count: Int)] = []
    for time in sorted {
      let from: UInt64 = time == 0 ? 0 : 1 << UInt64(63 - time.leadingZeroBitCount)
      if bins.last?.from == from {
        bins[bins.count - 1].count += 1
      } else {
        bins.append((from, 1))
      }
    }
    return bins
  }
}

/// A time in nanoseconds, in microseconds with a digit after the point.
func microseconds(_ nanoseconds: UInt64) -> String {
  let tenths = (nanoseconds &+ 50) / 100
  return "\(tenths / 10).\(tenths % 10)"
}
