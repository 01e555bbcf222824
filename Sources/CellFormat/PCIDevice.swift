/// A PCI device of a cell (jailhouse_pci_device, 56 bytes).
public struct PCIDevice: Hashable, Sendable {
  /// Kinds of device.
  public enum Kind: UInt8, Sendable, CaseIterable { case device = 1, bridge = 2, ivshmem = 3 }

  public var rawType: UInt8 = Kind.ivshmem.rawValue
  public var iommu: UInt8 = 0
  public var domain: UInt16 = 0
  /// Bus, device, function: device << 3 on bus 0.
  public var bdf: UInt16 = 0
  /// Six masks.
  public var barMasks: [UInt32] = Array(repeating: 0, count: 6)
  public var capabilitiesStart: UInt16 = 0
  public var capabilityCount: UInt16 = 0
  public var msiVectorCount: UInt8 = 0
  /// Bit 0 msi_64bits, bit 1 msi_maskable; the rest is kept.
  public var msiBits: UInt8 = 0
  public var msixVectorCount: UInt16 = 0
  public var msixRegionSize: UInt16 = 0
  public var msixAddress: UInt64 = 0
  /// Index of the state table in the cell's memory regions.
  public var sharedMemoryStart: UInt32 = 0
  /// Own peer id on the link.
  public var sharedMemoryID: UInt8 = 0
  /// Number of peers.
  public var sharedMemoryPeers: UInt8 = 0
  /// 0 undefined, 1 veth, 0x4000-0x7fff custom, 0x8000 + id virtio front-end, 0xc000 + id back-end.
  public var sharedMemoryProtocol: UInt16 = 0

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
  public var start: UInt16 = 0
  public var length: UInt16 = 0
  /// WRITE 1.
  public var flags: UInt16 = 0
  public init() {}
}
