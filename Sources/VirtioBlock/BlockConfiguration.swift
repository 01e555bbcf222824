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
  /// Whether completed writes may still be volatile.
  public var isWriteback = true
  /// Number of queues.
  public var queueCount: UInt16 = 1
  /// Most sectors of one discard segment.
  public var maximumDiscardSectors: UInt32 = 0
  /// Most segments of one discard request.
  public var maximumDiscardSegments: UInt32 = 0
  /// Most sectors of one write-zeroes segment.
  public var maximumWriteZeroesSectors: UInt32 = 0
  /// Most segments of one write-zeroes request.
  public var maximumWriteZeroesSegments: UInt32 = 0

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
    isWriteback = value(.writeback, 1) != 0
    queueCount = UInt16(truncatingIfNeeded: value(.queueCount, 2))
    maximumDiscardSectors = word(.maximumDiscardSectors)
    maximumDiscardSegments = word(.maximumDiscardSegments)
    maximumWriteZeroesSectors = word(.maximumWriteZeroesSectors)
    maximumWriteZeroesSegments = word(.maximumWriteZeroesSegments)
  }

  /// One byte of the space.
  public func byte(at offset: Int) -> UInt8 {
    func part(_ value: UInt64, _ field: Field, _ width: Int) -> UInt8? {
      let index = offset - field.rawValue
      guard index >= 0, index < width else { return nil }
      return UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
    return part(capacity, .capacity, 8) ?? part(UInt64(sizeMax), .sizeMax, 4)
      ?? part(UInt64(segmentMax), .segmentMax, 4) ?? part(UInt64(blockSize), .blockSize, 4)
      ?? part(UInt64(physicalBlockExponent), .physicalBlockExponent, 1)
      ?? part(isWriteback ? 1 : 0, .writeback, 1) ?? part(UInt64(queueCount), .queueCount, 2)
      ?? part(UInt64(maximumDiscardSectors), .maximumDiscardSectors, 4)
      ?? part(UInt64(maximumDiscardSegments), .maximumDiscardSegments, 4)
      ?? part(1, .discardSectorAlignment, 4)
      ?? part(UInt64(maximumWriteZeroesSectors), .maximumWriteZeroesSectors, 4)
      ?? part(UInt64(maximumWriteZeroesSegments), .maximumWriteZeroesSegments, 4)
      ?? part(1, .writeZeroesMayUnmap, 1) ?? 0
  }
}
