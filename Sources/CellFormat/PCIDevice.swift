/// A PCI device of a cell (jailhouse_pci_device, 56 bytes).
public struct PCIDevice: Hashable, Sendable {
  /// Kinds of device.
  public enum Kind: UInt8, Sendable, CaseIterable { case device = 1, bridge = 2, ivshmem = 3 }

  /// The kind as a number.
  public var rawType: UInt8 = Kind.ivshmem.rawValue
  /// Slot of the IOMMU that serves it.
  public var iommu: UInt8 = 0
  /// PCI domain the device is in.
  public var domain: UInt16 = 0
  /// Bus, device, function: device << 3 on bus 0.
  public var bdf: UInt16 = 0
  /// Six masks.
  public var barMasks: [UInt32] = Array(repeating: 0, count: 6)
  /// Index of its first capability.
  public var capabilitiesStart: UInt16 = 0
  /// Number of its capabilities.
  public var capabilityCount: UInt16 = 0
  /// MSI vectors.
  public var msiVectorCount: UInt8 = 0
  /// Bit 0 msi_64bits, bit 1 msi_maskable; the rest is kept.
  public var msiBits: UInt8 = 0
  /// MSI-X vectors; 0: the device interrupts by INTx.
  public var msixVectorCount: UInt16 = 0
  /// Length of its MSI-X table in bytes.
  public var msixRegionSize: UInt16 = 0
  /// Physical address of the MSI-X table of a physical device.
  public var msixAddress: UInt64 = 0
  /// Index of the state table in the cell's memory regions.
  public var sharedMemoryStart: UInt32 = 0
  /// Own peer id on the link.
  public var sharedMemoryID: UInt8 = 0
  /// Number of peers.
  public var sharedMemoryPeers: UInt8 = 0
  /// 0 undefined, 1 veth, 0x4000-0x7fff custom, 0x8000 + id virtio front-end, 0xc000 + id back-end.
  public var sharedMemoryProtocol: UInt16 = 0

  /// An ivshmem device at 00:00.0, otherwise zero.
  public init() {}
  /// The kind, when it is a known one.
  public var kind: Kind? { Kind(rawValue: rawType) }
  /// Device number, 0 ... 31.
  public var deviceNumber: Int { Int(bdf >> 3) & 31 }
  /// The memory regions a link has: state table, read/write section, one output section a peer.
  public var sharedMemoryRegionCount: Int { 2 + Int(sharedMemoryPeers) }
}

/// A PCI capability (jailhouse_pci_capability, 8 bytes).
public struct PCICapability: Hashable, Sendable {
  /// Bit 15 marks an extended capability.
  public var id: UInt16 = 0
  /// Offset in the configuration space.
  public var start: UInt16 = 0
  /// Length in bytes.
  public var length: UInt16 = 0
  /// WRITE 1.
  public var flags: UInt16 = 0
  /// All zero.
  public init() {}
}
