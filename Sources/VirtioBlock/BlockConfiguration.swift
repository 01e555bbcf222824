/// The configuration space of a block device (VIRTIO 1.4, 5.2.4): the one table of its fields.
public struct BlockConfiguration: Equatable, Sendable {
  /// The fields and where they lie.
  public enum Field: Int, Sendable {
    /// u64, in sectors of 512 bytes.
    case capacity = 0
    /// u32, the largest segment in bytes.
    case sizeMax = 8
    /// u32, the most data segments of a request.
    case segmentMax = 12
    /// u32, bytes of a logical block.
    case blockSize = 20
    /// u8, log2 of logical blocks per physical block.
    case physicalBlockExponent = 24
    /// u8, offset of the first aligned logical block.
    case alignmentOffset = 25
    /// u16, suggested minimum I/O size in blocks.
    case minimumIOSize = 26
    /// u32, suggested optimal I/O size in blocks.
    case optimalIOSize = 28
    /// u8, 1: write-back.
    case writeback = 32
    /// u16, number of queues.
    case queueCount = 34
    /// u32, sectors.
    case maximumDiscardSectors = 36
    /// u32, segments.
    case maximumDiscardSegments = 40
    /// u32, sectors.
    case discardSectorAlignment = 44
    /// u32, sectors.
    case maximumWriteZeroesSectors = 48
    /// u32, segments.
    case maximumWriteZeroesSegments = 52
    /// u8, 1: write zeroes may unmap.
    case writeZeroesMayUnmap = 56
  }

  /// Bytes of the space.
  public static let size = 60

  /// Capacity in sectors of 512 bytes.
  public var capacity: UInt64 = 0
  /// The largest segment in bytes.
  public var sizeMax: UInt32 = 0
  /// The most data segments of a request.
  public var segmentMax: UInt32 = 0
  /// Bytes of a logical block.
  public var blockSize: UInt32 = 512
  /// log2 of logical blocks per physical block.
  public var physicalBlockExponent: UInt8 = 0
  /// Logical blocks before the first aligned one.
  public var alignmentOffset: UInt8 = 0
  /// Suggested smallest request in logical blocks; 0 when nothing is suggested.
  public var minimumIOSize: UInt16 = 0
  /// Suggested best request in logical blocks; 0 when nothing is suggested.
  public var optimalIOSize: UInt32 = 0
  /// Whether completed writes may still be volatile.
  public var isWriteback = true
  /// Number of queues.
  public var queueCount: UInt16 = 1
  /// Most sectors of one discard segment.
  public var maximumDiscardSectors: UInt32 = 0
  /// Most segments of one discard request.
  public var maximumDiscardSegments: UInt32 = 0
  /// Sectors a discard is best aligned to.
  public var discardSectorAlignment: UInt32 = 1
  /// Most sectors of one write-zeroes segment.
  public var maximumWriteZeroesSectors: UInt32 = 0
  /// Most segments of one write-zeroes request.
  public var maximumWriteZeroesSegments: UInt32 = 0
  /// Whether write zeroes with the unmap flag can free storage.
  public var writeZeroesMayUnmap = true

  /// All defaults.
  public init() {}

  /// Reads the fields out of the bytes of the space; missing bytes count as 0.
  public init(_ bytes: Span<UInt8>) {
    func value(_ field: Field, _ width: Int) -> UInt64 {
      var value: UInt64 = 0
      for index in (0..<width).reversed() {
        let offset = field.rawValue + index
        value = value << 8 | UInt64(offset < bytes.count ? bytes[offset] : 0)
      }
      return value
    }
    func word(_ field: Field) -> UInt32 { UInt32(truncatingIfNeeded: value(field, 4)) }
    capacity = value(.capacity, 8)
    sizeMax = word(.sizeMax)
    segmentMax = word(.segmentMax)
    blockSize = word(.blockSize)
    physicalBlockExponent = UInt8(truncatingIfNeeded: value(.physicalBlockExponent, 1))
    alignmentOffset = UInt8(truncatingIfNeeded: value(.alignmentOffset, 1))
    minimumIOSize = UInt16(truncatingIfNeeded: value(.minimumIOSize, 2))
    optimalIOSize = word(.optimalIOSize)
    isWriteback = value(.writeback, 1) != 0
    queueCount = UInt16(truncatingIfNeeded: value(.queueCount, 2))
    maximumDiscardSectors = word(.maximumDiscardSectors)
    maximumDiscardSegments = word(.maximumDiscardSegments)
    discardSectorAlignment = word(.discardSectorAlignment)
    maximumWriteZeroesSectors = word(.maximumWriteZeroesSectors)
    maximumWriteZeroesSegments = word(.maximumWriteZeroesSegments)
    writeZeroesMayUnmap = value(.writeZeroesMayUnmap, 1) != 0
  }

  /// One byte of the space, as the device shows it; 0 in holes and behind the end.
  public func byte(at offset: Int) -> UInt8 {
    let (field, value) = word(holding: offset)
    let shift = offset - field.rawValue
    return shift < 8 ? UInt8(truncatingIfNeeded: value >> UInt64(8 * shift)) : 0
  }

  /// The last field that starts at or before `offset`, with its value.
  private func word(holding offset: Int) -> (Field, UInt64) {
    switch offset {
    case ..<8: (.capacity, capacity)
    case ..<12: (.sizeMax, UInt64(sizeMax))
    case ..<20: (.segmentMax, UInt64(segmentMax))
    case ..<24: (.blockSize, UInt64(blockSize))
    case 24: (.physicalBlockExponent, UInt64(physicalBlockExponent))
    case 25: (.alignmentOffset, UInt64(alignmentOffset))
    case ..<28: (.minimumIOSize, UInt64(minimumIOSize))
    case ..<32: (.optimalIOSize, UInt64(optimalIOSize))
    case ..<34: (.writeback, isWriteback ? 1 : 0)
    case ..<36: (.queueCount, UInt64(queueCount))
    case ..<40: (.maximumDiscardSectors, UInt64(maximumDiscardSectors))
    case ..<44: (.maximumDiscardSegments, UInt64(maximumDiscardSegments))
    case ..<48: (.discardSectorAlignment, UInt64(discardSectorAlignment))
    case ..<52: (.maximumWriteZeroesSectors, UInt64(maximumWriteZeroesSectors))
    case ..<56: (.maximumWriteZeroesSegments, UInt64(maximumWriteZeroesSegments))
    default: (.writeZeroesMayUnmap, writeZeroesMayUnmap ? 1 : 0)
    }
  }
}
