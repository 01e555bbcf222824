/// What a peer did wrong, in the reason word and in counters; stable numbers.
///
/// 0x1xx: header and handshake, 0x2xx: transactions, 0x3xx: queues (0x300 + the queue's own
/// reason).
public enum LinkReason: UInt32, Sendable {
  /// Nothing is wrong.
  case none = 0
  /// The peer's block does not start with the magic number.
  case badMagic = 0x101
  /// The peer speaks another version.
  case badVersion = 0x102
  /// The peer's block is of the wrong kind.
  case badKind = 0x103
  /// The peer uses another placement.
  case badPlacement = 0x104
  /// The peer needs features this side does not know.
  case unknownFeatures = 0x105
  /// The peer's pool is not the one the plan gives it.
  case badPool = 0x106
  /// The peer states a number of slots this side does not have.
  case badSlotCount = 0x107
  /// A request word that belongs to no pairing of the present.
  case foreignRequest = 0x201
  /// A transaction that was refused; the result word says why.
  case refusedTransaction = 0x202
  /// An acknowledgement that answers no request.
  case foreignAcknowledgement = 0x203
  /// A queue met an error of the driver.
  case brokenQueue = 0x300
}
