/// What a link carries; the names of `kind:` in a setup.
public enum LinkKind: String, CaseIterable, Sendable {
  case block, console, network, entropy, native

  /// The VIRTIO device type; `nil` for the native protocol, which carries several devices.
  public var virtioID: UInt16? {
    switch self {
    case .network: 1
    case .block: 2
    case .console: 3
    case .entropy: 4
    case .native: nil
    }
  }
}

/// A UART of a board.
public struct BoardUART: Hashable, Sendable {
  /// Jailhouse's console type and the tree's compatible strings belong together.
  public enum Kind: String, CaseIterable, Sendable { case pl011, imx, lpuart }
  /// Name, unique on its board.
  public var name: String
  /// Its programming model.
  public var kind: Kind
  /// Registers.
  public var registers: Span
  /// SPI number.
  public var spi: Int
  /// `compatible` of its node.
  public var compatible: [String]
  /// Names of the clocks; all are one fixed clock.
  public var clockNames: [String]
  /// Hz, for the fixed clock of a guest's tree.
  public var clockFrequency: Int
  /// What Linux calls it: `ttymxc3`.
  public var tty: String
}

/// Memory the root cell gets.
public struct RootRegion: Hashable, Sendable {
  /// What the root cell may do there.
  public enum Access: String, CaseIterable, Sendable {
    case rwx, rw
    /// Registers.
    case io
  }
  /// Name, unique on its board.
  public var name: String
  /// Its addresses.
  public var span: Span
  /// What the root cell may do there.
  public var access: Access
}

/// Where a kind of link lies by default, so that a stock root cell and ours agree.
public struct LinkSlot: Hashable, Sendable {
  /// The kind.
  public var kind: LinkKind
  /// Device number on bus 0.
  public var device: Int
  /// Its addresses.
  public var span: Span
}

/// A CPU; its number is its place in the list.
public struct BoardCPU: Hashable, Sendable {
  /// Affinity as in `reg` of its node.
  public var mpidr: UInt32
  /// `compatible` of its node.
  public var compatible: String
}

/// An IOMMU and the streams of the root cell.
public struct BoardIOMMU: Hashable, Sendable {
  /// Jailhouse's number of the type.
  public var type: UInt32
  /// Its registers.
  public var registers: Span
  /// jailhouse_stream_id as one word.
  public var rootStreams: [UInt32]
}

/// A step of the board's way from power-on to a running root cell.
public struct BringUpStep: Hashable, Sendable {
  /// What to do, one sentence or more.
  public var text: String
  /// Commands; `{root-memory}` stands for the list of banks that are left to the root cell.
  public var commands: [String]
}

/// The facts of a board, as read from its `board.yaml`.
public struct BoardDescription: Hashable, Sendable {
  /// Name, unique on its board.
  public var name: String
  /// What people call it.
  public var title: String
  /// `compatible` of the guest trees' root node.
  public var compatible: [String]
  /// The interrupt controller's distributor.
  public var distributor: Span
  /// The redistributors of all CPUs.
  public var redistributor: Span
  /// INTID of the maintenance interrupt.
  public var maintenanceIRQ: Int
  /// Number of SPIs the root cell owns, a multiple of 128.
  public var spiCount: Int
  /// All CPUs of the board.
  public var cpus: [BoardCPU]
  /// Third cell of the timer interrupts.
  public var timerFlags: Int
  /// Hz, where the firmware does not set CNTFRQ.
  public var timerFrequency: Int?
  /// Memory of the hypervisor.
  public var hypervisor: Span
  /// Name of the UART that hypervisor and root cell use.
  public var debugUART: String
  /// The UARTs that cells can have.
  public var uarts: [BoardUART]
  /// ECAM; bus 0 only, 1 MiB.
  public var ecam: UInt64
  /// PCI domain of the root's virtual PCI; 0xffff: Linux chooses.
  public var pciDomain: Int
  /// First of four SPIs of the root's virtual PCI.
  public var rootSPI: Int
  /// First of four SPIs each: the guests' virtual PCI, one slot a guest.
  public var guestSPIs: [Int]
  /// Memory and registers of the root cell.
  public var rootRegions: [RootRegion]
  /// Where links may lie.
  public var sharedWindows: [Span]
  /// Where guests' memory may lie.
  public var guestWindows: [Span]
  /// Where the loaders of Linux guests lie, 64 KiB each.
  public var loaderWindow: Span
  /// RAM that Linux in the root cell may use, before everything above is taken away.
  public var rootLinuxRAM: [Span]
  /// Places of the first link of each kind.
  public var slots: [LinkSlot]
  /// The IOMMU, where there is one that Jailhouse drives.
  public var iommu: BoardIOMMU?
  /// Kernel arguments of the root cell.
  public var rootArguments: String
  /// The steps to a running root cell.
  public var bringUp: [BringUpStep]
  /// Where the file was read from.
  public var place: InputPlace

  /// The UART with a name.
  public func uart(_ name: String) -> BoardUART? { uarts.first { $0.name == name } }
  /// One MiB, one bus.
  public var ecamSpan: Span { Span(start: ecam, size: 0x10_0000) }
  /// The BARs of the root's devices: two pages for each of the 32 that can exist.
  public var rootBARs: Span { Span(start: ecam + 0x10_0000, size: 64 * pageSize) }
}
