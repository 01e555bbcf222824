/// A cache region (jailhouse_cache, 12 bytes).
public struct CacheRegion: Hashable, Sendable {
  /// First way of the cache.
  public var start: UInt32 = 0
  /// Number of ways.
  public var size: UInt32 = 0
  /// Kind of cache.
  public var type: UInt8 = 0
  /// Unused byte, kept.
  public var padding: UInt8 = 0
  /// ROOTSHARED 1.
  public var flags: UInt16 = 0
  /// All zero.
  public init() {}
}

/// 128 interrupts of one interrupt controller (jailhouse_irqchip, 32 bytes).
public struct IRQChip: Hashable, Sendable {
  /// Has to be the distributor's address, or the entry is ignored silently.
  public var address: UInt64 = 0
  /// Set to 0 on Arm.
  public var id: UInt32 = 0
  /// INTID of bit 0 of the first word: a multiple of 32, at least 32 for SPIs.
  public var pinBase: UInt32 = 0
  /// Four words: bit b of word w stands for INTID `pinBase + 32 * w + b`.
  public var pinBitmap: [UInt32] = [0, 0, 0, 0]
  /// No interrupts.
  public init() {}

  /// The INTIDs of the set bits, ascending.
  public var interruptIDs: [Int] {
    (0..<128).filter { pinBitmap[$0 / 32] >> UInt32($0 % 32) & 1 != 0 }
      .map { Int(pinBase) + $0 }
  }
}

/// A range of I/O ports (jailhouse_pio, 4 bytes).
public struct PortRange: Hashable, Sendable {
  /// First port.
  public var base: UInt16 = 0
  /// Number of ports.
  public var length: UInt16 = 0
  /// All zero.
  public init() {}
}

/// An IOMMU (jailhouse_iommu, 28 bytes).
public struct IOMMU: Hashable, Sendable {
  /// NONE 0, AMD 1, INTEL 2, SMMUV3 3, PVU 4, ARM_MMU500 5.
  public var type: UInt32 = 0
  /// Physical address of its registers.
  public var base: UInt64 = 0
  /// Length of its registers in bytes.
  public var size: UInt32 = 0
  /// The twelve bytes that depend on the type.
  public var specific: [UInt8] = Array(repeating: 0, count: 12)
  /// An unused slot.
  public init() {}
}
