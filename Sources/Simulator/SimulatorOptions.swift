/// What a simulated link looks like and which of a platform's bad days it imitates.
public struct SimulatorOptions: Sendable {
  /// What lies in the sections at the start.
  public enum Contents: Equatable, Sendable {
    /// Zeroes.
    case zero
    /// Pseudo-random bytes from this seed.
    case garbage(UInt64)
  }

  /// Peers the link has room for.
  public var maxPeers: UInt32 = 2
  /// Bytes of the read/write section.
  public var readWriteSize: UInt64 = 0
  /// Bytes of each output section.
  public var outputSize: UInt64 = 8 << 20
  /// Vectors a peer; 1 stands for INTx.
  public var vectorCount: UInt32 = 1
  /// The VIRTIO device type in the class codes of a link for Linux' `virtio_ivshmem`; `nil` when
  /// the link has no class codes.
  public var virtioDevice: UInt8?
  /// Each delivery clears Interrupt Control.
  public var isOneShot = true
  /// Contents of the sections at the start; Jailhouse clears none of them.
  public var contents = Contents.garbage(1)
  /// Whether the state table holds garbage at the start (hazard H9).
  public var hasStaleStates = false
  /// Whether a joining peer finds the other peers' sections overwritten (hazard H16).
  public var overwritesAtStart = false
  /// Pretend the memory cannot be pinned, as UIO maps cannot.
  public var isUnpinnable = false
  /// Pretend the memory is Device memory, as vfio maps are on arm64.
  public var hasStrictAlignment = false

  /// Two peers, 8 MiB output sections, INTx in one-shot mode, garbage.
  public init() {}
}
