/// What the driver side counts; never reset.
public struct BlockDriverCounters: Equatable, Sendable {
  /// Requests taken from the caller.
  public var submitted: UInt64 = 0
  /// Requests given back to the caller.
  public var completed: UInt64 = 0
  /// Requests submitted again on a new queue.
  public var resubmitted: UInt64 = 0
  /// Completions that broke a rule.
  public var invalid: UInt64 = 0

  /// All zero.
  public init() {}
}
