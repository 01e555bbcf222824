public import SharedMemory

/// What a platform's memory and interrupts can do; the data path obeys it (docs/porting.md).
public struct PlatformCapabilities: BitSet, Sendable {
  /// One bit per capability.
  public let rawValue: UInt16

  /// Wraps a set of bits.
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  /// The kernel can pin pages of the mapping, so direct I/O from and to it works. UIO mappings
  /// are not pinnable: direct I/O fails with EFAULT there.
  public static let pinnable = PlatformCapabilities(rawValue: 1 << 0)
  /// Unaligned accesses and library copies are safe on the mapping.
  public static let unalignedSafe = PlatformCapabilities(rawValue: 1 << 1)
  /// Each delivery clears Interrupt Control; it must be armed again after every wake-up.
  public static let oneShotInterrupts = PlatformCapabilities(rawValue: 1 << 2)
  /// A register write may be posted: read Interrupt Control back before looking.
  public static let postedRegisterWrites = PlatformCapabilities(rawValue: 1 << 3)
  /// A wait tells which vector was raised. Without it every event means "look at everything".
  public static let vectorIdentity = PlatformCapabilities(rawValue: 1 << 4)
}

/// Why a wait ended.
public enum WaitOutcome: Equatable, Sendable {
  /// An interrupt, or a call of the platform's local wake-up. May be spurious.
  case event
  /// The deadline passed.
  case deadline
  /// The process was asked to stop, or the platform is going away: look at the stop condition.
  case interrupted
  /// The platform is gone (the simulator's server died, the device was removed).
  case gone
}

/// Everything that a hypervisor or operating system has to provide, and nothing else.
///
/// A platform maps memory with its rights, rings a doorbell, waits for an interrupt, says who this
/// peer is, tells the time and gives random numbers. `docs/porting.md` is the complete statement
/// of what an implementation must guarantee. One value belongs to one thread: the link owner.
public protocol Platform: ~Copyable {
  /// What the memory and the interrupts can do; constant.
  var capabilities: PlatformCapabilities { get }
  /// This peer's id; constant.
  var peerID: PeerID { get }
  /// Where the sections lie; constant.
  var geometry: LinkGeometry { get }
  /// The number of interrupt vectors this peer may be rung on, at least 1; constant.
  var vectorCount: UInt16 { get }
  /// The whole shared memory, state table first; constant. A store to a section this peer does
  /// not own faults.
  var region: SharedRegion { get }

  /// Writes this peer's State register. All earlier stores are visible to whoever sees the new
  /// state; a changed value interrupts every armed peer.
  mutating func writeState(_ value: UInt32)

  /// Reads this peer's State register.
  mutating func readState() -> UInt32

  /// Writes Interrupt Control. While disabled, doorbells and state changes are lost, not latched.
  mutating func setInterruptsEnabled(_ isEnabled: Bool)

  /// Reads Interrupt Control: completes an earlier posted write.
  mutating func interruptsEnabled() -> Bool

  /// Writes the Doorbell register. Earlier stores are visible to the target before its interrupt.
  mutating func ringDoorbell(_ vector: Vector, at peer: PeerID)

  /// Sleeps until an interrupt or a local wake-up came since the last wait that returned
  /// `.event`, or until `deadline` (`nil`: for ever). Consumes what it returns for.
  mutating func wait(until deadline: Instant?) -> WaitOutcome

  /// The monotonic clock.
  func now() -> Instant

  /// An unpredictable 64-bit number; must differ from start to start (epochs are made from it).
  mutating func randomNumber() -> UInt64
}
