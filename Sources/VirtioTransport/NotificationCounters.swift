public import IVShmem
import SharedMemory

/// This side's notification counters of one slot: how a queue keeps its identity when there are
/// fewer vectors than queues (docs/protocol.md, "Notifications").
public struct NotificationCounters: Sendable {
  private let slot: Int
  private var own: InlineArray<32, UInt32> = InlineArray(repeating: 0)
  private var seen: InlineArray<32, UInt32> = InlineArray(repeating: 0)

  /// Counters of one slot; both copies start at 0.
  public init(slot: Int) { self.slot = slot }

  @inline(never)
  private func offset(_ side: LinkSide, _ block: Int, _ queue: Int) -> Int {
    switch side {
    case .frontEnd:
      block + BlockLayout.driverSlot(slot) + BlockLayout.DriverSlot.counters.rawValue + 4 * queue
    case .backEnd:
      block + BlockLayout.deviceSlot(slot) + BlockLayout.DeviceSlot.counters.rawValue + 4 * queue
    }
  }

  /// The link came up: takes the peer's counters as they are. The owner then scans every queue
  /// once, unconditionally; nothing weaker survives a restart.
  public mutating func begin<P: Platform & ~Copyable>(on link: borrowing NativeLink<P>) {
    for queue in 0..<32 {
      seen[queue] = link.region.load32Acquiring(
        offset(link.plan.side.peer, link.plan.peerBlock, queue))
    }
  }

  /// Tells the peer that `queue` moved.
  public mutating func notify<P: Platform & ~Copyable>(
    queue: Int, on link: inout NativeLink<P>
  ) {
    own[queue] &+= 1
    // Release: the ring index that was published before is visible to who sees the counter.
    link.region.store32Releasing(
      own[queue], at: offset(link.plan.side, link.plan.ownBlock, queue))
    let vectors = link.platform.vectorCount
    let vector = vectors > 1 ? 1 + UInt16(truncatingIfNeeded: queue) % (vectors - 1) : 0
    link.wakePeer(Vector(vector))
  }

  /// Whether the peer notified `queue` since the last call.
  public mutating func takeNotification<P: Platform & ~Copyable>(
    queue: Int, on link: borrowing NativeLink<P>
  ) -> Bool {
    let now = link.region.load32Acquiring(
      offset(link.plan.side.peer, link.plan.peerBlock, queue))
    guard now != seen[queue] else { return false }
    seen[queue] = now
    return true
  }

  /// Whether the peer notified `queue` since the last ``takeNotification(queue:on:)``.
  public func hasNotification<P: Platform & ~Copyable>(
    queue: Int, on link: borrowing NativeLink<P>
  ) -> Bool {
    link.region.load32Acquiring(offset(link.plan.side.peer, link.plan.peerBlock, queue))
      != seen[queue]
  }
}
