public import SharedMemory

/// What a side tells about itself while nobody traps; a waiting protocol, not a lock.
public struct ExtendedStatus: BitSet, Sendable {
  /// The word as stored.
  public let rawValue: UInt32

  /// Wraps a word.
  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// The block is initialised.
  public static let present = ExtendedStatus(rawValue: 1 << 0)
  /// "I sleep until you move: ring me."
  public static let blocked = ExtendedStatus(rawValue: 1 << 1)
  /// Working on a transaction that takes its time.
  public static let busy = ExtendedStatus(rawValue: 1 << 2)
  /// Takes no new requests, finishes those it has.
  public static let quiescing = ExtendedStatus(rawValue: 1 << 3)
  /// The peer broke a rule; the reason word says which.
  public static let error = ExtendedStatus(rawValue: 1 << 4)
  /// State goes to 0 next, on purpose.
  public static let goingAway = ExtendedStatus(rawValue: 1 << 5)
}
