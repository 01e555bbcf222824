/// One chain the driver handed over: a linear value that must be given back exactly once, by
/// `DeviceQueue.complete` or ``detach()``. Dropping it is our bug and traps.
@frozen
public struct TakenChain: ~Copyable {
  /// The descriptor the chain starts with; its name in the used ring.
  public let head: UInt16
  @usableFromInline let generation: UInt32

  @inlinable @inline(__always)
  init(head: UInt16, generation: UInt32) {
    self.head = head
    self.generation = generation
  }

  @inlinable @inline(__always)
  consuming func giveBack() -> ChainTicket {
    let ticket = ChainTicket(head: head, generation: generation)
    discard self
    return ticket
  }

  /// Turns the chain into a ticket, for requests that end later. The queue counts it as in flight
  /// until it is completed with the ticket.
  @inlinable
  public consuming func detach() -> ChainTicket { giveBack() }

  // A taken chain was dropped instead of being returned. Without a message: the text of an
  // unconditional failure is the one thing here that would need a heap (Embedded Swift).
  @inlinable
  deinit { precondition(false) }
}

/// The name of a chain whose request ends later. A ticket of a queue that was reset meanwhile is
/// refused, not an error.
@frozen
public struct ChainTicket: Equatable, Sendable, BitwiseCopyable {
  /// The descriptor the chain starts with.
  public let head: UInt16
  @usableFromInline let generation: UInt32

  @inlinable @inline(__always)
  init(head: UInt16, generation: UInt32) {
    self.head = head
    self.generation = generation
  }

  /// A ticket no queue accepts (no queue has generation 0), to initialise tables with.
  public static let none = ChainTicket(head: 0, generation: 0)
}
