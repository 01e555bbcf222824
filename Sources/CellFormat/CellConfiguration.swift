/// What a cell may do besides (jailhouse_cell_desc.flags).
public struct CellFlags: OptionSet, Sendable, Hashable {
  /// The 32 bits as they are in the file.
  public let rawValue: UInt32
  /// Any bits; unknown ones are kept.
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  /// PASSIVE_COMMREG: the cell does not answer messages; it is shut down without being asked.
  public static let passiveCommRegion = CellFlags(rawValue: 1)
  /// TEST_DEVICE: the hypervisor offers its test device.
  public static let testDevice = CellFlags(rawValue: 2)
  /// AARCH32: the CPUs start in 32-bit state.
  public static let aarch32 = CellFlags(rawValue: 4)
  /// VIRTUAL_CONSOLE_PERMITTED: the debug console hypercall is allowed.
  public static let virtualConsolePermitted = CellFlags(rawValue: 0x4000_0000)
  /// VIRTUAL_CONSOLE_ACTIVE: the inmate prints by that hypercall.
  public static let virtualConsoleActive = CellFlags(rawValue: 0x8000_0000)
}

/// A cell: the description (jailhouse_cell_desc, 132 bytes) and the arrays behind it.
public struct CellConfiguration: Hashable, Sendable {
  /// Format revision of the file; for the root cell that of the system header.
  public var revision: FormatRevision = .fourteen
  /// Architecture; of a revision 13 file `nil`, because the file does not say.
  public var architecture: Architecture? = .arm64
  /// The 32 bytes of the name field, NUL included, kept as they are.
  public var nameBytes: [UInt8] = Array(repeating: 0, count: 32)
  /// Set by the driver; 0 in files.
  public var id: UInt32 = 0
  /// Rights and properties of the whole cell.
  public var flags = CellFlags()
  /// The cpu set: bit n of byte n / 8 is CPU n; its length is a multiple of 8 bytes in practice.
  public var cpuSet: [UInt8] = Array(repeating: 0, count: 8)
  /// Memory, in file order; links refer to regions by index.
  public var memoryRegions: [MemoryRegion] = []
  /// Cache partitions (x86).
  public var cacheRegions: [CacheRegion] = []
  /// Interrupts the cell owns, 128 an entry.
  public var irqchips: [IRQChip] = []
  /// I/O ports (x86).
  public var portRanges: [PortRange] = []
  /// PCI devices, physical and virtual (ivshmem).
  public var pciDevices: [PCIDevice] = []
  /// Capabilities of the physical PCI devices.
  public var pciCapabilities: [PCICapability] = []
  /// Stream ids; on a K3 board the upper half is a mask.
  public var streamIDs: [UInt32] = []
  /// An SPI number (not an INTID): INTA of virtual PCI; three more follow.
  public var vpciIRQBase: UInt32 = 0
  /// Where its CPUs start, as the cell sees memory.
  public var cpuResetAddress: UInt64 = 0
  /// How long the root waits for the cell's answer; 0: as long as it takes.
  public var messageReplyTimeout: UInt64 = 0
  /// The UART that the inmate is told of.
  public var console = Console()

  /// An empty cell for arm64.
  public init() {}

  /// The name up to the first NUL; bytes that are no UTF-8 become U+FFFD.
  public var name: String {
    String(decoding: nameBytes.prefix { $0 != 0 }, as: UTF8.self)
  }
  /// The largest set that Jailhouse takes: one page (hypervisor/control.c), 32768 CPUs.
  public static let largestCPUSet = 4096
  /// The numbers of the CPUs in the set, ascending; what is behind the largest set does not count.
  public var cpus: [Int] {
    (0..<min(cpuSet.count, Self.largestCPUSet) * 8)
      .filter { cpuSet[$0 / 8] >> UInt8($0 % 8) & 1 != 0 }
  }
  /// The interrupts (INTIDs) that some irqchip entry lists, ascending, no matter whether its
  /// address is the distributor's.
  public var interruptIDs: [Int] { Set(irqchips.flatMap(\.interruptIDs)).sorted() }
}

/// A system: the hypervisor's own part (jailhouse_system, 488 bytes) and its root cell.
public struct SystemConfiguration: Hashable, Sendable {
  /// VIRTUAL_DEBUG_CONSOLE 1.
  public var flags: UInt32 = 0
  /// Where the hypervisor lives; its virtual start and flags are not used.
  public var hypervisorMemory = MemoryRegion(
    physicalStart: 0, virtualStart: 0, size: 0, flags: MemoryFlags())
  /// The UART of the hypervisor itself.
  public var debugConsole = Console()
  /// ECAM: physical address of the PCI configuration space, 1 MiB a bus.
  public var mmconfigBase: UInt64 = 0
  /// Last bus of the configuration space.
  public var mmconfigEndBus: UInt8 = 0
  /// Not 0: the hypervisor provides the host bridge.
  public var pciIsVirtual: UInt8 = 0
  /// 0xffff: Linux chooses.
  public var pciDomain: UInt16 = 0
  /// Eight slots.
  public var iommus: [IOMMU] = Array(repeating: IOMMU(), count: 8)
  /// INTID of the maintenance interrupt of the interrupt controller.
  public var maintenanceIRQ: UInt8 = 0
  /// 2 or 3.
  public var gicVersion: UInt8 = 0
  /// The two bytes behind `gic_version`, kept.
  public var padding: UInt16 = 0
  /// Physical address of the distributor.
  public var gicdBase: UInt64 = 0
  /// Physical address of the CPU interface (GICv2).
  public var giccBase: UInt64 = 0
  /// Physical address of the hypervisor's interface (GICv2).
  public var gichBase: UInt64 = 0
  /// Physical address of the virtual CPU interface (GICv2).
  public var gicvBase: UInt64 = 0
  /// Physical address of the first redistributor (GICv3).
  public var gicrBase: UInt64 = 0
  /// The root cell; its revision and architecture are those of the system header.
  public var rootCell = CellConfiguration()
  /// The first 8 bytes of the embedded root cell_desc (signature, architecture, revision), which
  /// the driver does not look at; kept so that encoding gives back what was decoded.
  public var rootSignature: [UInt8] = Array(repeating: 0, count: 8)

  /// An empty system.
  public init() {}
}

/// The content of a `.cell` file.
public enum ConfigurationFile: Hashable, Sendable {
  case system(SystemConfiguration)
  case cell(CellConfiguration)

  /// The cell: of a system its root cell.
  public var cell: CellConfiguration {
    switch self {
    case .system(let system): system.rootCell
    case .cell(let cell): cell
    }
  }
}
