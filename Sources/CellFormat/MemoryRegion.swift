/// What a memory region may be used for (jailhouse_memory.flags).
public struct MemoryFlags: OptionSet, Sendable, Hashable {
  public let rawValue: UInt64
  public init(rawValue: UInt64) { self.rawValue = rawValue }
  public static let read = MemoryFlags(rawValue: 1)
  public static let write = MemoryFlags(rawValue: 2)
  public static let execute = MemoryFlags(rawValue: 4)
  public static let dma = MemoryFlags(rawValue: 8)
  public static let io = MemoryFlags(rawValue: 0x10)
  public static let commRegion = MemoryFlags(rawValue: 0x20)
  public static let loadable = MemoryFlags(rawValue: 0x40)
  public static let rootShared = MemoryFlags(rawValue: 0x80)
  public static let noHugePages = MemoryFlags(rawValue: 0x100)
  public static let ioUnaligned = MemoryFlags(rawValue: 0x8000)
  public static let io8 = MemoryFlags(rawValue: 0x10000)
  public static let io16 = MemoryFlags(rawValue: 0x20000)
  public static let io32 = MemoryFlags(rawValue: 0x40000)
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

  public init(physicalStart: UInt64, virtualStart: UInt64, size: UInt64, flags: MemoryFlags) {
    self.physicalStart = physicalStart
    self.virtualStart = virtualStart
    self.size = size
    self.flags = flags
  }
}
