/// What is counted about an entropy device since it was made; never reset.
public struct EntropyCounters: Equatable, Sendable {
  /// Chains that got at least one byte.
  public var requests: UInt64 = 0
  /// Random bytes given out.
  public var bytes: UInt64 = 0
  /// Chains that got fewer bytes than they had room for.
  public var shortAnswers: UInt64 = 0
  /// Chains without room for a byte.
  public var malformed: UInt64 = 0

  /// All zero.
  public init() {}
}
