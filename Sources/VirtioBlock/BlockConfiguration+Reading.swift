import SharedMemory
public import VirtioDevice

extension BlockConfiguration {
  /// Reads the fields that `features` makes valid, and no others, through the driver's transport
  /// (VIRTIO 1.4, 5.2.4: a field exists only if its feature was agreed); the rest keep their
  /// defaults. The caller repeats it when the configuration generation changed meanwhile.
  ///
  /// - Throws: what the transport throws.
  public init<Reader: ConfigurationReader & ~Copyable>(
    reading reader: inout Reader, features: FeatureSet
  ) throws(Reader.Failure) {
    self.init()
    capacity = try Self.read(.capacity, 8, &reader)
    if features.contains(.blockSizeMax) { sizeMax = try Self.word(.sizeMax, &reader) }
    if features.contains(.blockSegmentMax) { segmentMax = try Self.word(.segmentMax, &reader) }
    if features.contains(.blockBlockSize) { blockSize = try Self.word(.blockSize, &reader) }
    if features.contains(.blockTopology) { try readTopology(&reader) }
    isWriteback = features.contains(.blockFlush)
    if features.contains(.blockConfigWriteback) {
      isWriteback = try Self.read(.writeback, 1, &reader) != 0
    }
    if features.contains(.blockMultiQueue) {
      queueCount = UInt16(truncatingIfNeeded: try Self.read(.queueCount, 2, &reader))
    }
    if features.contains(.blockDiscard) {
      maximumDiscardSectors = try Self.word(.maximumDiscardSectors, &reader)
      maximumDiscardSegments = try Self.word(.maximumDiscardSegments, &reader)
      discardSectorAlignment = try Self.word(.discardSectorAlignment, &reader)
    }
    if features.contains(.blockWriteZeroes) {
      maximumWriteZeroesSectors = try Self.word(.maximumWriteZeroesSectors, &reader)
      maximumWriteZeroesSegments = try Self.word(.maximumWriteZeroesSegments, &reader)
      writeZeroesMayUnmap = try Self.read(.writeZeroesMayUnmap, 1, &reader) != 0
    }
  }

  private mutating func readTopology<Reader: ConfigurationReader & ~Copyable>(
    _ reader: inout Reader
  ) throws(Reader.Failure) {
    physicalBlockExponent = UInt8(
      truncatingIfNeeded: try Self.read(.physicalBlockExponent, 1, &reader))
    alignmentOffset = UInt8(truncatingIfNeeded: try Self.read(.alignmentOffset, 1, &reader))
    minimumIOSize = UInt16(truncatingIfNeeded: try Self.read(.minimumIOSize, 2, &reader))
    optimalIOSize = try Self.word(.optimalIOSize, &reader)
  }

  private static func read<Reader: ConfigurationReader & ~Copyable>(
    _ field: Field, _ width: Int, _ reader: inout Reader
  ) throws(Reader.Failure) -> UInt64 {
    try reader.readConfiguration(at: field.rawValue, width: width)
  }

  private static func word<Reader: ConfigurationReader & ~Copyable>(
    _ field: Field, _ reader: inout Reader
  ) throws(Reader.Failure) -> UInt32 {
    UInt32(truncatingIfNeeded: try read(field, 4, &reader))
  }
}
