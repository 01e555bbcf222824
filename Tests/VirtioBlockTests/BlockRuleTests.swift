import HostResources
import SharedMemory
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

/// Rules of VIRTIO 1.4, 5.2.5 and 5.2.6 that no single request shows; numbers written out.
@Suite struct BlockRuleTests {
  typealias Rig = BlockRig<MemoryBlockHost>

  static func bits(_ features: FeatureSet) -> [Int] {
    (0..<64).filter { features.rawValue >> UInt64($0) & 1 == 1 }
  }

  // MARK: Device

  /// Exactly what is implemented: no BARRIER, GEOMETRY, SCSI, LIFETIME, SECURE_ERASE or ZONED; FLUSH
  /// always, so that CONFIG_WCE never comes without it.
  @Test func whatIsOfferedIsImplemented() throws {
    let usual = try BlockDeviceTests.rig()
    #expect(Self.bits(usual.device.offeredFeatures) == [1, 2, 6, 9, 10, 11, 13, 14])
    let readOnly = try BlockDeviceTests.rig(isReadOnly: true)
    #expect(Self.bits(readOnly.device.offeredFeatures) == [1, 2, 5, 6, 9, 10, 11])
  }

  /// CONFIG_WCE without FLUSH: the space shows write-through (5.2.5.2).
  @Test func theCacheModeStartsAsWriteThroughWithoutFlush() throws {
    let cases: [(features: UInt64, expected: UInt8)] = [
      (0x1_0000_0800, 0), (0x1_0000_0a00, 1), (0x1_0000_0200, 1), (0x1_0000_0000, 0),
    ]
    for (features, expected) in cases {
      let rig = try BlockDeviceTests.rig(features: FeatureSet(rawValue: features))
      #expect(rig.device.configurationByte(at: 32) == expected)
    }
  }

  /// Types that do not exist or belong to a feature that is not offered: secure erase (14),
  /// lifetime (10), and those of zoned devices (15, 16, 18, 20, 22, 24, 26).
  @Test func everyOtherRequestIsUnsupported() throws {
    var rig = try BlockDeviceTests.rig()
    var driver = try rig.driverQueue()
    let known: Set<UInt32> = [0, 1, 4, 8, 11, 13]
    for type in UInt32(0)..<64 where !known.contains(type) {
      let into = try rig.request(&driver, type, room: 512)
      #expect(into.status == 2)
      let out = try rig.request(&driver, type, data: blockRange(0, 1))
      #expect(out == BlockAnswer(written: 1, bytes: [2]))
    }
    let counters = rig.device.counters
    #expect(counters.unsupported == 116 && counters.ioErrors == 0)
  }

  /// The device writes nothing but the writable part of a chain and the used ring, and what it
  /// writes there does not depend on what stood there.
  @Test func readableBuffersAndDescriptorsStayAsTheyAre() throws {
    for type: UInt32 in [0, 1, 4, 8, 11, 13, 99] {
      var answers: [BlockAnswer] = []
      for filler: UInt8 in [0x00, 0xff] {
        var rig = try BlockDeviceTests.rig()
        var driver = try rig.driverQueue()
        let readable =
          blockHeader(type, 1)
          + (type == 1 ? [UInt8](repeating: 7, count: 512) : [])
          + (type == 11 || type == 13 ? blockRange(1, 1) : [])
        let room = type == 0 ? 513 : type == 8 ? 21 : 1
        let out = BufferSegment(offset: 0x40000, count: readable.count)
        let into = BufferSegment(offset: 0x50000, count: room)
        rig.store(readable, at: out.offset)
        rig.store([UInt8](repeating: filler, count: room), at: into.offset)
        try driver.add([out, into], readableCount: 1, token: 0)
        _ = driver.publish()
        let before = Self.image(rig, out)
        try rig.pump()
        #expect(Self.image(rig, out) == before, "type \(type)")
        let used = try driver.takeUsed()
        answers.append(
          BlockAnswer(written: used?.written ?? 0, bytes: rig.load(into.offset, room)))
      }
      #expect(answers[0] == answers[1], "type \(type)")
    }
  }

  /// Descriptor table, available ring (the page of 8000h) and the readable buffer.
  static func image(_ rig: borrowing Rig, _ readable: BufferSegment) -> [UInt8] {
    rig.load(0x1000, 0x9000) + rig.load(readable.offset - 64, readable.count + 128)
  }

  /// The used element is whole before the index moves (2.7.8.2), and the status with it.
  @Test func nothingIsShownBeforeItIsWritten() throws {
    var rig = try BlockDeviceTests.rig()
    var driver = try rig.driverQueue()
    rig.store(blockHeader(0, 0), at: 0x40000)
    rig.store([UInt8](repeating: 0xee, count: 513), at: 0x50000)
    let out = BufferSegment(offset: 0x40000, count: 16)
    let into = BufferSegment(offset: 0x50000, count: 513)
    try driver.add([out, into], readableCount: 1, token: 0)
    _ = driver.publish()
    let index = rig.region.load16(0xa002)
    try rig.pump()
    #expect(index == 0 && rig.region.load16(0xa002) == 1)
    // At least as many bytes as `len` says were written, from the first one on.
    let length = Int(rig.region.load32(0xa008))
    #expect(length == 513)
    #expect(rig.load(0x50000, length).allSatisfy { $0 == 0 })
  }

  // MARK: Driver

  /// Serves a field only if the test allows it.
  struct StrictReader: ConfigurationReader {
    struct Forbidden: Error, Equatable { let offset: Int }
    let allowed: Set<Int>
    var seen: Set<Int> = []
    mutating func readConfiguration(at offset: Int, width: Int) throws(Forbidden) -> UInt64 {
      guard allowed.contains(offset) else { throw Forbidden(offset: offset) }
      seen.insert(offset)
      return 1
    }
  }

  static let fields: [(bit: UInt64, offsets: Set<Int>)] = [
    (1, [8]), (2, [12]), (6, [20]), (10, [24, 25, 26, 28]), (11, [32]), (12, [34]),
    (13, [36, 40, 44]), (14, [48, 52, 56]), (5, []), (9, []),
  ]

  @Test func aFieldWithoutItsFeatureIsNotTouched() throws {
    for set in 0..<1 << Self.fields.count {
      let chosen = Self.fields.indices.filter { set >> $0 & 1 == 1 }.map { Self.fields[$0] }
      let allowed = chosen.reduce(into: Set([0])) { $0.formUnion($1.offsets) }
      var reader = StrictReader(allowed: allowed)
      let configuration = try BlockConfiguration(
        reading: &reader,
        features: FeatureSet(rawValue: chosen.reduce(1 << 32) { $0 | 1 << $1.bit }))
      #expect(reader.seen == allowed)
      // With FLUSH alone the cache counts as write-back (5.2.5.1).
      #expect(configuration.isWriteback == chosen.contains { $0.bit == 9 || $0.bit == 11 })
    }
  }

  /// Each request as it stands in memory: type, reserved word, sector, range; and how many bytes
  /// the device may read and write.
  @Test func requestsHaveTheFormOfTheSpecification() throws {
    var rig = try BlockDriverTests.rig()
    var driver = try BlockDriverTests.driver(&rig)
    let one = BlockDriverTests.buffer(0, 512)
    try driver.read(sector: 3, into: one, token: 0)
    try driver.write(sector: 4, from: one, token: 1)
    try driver.flush(token: 2)
    try driver.getID(into: BlockDriverTests.buffer(1, 20), token: 3)
    try driver.discard(sector: 5, sectors: 6, token: 4)
    try driver.writeZeroes(sector: 7, sectors: 8, unmapping: .allow, token: 5)
    try driver.writeZeroes(sector: 7, sectors: 8, unmapping: .keep, token: 6)
    let expected: [(bytes: [UInt8], readable: Int, writable: Int)] = [
      (blockHeader(0, 3), 16, 513), (blockHeader(1, 4), 528, 1), (blockHeader(4, 0), 16, 1),
      (blockHeader(8, 0), 16, 21), (blockHeader(11, 0) + blockRange(5, 6, 0), 32, 1),
      (blockHeader(13, 0) + blockRange(7, 8, 1), 32, 1),
      (blockHeader(13, 0) + blockRange(7, 8, 0), 32, 1),
    ]
    _ = driver.publish()
    for (index, request) in expected.enumerated() {
      let found = rig.load(
        BlockDriverTests.headers.offset + 32 * index, request.bytes.count)
      #expect(found == request.bytes)
      let lengths = Self.lengths(rig.region, Int(rig.region.load16(0x8004 + 2 * index)))
      #expect(lengths.readable == request.readable && lengths.writable == request.writable)
      #expect(lengths.descriptors <= 3)
    }
  }

  static func lengths(
    _ region: SharedRegion, _ head: Int
  ) -> (readable: Int, writable: Int, descriptors: Int) {
    var found = (readable: 0, writable: 0, descriptors: 0)
    var index = head
    for _ in 0..<8 {
      let start = 0x1000 + 16 * index
      let flags = region.load16(start + 12)
      let count = Int(region.load32(start + 8))
      found.descriptors += 1
      if flags & 2 == 0 { found.readable += count } else { found.writable += count }
      guard flags & 1 != 0 else { break }
      index = Int(region.load16(start + 14))
    }
    return found
  }

  /// What a device says of a new size counts from then on.
  @Test func aNewCapacityIsTheNewLimit() throws {
    var rig = try BlockDriverTests.rig(sectors: 8)
    var driver = try BlockDriverTests.driver(&rig)
    let one = BlockDriverTests.buffer(0, 512)
    #expect(throws: BlockDriverError.outOfRange(sector: 8, sectors: 1, capacity: 8)) {
      try driver.read(sector: 8, into: one, token: 0)
    }
    var configuration = driver.configuration
    configuration.capacity = 9
    driver.update(configuration: configuration)
    try driver.read(sector: 8, into: one, token: 0)
    #expect(driver.inFlightCount == 1)
  }

  /// Exposed buffers come back only when the queue is not live any more (3.3.1).
  @Test func buffersOfALiveQueueAreNotGivenBack() async {
    await #expect(processExitsWith: .failure) {
      var rig = try BlockDriverTests.rig()
      var driver = try BlockDriverTests.driver(&rig)
      try driver.flush(token: 0)
      _ = driver.publish()
      _ = driver.abandonOldest()
    }
    await #expect(processExitsWith: .success) {
      var rig = try BlockDriverTests.rig()
      var driver = try BlockDriverTests.driver(&rig)
      try driver.flush(token: 0)
      _ = driver.publish()
      driver.detachQueue()
      guard driver.abandonOldest()?.token == 0 else { preconditionFailure("it was there") }
    }
  }
}
