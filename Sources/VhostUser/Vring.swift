import SharedMemory

/// What the front-end has said about one ring.
struct Vring: BitwiseCopyable {
  /// Entries; a ring is unusable until they are set.
  var size: UInt32 = 0
  /// Addresses in the front-end process.
  var descriptors: UInt64 = 0
  var used: UInt64 = 0
  var available: UInt64 = 0
  var isAddressed = false
  /// The entry of the available ring to go on with.
  var base: UInt16 = 0
  /// Eventfds, or -1.
  var kick: Int32 = -1
  var call: Int32 = -1
  var error: Int32 = -1
  /// A kick was set up or came.
  var isStarted = false
  var isEnabled = false
  /// The driver broke a rule; until the ring is stopped.
  var isBroken = false
  /// Of the chains an earlier back-end had in flight: how many there are, how many were taken.
  var resumeCount = 0
  var resumed = 0
  /// Kick descriptors by generation, so that a late event of an old one is told apart.
  var kickGeneration: UInt32 = 0
}

/// What is counted about one vhost-user device; never reset.
public struct VhostUserCounters: Equatable, Sendable {
  /// Front-ends that connected.
  public var connections: UInt64 = 0
  /// Messages carried out.
  public var messages: UInt64 = 0
  /// Connections that ended because of what the front-end sent.
  public var violations: UInt64 = 0
  /// Chains taken.
  public var chains: UInt64 = 0
  /// Chains taken again after an earlier back-end had died with them.
  public var resumed: UInt64 = 0
  /// Calls sent to the driver.
  public var calls: UInt64 = 0
  /// Rings the driver broke.
  public var queueErrors: UInt64 = 0

  /// All zero.
  public init() {}
}
