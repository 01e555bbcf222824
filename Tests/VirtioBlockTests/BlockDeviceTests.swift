import HostResources
import SharedMemory
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

/// Each kind of request once, over real rings; numbers written out from VIRTIO 1.4, 5.2.
@Suite struct BlockDeviceTests {
  typealias Rig = BlockRig<MemoryBlockHost>

  static func rig(
    sectors: Int = 8, isReadOnly: Bool = false, features: FeatureSet = Rig.everything
  ) throws -> Rig {
    try Rig(
      MemoryBlockHost(byteCount: sectors * 512, isReadOnly: isReadOnly), features: features)
  }

  @Test func whatIsWrittenIsRead() throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    var dice = BlockDice(state: 1)
    let data = dice.bytes(1024)
    let wrote = try rig.request(&driver, 1, sector: 3, data: data)
    #expect(wrote == BlockAnswer(written: 1, bytes: [0]))
    let read = try rig.request(&driver, 0, sector: 3, room: 1024)
    #expect(read == BlockAnswer(written: 1025, bytes: data + [0]))
    let counters = rig.device.counters
    #expect(counters.reads == 1 && counters.bytesRead == 1024)
    #expect(counters.writes == 1 && counters.bytesWritten == 1024)
    #expect(counters.ioErrors == 0 && counters.unsupported == 0)
  }

  @Test func theNameIsTwentyBytes() throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    let answer = try rig.request(&driver, 8, room: 20)
    let name = Array("memory".utf8) + [UInt8](repeating: 0, count: 14)
    #expect(answer == BlockAnswer(written: 21, bytes: name + [0]))
  }

  @Test func aFlushIsCounted() throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    let answer = try rig.request(&driver, 4)
    #expect(answer == BlockAnswer(written: 1, bytes: [0]))
    let flushes = rig.device.counters.flushes
    #expect(flushes == 1)
  }

  @Test(arguments: [(UInt32(11), UInt32(0)), (13, 0), (13, 1)])
  func rangesBecomeZeroes(type: UInt32, flags: UInt32) throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    let ones = [UInt8](repeating: 1, count: 8 * 512)
    _ = try rig.request(&driver, 1, data: ones)
    let answer = try rig.request(&driver, type, data: blockRange(2, 3, flags))
    #expect(answer == BlockAnswer(written: 1, bytes: [0]))
    let read = try rig.request(&driver, 0, room: 8 * 512)
    for (index, byte) in read.bytes.dropLast().enumerated() {
      #expect(byte == ((2..<5).contains(index / 512) ? 0 : 1))
    }
  }

  @Test(arguments: [
    // Flags that nobody knows, and unmap where it means nothing.
    (UInt32(11), blockRange(0, 1, 1), UInt8(2)), (11, blockRange(0, 1, 2), 2),
    (13, blockRange(0, 1, 2), 2), (13, blockRange(0, 1, 0x8000_0000), 2),
    // Two segments where one is stated, half of one, none.
    (11, blockRange(0, 1) + blockRange(2, 1), 1), (11, [0, 0, 0, 0, 0, 0, 0, 0], 1),
    (13, [], 1),
    // Beyond the medium, beyond the limit, of no length.
    (11, blockRange(8, 1), 1), (13, blockRange(7, 2), 1), (11, blockRange(.max, 1), 1),
    (13, blockRange(0, .max), 1), (11, blockRange(0, 0), 1),
  ])
  func badRangesAreRefused(type: UInt32, range: [UInt8], status: UInt8) throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    let answer = try rig.request(&driver, type, data: range)
    #expect(answer == BlockAnswer(written: 1, bytes: [status]))
  }

  @Test func aReadOnlyMediumStaysAsItIs() throws {
    var rig = try Self.rig(isReadOnly: true)
    var driver = try rig.driverQueue()
    let wrote = try rig.request(&driver, 1, data: [UInt8](repeating: 1, count: 512))
    #expect(wrote.status == 1)
    let discarded = try rig.request(&driver, 11, data: blockRange(0, 1))
    #expect(discarded.status == 1)
    let byte = rig.device.host.byte(at: 0)
    #expect(byte == 0)
    let offered = rig.device.offeredFeatures
    #expect(offered.rawValue & 1 << 5 != 0)
    #expect(offered.rawValue & 1 << 13 == 0)
    let violations = rig.device.counters.readOnlyViolations
    #expect(violations == 2)
  }

  @Test func whatWasNotAgreedIsUnsupported() throws {
    var rig = try Self.rig(features: FeatureSet(rawValue: 1 << 32))
    var driver = try rig.driverQueue()
    for (type, data) in [(UInt32(4), [UInt8]()), (11, blockRange(0, 1)), (13, blockRange(0, 1))] {
      let answer = try rig.request(&driver, type, data: data)
      #expect(answer == BlockAnswer(written: 1, bytes: [2]))
    }
  }

  /// Whether a write has to be stable, by the agreed features and what the driver chose
  /// (VIRTIO 1.4, 5.2.5.2 and 5.2.6.2).
  @Test(
    arguments: [
      // FLUSH (9), CONFIG_WCE (11), written before DRIVER_OK, written after it; stable
      (false, false, nil, nil, true), (true, false, nil, nil, false),
      (true, true, nil, nil, false), (true, true, nil, 0, true), (true, true, 0, nil, true),
      (true, true, 0, 1, false), (false, true, nil, nil, true), (false, true, nil, 1, true),
      (true, false, 0, nil, false),
    ] as [(Bool, Bool, UInt64?, UInt64?, Bool)])
  func cacheModes(
    flush: Bool, configurable: Bool, before: UInt64?, after: UInt64?, stable: Bool
  ) throws {
    var rig = try Self.rig()
    rig.device.stop()
    if let before { _ = rig.device.writeConfiguration(at: 32, width: 1, value: before) }
    rig.device.start(
      features: FeatureSet(
        rawValue: 1 << 32 | (flush ? 1 << 9 : 0) | (configurable ? 1 << 11 : 0)))
    if let after {
      let isTaken = rig.device.writeConfiguration(at: 32, width: 1, value: after)
      #expect(isTaken == configurable)
    }
    var driver = try rig.driverQueue()
    _ = try rig.request(&driver, 1, data: [UInt8](repeating: 1, count: 512))
    let wasStable = rig.device.host.wasLastWriteStable
    #expect(wasStable == stable)
  }

  @Test func theDriverWritesNothingButTheCacheMode() throws {
    var rig = try Self.rig()
    for (offset, width, value) in [(0, 8, UInt64(1)), (32, 2, 1), (32, 1, 2), (31, 1, 1)] {
      let isTaken = rig.device.writeConfiguration(at: offset, width: width, value: value)
      #expect(!isTaken)
    }
  }

  @Test func theConfigurationSpaceIsAsStated() throws {
    let rig = try Self.rig(sectors: 0x1234)
    let bytes = (0..<60).map { rig.device.configurationByte(at: $0) }
    let expected: [UInt8] =
      littleEndian(0x1234, 8) + littleEndian(1 << 30, 4) + littleEndian(126, 4)
      + littleEndian(0, 4) + littleEndian(512, 4) + [0, 0, 0, 0] + littleEndian(0, 4) + [1, 0]
      + littleEndian(1, 2) + littleEndian(1 << 21, 4) + littleEndian(1, 4) + littleEndian(1, 4)
      + littleEndian(1 << 21, 4) + littleEndian(1, 4) + [1, 0, 0, 0]
    #expect(bytes == expected)
  }

  @Test func chainsWithoutRoomForAStatusAreErrorsOfTheDriver() throws {
    var rig = try Self.rig()
    var driver = try rig.driverQueue()
    let noStatus = try rig.exchange(
      &driver, blockHeader(4, 0), cuts: [], writable: 0, writableCuts: [])
    #expect(noStatus.written == 0)
    let shortHeader = try rig.exchange(
      &driver, [UInt8](repeating: 0, count: 15), cuts: [], writable: 513, writableCuts: [])
    #expect(shortHeader.written == 0)
    #expect(shortHeader.bytes.allSatisfy { $0 == 0xee })
    let malformed = rig.device.counters.malformed
    #expect(malformed == 2)
    let next = try rig.request(&driver, 4)
    #expect(next.status == 0)
  }

  @Test func aFullDeviceWaitsForCompletions() throws {
    var plan = FaultyBlockHost<MemoryBlockHost>.Plan()
    plan.hangChance = 256
    let host = FaultyBlockHost(MemoryBlockHost(byteCount: 4096), plan: plan)
    var rig = try BlockRig(host, slots: 2)
    var driver = try rig.driverQueue()
    for index in 0..<3 {
      let spot = 0x40000 + 1024 * index
      rig.store(blockHeader(4, 0), at: spot)
      let out = [BufferSegment(offset: spot, count: 16)]
      let into = [BufferSegment(offset: spot + 512, count: 1)]
      try driver.add(readable: out.span, writable: into.span, token: UInt32(index))
    }
    _ = driver.publish()
    try rig.pump()
    let inFlight = rig.device.inFlightCount
    #expect(inFlight == 2)
    let none = try driver.takeUsed()
    #expect(none == nil)
    // A reset cuts short what hangs.
    rig.device.stop()
    try rig.pump()
    rig.device.host.release()
    for _ in 0..<4 { try rig.pump() }
    rig.device.host.release()
    for _ in 0..<4 { try rig.pump() }
    let left = rig.device.inFlightCount
    #expect(left == 0)
  }
}
