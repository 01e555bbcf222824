/// What is counted about a console device since it was made; never reset.
public struct ConsoleCounters: Equatable, Sendable {
  /// Bytes the driver got.
  public var bytesToDriver: UInt64 = 0
  /// Bytes of the driver that the host took.
  public var bytesFromDriver: UInt64 = 0
  /// Bytes of the driver that nobody took: no one at the other end, or a queue was stopped.
  public var bytesDropped: UInt64 = 0
  /// Times the host could not take a whole chain at once.
  public var blockedChains: UInt64 = 0
  /// Control messages the driver sent.
  public var messagesFromDriver: UInt64 = 0
  /// Control messages the driver got.
  public var messagesToDriver: UInt64 = 0
  /// Control messages without a whole header, of an unknown event or for a port that is not there.
  public var badMessages: UInt64 = 0
  /// Chains for control messages that could not hold the one that was due.
  public var shortBuffers: UInt64 = 0
  /// Characters of the emergency register.
  public var emergencyWrites: UInt64 = 0

  /// All zero.
  public init() {}
}
