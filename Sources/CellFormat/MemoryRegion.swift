/// What a memory region may be used for (jailhouse_memory.flags).
public struct MemoryFlags: OptionSet, Sendable, Hashable {
  /// The 64 bits as they are in the file.
  public let rawValue: UInt64
  /// Any bits; unknown ones are kept.
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  /// The cell may read.
  public static let read = MemoryFlags(rawValue: 1)
  /// The cell may write.
  public static let write = MemoryFlags(rawValue: 2)
  /// The cell may run code there.
  public static let execute = MemoryFlags(rawValue: 4)
  /// Devices of the cell may reach it, and `jailhouse cell linux` takes it for RAM.
  public static let dma = MemoryFlags(rawValue: 8)
  /// Device registers: mapped as device memory.
  public static let io = MemoryFlags(rawValue: 0x10)
  /// The page shared with the hypervisor, which provides the memory.
  public static let commRegion = MemoryFlags(rawValue: 0x20)
  /// The root may write it while the cell is being loaded.
  public static let loadable = MemoryFlags(rawValue: 0x40)
  /// The root keeps its access.
  public static let rootShared = MemoryFlags(rawValue: 0x80)
  /// Mapped by 4 KiB pages only.
  public static let noHugePages = MemoryFlags(rawValue: 0x100)
  /// Trapped part of a page: unaligned accesses are allowed.
  public static let ioUnaligned = MemoryFlags(rawValue: 0x8000)
  /// Trapped part of a page: 8-bit accesses.
  public static let io8 = MemoryFlags(rawValue: 0x10000)
  /// Trapped part of a page: 16-bit accesses.
  public static let io16 = MemoryFlags(rawValue: 0x20000)
  /// Trapped part of a page: 32-bit accesses.
  public static let io32 = MemoryFlags(rawValue: 0x40000)
  /// Trapped part of a page: 64-bit accesses.
  public static let io64 = MemoryFlags(rawValue: 0x80000)
}

/// One memory region (jailhouse_memory, 32 bytes).
public struct MemoryRegion: Hashable, Sendable {
  /// Physical start address.
  public var physicalStart: UInt64
  /// Start address as the cell sees it.
  public var virtualStart: UInt64
  /// Length in bytes; 0 marks an empty slot, which still counts as a region.
  public var size: UInt64
  /// Rights and kind; unknown bits are kept.
  public var flags: MemoryFlags

  /// A region of its four fields.
  public init(physicalStart: UInt64, virtualStart: UInt64, size: UInt64, flags: MemoryFlags) {
    self.physicalStart = physicalStart
    self.virtualStart = virtualStart
    self.size = size
    self.flags = flags
  }
}
