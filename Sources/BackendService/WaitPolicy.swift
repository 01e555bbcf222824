import CLinux
import CService

/// What a loop does while there is nothing to do.
public enum WaitPolicy: Equatable, Sendable {
  /// Sleeps at once; an interrupt ends the sleep.
  case interrupt
  /// Never sleeps while a front-end is connected.
  case poll
  /// Looks for so many nanoseconds, then sleeps.
  case adaptive(nanoseconds: UInt64)

  /// As on the command line.
  public var name: String {
    switch self {
    case .interrupt: "interrupt"
    case .poll: "poll"
    case .adaptive: "adaptive"
    }
  }
}

/// How links are given to threads.
public enum ThreadPolicy: Equatable, Sendable {
  /// One thread for all links and for the service.
  case single
  /// A thread for each link or socket, and one for the service.
  case perLink

  /// As on the command line.
  public var name: String { self == .single ? "single" : "per-link" }
}

/// Carries a ``WaitPolicy`` out for one loop.
struct IdleLoop {
  enum Next {
    /// Look at shared memory again.
    case look
    /// Also look at what only the system can tell.
    case peek
    /// Sleep.
    case sleep
  }

  let policy: WaitPolicy
  private var since: UInt64 = 0
  private var looks: UInt32 = 0

  init(_ policy: WaitPolicy) { self.policy = policy }

  /// There was something to do, or a sleep is over.
  mutating func restart() { since = 0 }

  /// Nothing to do; what next?
  mutating func next() -> Next {
    switch policy {
    case .interrupt: return .sleep
    case .poll:
      looks &+= 1
      cs_relax()
      return looks & 1023 == 0 ? .peek : .look
    case .adaptive(let limit):
      guard limit > 0 else { return .sleep }
      looks &+= 1
      // The clock costs as much as a look: read it now and then.
      guard looks & 15 == 0 else {
        cs_relax()
        return .look
      }
      let now = cl_monotonic_ns()
      if since == 0 { since = now }
      return now - since < limit ? .look : .sleep
    }
  }
}
