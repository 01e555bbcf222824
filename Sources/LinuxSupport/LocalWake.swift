import CLinux

/// Ends a peer's wait from another thread or from a signal handler of the same process; latches,
/// so a wake-up before the wait is not lost.
public struct LocalWake: Equatable, Sendable {
  /// The event descriptor that is signalled; stays valid as long as the peer lives.
  public let descriptor: Int32

  /// Wraps the descriptor of an event.
  public init(descriptor: Int32) { self.descriptor = descriptor }

  /// Wakes the peer.
  public func signal() { _ = cl_event_signal(descriptor) }
}
