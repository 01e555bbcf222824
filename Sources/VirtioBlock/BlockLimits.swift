/// What a medium says of its own grain, shown to the driver in the configuration space
/// (VIRTIO 1.4, 5.2.4). All advice but the two maxima, which bound the work of one request.
public struct BlockLimits: Equatable, Sendable, BitwiseCopyable {
  /// Most sectors of 512 bytes one discard may name.
  public var maximumDiscardSectors: UInt32 = 1 << 21
  /// Sectors a discard is best aligned to, at least 1.
  public var discardSectorAlignment: UInt32 = 1
  /// Most sectors of 512 bytes one write-zeroes request may name.
  public var maximumWriteZeroesSectors: UInt32 = 1 << 21
  /// Whether write zeroes with the unmap flag can free storage.
  public var writeZeroesMayUnmap = true
  /// log2 of logical blocks per physical block.
  public var physicalBlockExponent: UInt8 = 0
  /// Logical blocks before the first aligned one.
  public var alignmentOffset: UInt8 = 0
  /// Suggested smallest request in logical blocks; 0 when nothing is suggested.
  public var minimumIOSize: UInt16 = 0
  /// Suggested best request in logical blocks; 0 when nothing is suggested.
  public var optimalIOSize: UInt32 = 0

  /// A medium that does not care: 1 GiB a discard, no alignment, no suggestion.
  public init() {}
}
