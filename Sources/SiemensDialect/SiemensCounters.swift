/// What a back-end of the Siemens dialect counts; never reset.
public struct SiemensCounters: Equatable, Sendable {
  /// Times a front-end became ready.
  public var pairings: UInt64 = 0
  /// Times a front-end that was served left, on purpose or not.
  public var losses: UInt64 = 0
  /// Write transactions carried out.
  public var transactions: UInt64 = 0
  /// Those that had no effect because their value was not acceptable.
  public var refusals: UInt64 = 0
  /// Those that named no field a front-end may write.
  public var strayTransactions: UInt64 = 0
  /// Those that were cleared unread, because the front-end had left.
  public var orphanedTransactions: UInt64 = 0
  /// Times the header of a link without a front-end had to be filled again.
  public var repairs: UInt64 = 0
  /// Resets by the driver.
  public var resets: UInt64 = 0
  /// Times service was ended with State 0, because there is no other way to refuse features.
  public var abandonments: UInt64 = 0
  /// Doorbells rung.
  public var doorbells: UInt64 = 0
  /// Doorbells rung once more in idleness, in case the driver lost the first.
  public var secondDoorbells: UInt64 = 0
  /// Chains taken.
  public var chains: UInt64 = 0
  /// Chains taken again that an earlier back-end had in flight.
  public var resumed: UInt64 = 0
  /// Bytes the device wrote into chains that ended later.
  public var bytesWritten: UInt64 = 0
  /// Queues that broke, or could not be made.
  public var queueErrors: UInt64 = 0
  /// The reason of the last queue error; 0 when none.
  public var lastQueueError: UInt32 = 0
  /// Times this side slept.
  public var sleeps: UInt64 = 0

  /// All zero.
  public init() {}
}

/// Every bound of the dialect's loops, with its reason.
enum SiemensLimits {
  /// Chains one queue may give before the next has its turn.
  static var chains: Int { 64 }
  /// Completions taken from the device in one step.
  static var completions: Int { 256 }
  /// Nanoseconds of idleness after which a doorbell is repeated once.
  static var secondDoorbell: UInt64 { 10_000_000 }
  /// Nanoseconds between two looks at a header that nobody uses.
  static var headerCheck: UInt64 { 1_000_000_000 }
}
