import HostResources
import SharedMemory
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

/// Both sides against each other, and the driver side against a device that lies.
@Suite struct BlockDriverTests {
  typealias Rig = BlockRig<FaultyBlockHost<MemoryBlockHost>>
  static let headers = BufferSegment(offset: 0x20000, count: 0x4000)
  static let statuses = BufferSegment(offset: 0x24000, count: 0x8000)
  static let data = 0x100000

  static func rig(
    sectors: Int = 64, _ change: (inout FaultyBlockHost<MemoryBlockHost>.Plan) -> Void = { _ in }
  ) throws -> Rig {
    var plan = FaultyBlockHost<MemoryBlockHost>.Plan()
    change(&plan)
    return try Rig(FaultyBlockHost(MemoryBlockHost(byteCount: sectors * 512), plan: plan))
  }

  /// Reads the configuration space of the device as a transport would.
  struct Reader: ConfigurationReader {
    let bytes: [UInt8]
    mutating func readConfiguration(at offset: Int, width: Int) throws(Never) -> UInt64 {
      bytes[offset..<offset + width].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
  }

  static func configuration(_ rig: borrowing Rig, _ features: FeatureSet) -> BlockConfiguration {
    var reader = Reader(bytes: (0..<60).map { rig.device.configurationByte(at: $0) })
    return BlockConfiguration(reading: &reader, features: features)
  }

  static func driver(
    _ rig: inout Rig, depth: Int = 16, features: FeatureSet = Rig.everything
  ) throws -> BlockDriver {
    guard
      var driver = BlockDriver(
        depth: depth, headers: headers, statuses: statuses, region: rig.region,
        arena: &rig.driverBooks)
    else { preconditionFailure("the books are large enough") }
    try driver.attach(
      queue: rig.driverQueue(), configuration: configuration(rig, features), features: features)
    return driver
  }

  static func buffer(_ index: Int, _ count: Int) -> BufferSegment {
    BufferSegment(offset: data + index * 8192, count: count)
  }

  static func finish(_ rig: inout Rig, _ driver: inout BlockDriver) throws -> BlockDriverCompletion
  {
    _ = driver.publish()
    for _ in 0..<100 {
      try rig.pump()
      if let done = try driver.nextCompletion() { return done }
    }
    preconditionFailure("the device never answered")
  }

  @Test func eachRequestGoesThereAndBack() throws {
    var rig = try Self.rig()
    var driver = try Self.driver(&rig)
    var dice = BlockDice(state: 3)
    let bytes = dice.bytes(2048)
    rig.store(bytes, at: Self.buffer(0, 2048).offset)
    try driver.write(sector: 5, from: Self.buffer(0, 2048), token: 1)
    #expect(try Self.finish(&rig, &driver).status == .ok)
    try driver.flush(token: 2)
    let flushed = try Self.finish(&rig, &driver)
    #expect(flushed.token == 2 && flushed.type == .flush && flushed.data.count == 0)
    try driver.read(sector: 5, into: Self.buffer(1, 2048), token: 3)
    let read = try Self.finish(&rig, &driver)
    #expect(read.status == .ok && read.data == Self.buffer(1, 2048))
    #expect(rig.load(read.data.offset, 2048) == bytes)
    try driver.discard(sector: 5, sectors: 1, token: 4)
    #expect(try Self.finish(&rig, &driver).status == .ok)
    try driver.writeZeroes(sector: 7, sectors: 1, unmapping: .allow, token: 5)
    #expect(try Self.finish(&rig, &driver).status == .ok)
    try driver.read(sector: 5, into: Self.buffer(1, 2048), token: 6)
    _ = try Self.finish(&rig, &driver)
    let zeroes = [UInt8](repeating: 0, count: 512)
    let after = rig.load(Self.buffer(1, 2048).offset, 2048)
    #expect(after == zeroes + bytes[512..<1024] + zeroes + bytes[1536...])
    try driver.getID(into: Self.buffer(2, 20), token: 7)
    _ = try Self.finish(&rig, &driver)
    #expect(rig.load(Self.buffer(2, 20).offset, 6) == Array("memory".utf8))
    #expect(driver.inFlightCount == 0)
  }

  @Test func theConfigurationIsReadByFeature() throws {
    let rig = try Self.rig(sectors: 100)
    let all = Self.configuration(rig, Rig.everything)
    #expect(all.capacity == 100 && all.segmentMax == 126 && all.maximumDiscardSectors == 1 << 21)
    let none = Self.configuration(rig, FeatureSet(rawValue: 1 << 32))
    #expect(none.capacity == 100 && none.segmentMax == 0 && none.maximumDiscardSectors == 0)
    #expect(!none.isWriteback)
  }

  @Test func whatTheDeviceCannotDoIsRefusedHere() throws {
    var rig = try Self.rig(sectors: 8)
    var driver = try Self.driver(&rig, features: FeatureSet(rawValue: 1 << 32 | 1 << 5))
    let one = Self.buffer(0, 512)
    #expect(throws: BlockDriverError.readOnly) {
      try driver.write(sector: 0, from: one, token: 0)
    }
    #expect(throws: BlockDriverError.notOffered(.flush)) { try driver.flush(token: 0) }
    #expect(throws: BlockDriverError.notOffered(.discard)) {
      try driver.discard(sector: 0, sectors: 1, token: 0)
    }
    #expect(throws: BlockDriverError.outOfRange(sector: 8, sectors: 1, capacity: 8)) {
      try driver.read(sector: 8, into: one, token: 0)
    }
    #expect(throws: BlockDriverError.badLength(100, limit: 1 << 30)) {
      try driver.read(sector: 0, into: Self.buffer(0, 100), token: 0)
    }
    for index in 0..<16 { try driver.read(sector: 0, into: one, token: UInt32(index)) }
    #expect(throws: BlockDriverError.full) { try driver.read(sector: 0, into: one, token: 16) }
  }

  /// A device that says OK without having written the data, or an unknown status, is not believed.
  @Test(arguments: [
    (UInt32(513), UInt8(0), true), (512, 0, false), (1, 0, false), (0, 0, false), (1, 3, false),
    (513, 0xff, false), (1, 1, true), (1, 2, true),
  ])
  func lyingCompletions(written: UInt32, status: UInt8, isValid: Bool) throws {
    var rig = try Self.rig()
    var driver = try Self.driver(&rig)
    try driver.read(sector: 0, into: Self.buffer(0, 512), token: 9)
    _ = driver.publish()
    rig.region.store8(status, at: Self.statuses.offset)
    // The used ring of the rig, written by hand.
    rig.region.store32(0, at: 0xa004)
    rig.region.store32(written, at: 0xa008)
    rig.region.store16(1, at: 0xa002)
    let done = try driver.nextCompletion()
    #expect(done?.token == 9)
    #expect((done?.status != nil) == isValid)
    #expect(driver.counters.invalid == (isValid ? 0 : 1))
  }

  /// The back-end dies with requests in flight and another one comes: everything goes out again in
  /// its order, and once.
  @Test(arguments: UInt64(1)...6)
  func openRequestsSurviveARestart(seed: UInt64) throws {
    var dice = BlockDice(state: seed)
    var rig = try Self.rig {
      $0.seed = seed
      $0.delayChance = 160
    }
    var driver = try Self.driver(&rig)
    var model = [UInt8](repeating: 0, count: 64 * 512)
    var open: [UInt32: Int] = [:]
    var nextToken: UInt32 = 0
    for _ in 0..<300 {
      // Each open write has a buffer and four sectors of its own: their order is nobody's business.
      if let place = (0..<16).first(where: { !open.values.contains($0) }), dice.below(3) != 0 {
        if dice.below(4) == 0 {
          try driver.flush(token: nextToken)
        } else {
          let bytes = dice.bytes(2048)
          rig.store(bytes, at: Self.buffer(place, 2048).offset)
          model.replaceSubrange(place * 2048..<place * 2048 + 2048, with: bytes)
          try driver.write(
            sector: UInt64(place * 4), from: Self.buffer(place, 2048), token: nextToken)
        }
        open[nextToken] = place
        nextToken += 1
      }
      _ = driver.publish()
      if dice.below(2) == 0 { try rig.pump() }
      while let done = try driver.nextCompletion() {
        #expect(done.status == .ok)
        #expect(open.removeValue(forKey: done.token) != nil, "seed \(seed)")
      }
      if dice.below(20) == 0 { try Self.restart(&rig, &driver) }
      #expect(driver.inFlightCount == open.count)
    }
    for _ in 0..<200 where driver.inFlightCount > 0 {
      _ = driver.publish()
      try rig.pump()
      while let done = try driver.nextCompletion() { open.removeValue(forKey: done.token) }
    }
    #expect(open.isEmpty, "seed \(seed)")
    let isSame = (0..<model.count).allSatisfy { rig.device.host.base.byte(at: $0) == model[$0] }
    #expect(isSame, "seed \(seed)")
    #expect(driver.counters.resubmitted > 16)
  }

  static func restart(_ rig: inout Rig, _ driver: inout BlockDriver) throws {
    driver.detachQueue()
    // The dead back-end's requests end somewhere; nobody hears of them.
    rig.device.stop()
    while rig.device.inFlightCount > 0 { _ = rig.device.nextCompletion() }
    rig.device.start(features: Rig.everything)
    let fresh = try rig.driverQueue()
    try rig.restartDeviceQueue()
    try driver.attach(
      queue: fresh, configuration: configuration(rig, Rig.everything), features: Rig.everything)
  }

  @Test func whoWillNotWaitGetsTheBuffersBackInOrder() throws {
    var rig = try Self.rig()
    var driver = try Self.driver(&rig)
    for index in 0..<4 {
      try driver.write(sector: 0, from: Self.buffer(index, 512), token: UInt32(index))
    }
    driver.detachQueue()
    #expect(driver.oldestToken == 0)
    for index in 0..<4 {
      let gone = driver.abandonOldest()
      #expect(gone?.token == UInt32(index) && gone?.data == Self.buffer(index, 512))
      #expect(gone?.status == nil)
    }
    let none = driver.abandonOldest()
    #expect(none == nil)
  }

  @Test func aSmallQueueIsRefused() throws {
    var rig = try BlockRig(
      FaultyBlockHost(MemoryBlockHost(byteCount: 512), plan: .init()), queueSize: 32)
    #expect(throws: BlockDriverError.queueTooSmall(found: 32, needed: 48)) {
      _ = try Self.driver(&rig)
    }
  }
}
