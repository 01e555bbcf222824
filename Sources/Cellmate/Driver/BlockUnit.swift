import SharedMemory
import VirtioBlock
import VirtioDevice
import Virtqueue

/// The driver of a disk with its buffers.
struct BlockUnit: ~Copyable {
  /// The driver itself.
  var driver: BlockDriver
  /// Requests at once.
  let depth: Int

  static var kind: DeviceKind { DeviceKind(id: BlockFormat.deviceID, name: "a block device") }

  /// Takes rings and headers out of the shared memory; `nil` when there is no room.
  init?(depth: Int, _ way: inout DeviceWay, arena: inout PrivateArena) {
    guard let size = QueueSize(UInt32(Self.entries(depth))), way.reserveQueue(0, size: size),
      let headers = way.pools.allocate(BlockDriver.headerBytes(depth: depth), forWriting: false),
      let statuses = way.pools.allocate(BlockDriver.statusBytes(depth: depth), forWriting: true),
      let driver = BlockDriver(
        depth: depth, headers: headers, statuses: statuses, region: way.region, arena: &arena)
    else { return nil }
    self.driver = driver
    self.depth = depth
  }

  /// Three descriptors a request, as a power of two.
  static func entries(_ depth: Int) -> Int {
    var entries = 4
    while entries < 3 * depth { entries *= 2 }
    return entries
  }

  /// Bytes of shared memory for `depth` requests of a megabyte each way.
  static func memoryBytes(depth: Int) -> Int { 2 * depth * ((1 << 20) + 1024) + (1 << 20) }

  /// Features this driver uses when the device offers them.
  static func wanted(_ way: borrowing DeviceWay) -> FeatureSet {
    let all = FeatureSet.indirectDescriptors.union(.eventIndex).union(.blockSizeMax)
      .union(.blockSegmentMax).union(.blockReadOnly).union(.blockBlockSize).union(.blockFlush)
      .union(.blockTopology).union(.blockConfigWriteback).union(.blockMultiQueue)
      .union(.blockDiscard).union(.blockWriteZeroes)
    return way.isNative ? all.union(.ringReset) : all
  }

  /// What the device says of itself; only the fields of agreed features are looked at (VIRTIO 1.4,
  /// 2.5.1).
  static func configuration(
    _ bytes: InlineArray<64, UInt8>, _ features: FeatureSet
  ) -> BlockConfiguration {
    var reader = CopiedSpace(bytes: bytes)
    return BlockConfiguration(reading: &reader, features: features)
  }
}

/// The bytes of a configuration space that were copied.
private struct CopiedSpace: ConfigurationReader {
  let bytes: InlineArray<64, UInt8>

  mutating func readConfiguration(at offset: Int, width: Int) throws(Never) -> UInt64 {
    var value: UInt64 = 0
    for index in (offset..<offset + width).reversed() { value = value << 8 | UInt64(bytes[index]) }
    return value
  }
}
