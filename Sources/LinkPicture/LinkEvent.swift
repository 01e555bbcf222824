public import VirtioTransport

/// One thing that a side of a link did, as the other side could see it.
public struct LinkAction: Equatable, Sendable {
  /// What it was.
  public enum Kind: Equatable, Sendable {
    /// Wrote its State register.
    case state(UInt32)
    /// Wrote Interrupt Control.
    case armed(Bool)
    /// Wrote the Doorbell register.
    case doorbell
    /// Stored its hello: epochs, 0 for none.
    case hello(own: UInt32, echo: UInt32)
    /// Stored its extended status.
    case status(ExtendedStatus)
    /// Stored a request word: the access that it asks for.
    case request(TransactionOperation, offset: Int, value: UInt64)
    /// Stored an acknowledgement word.
    case answer(result: UInt32, value: UInt64)
    /// Counted a notification of a queue.
    case notification(queue: Int, count: UInt32)
  }

  /// Who did it.
  public let side: LinkSide
  /// What it was.
  public let kind: Kind
}
