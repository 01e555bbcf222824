/// A peer that is a virtual machine: a vfio-user socket for QEMU's `vfio-user-pci`.
public struct MachineOptions: Sendable {
  /// Which peer.
  public var peer: UInt32
  /// Where the machine connects.
  public var path: String
  /// INTx instead of MSI-X.
  public var hasLine = false
  /// The 24 bits of the class code; `nil`: as the link has it.
  public var deviceClass: UInt32?
  /// Where the sections lie in the guest's memory; `nil`: in BAR 2.
  public var address: UInt64?

  /// A machine with MSI-X and BAR 2.
  public init(peer: UInt32, path: String) {
    self.peer = peer
    self.path = path
  }
}

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

  /// Peers that are virtual machines.
  public var machines: [MachineOptions] = []
  /// A file to make for the shared memory, which machines without BAR 2 map as their own memory.
  public var memoryPath: String?

  /// Two peers, 8 MiB output sections, INTx in one-shot mode, garbage.
  public init() {}
}
