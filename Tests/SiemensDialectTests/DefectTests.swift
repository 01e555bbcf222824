import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

@testable import SiemensDialect

/// One test for each defect of the Linux driver that a back-end has to survive (facts:
/// siemens-dialect, section 8, F1 to F16, and issue 6).
@Suite struct DefectTests {
  /// A driver that is set up and a back-end that is live.
  static func live(
    seed: UInt64 = 1, vectors: Int = 1, queues: Int = 1
  ) throws -> SiemensRig {
    let rig = try SiemensRig(seed: seed, vectors: vectors, queues: queues)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    return rig
  }

  static func word(_ rig: SiemensRig, _ offset: Int) -> UInt32 {
    rig.link.region.load32(rig.driver.base + offset)
  }

  @Test func f1_aThirtyTwoBitStoreOverQueueEnable() throws {
    let rig = try Self.live()
    let driver = rig.driver
    try driver.write(0x1c, 0, 4)
    try driver.synchronize()
    let before = rig.link.region.load64(driver.base + 0x28)
    #expect(before == 0x200)
    // Runs into the low half of the descriptor address.
    try driver.write(0x26, 0, 4)
    try driver.synchronize()
    #expect(!rig.registers.queueState(0).isReady)
    #expect(Self.word(rig, 0x20) & 0xffff == 8)
    // The error path stores the same over a queue that was never enabled; the next one is set up.
    try driver.write(0x28, 0x1_2345, 8)
    try driver.write(0x26, 0, 4)
    try driver.write(0x1c, 0, 4)
    try driver.synchronize()
    #expect(rig.link.region.load64(driver.base + 0x28) == 0x1_2345)
    driver.rings = []
    try driver.findQueues()
    try driver.synchronize()
    #expect(driver.read(sector: 0))
    #expect(rig.run(until: 1))
  }

  @Test func f2_f16_statusThatCannotBeRefused() throws {
    for features: UInt64 in [0x13_0000_0206, 0x3_0000_0001, 0x1_0000_0206] {
      let rig = try SiemensRig()
      try rig.startBackend()
      let driver = rig.driver
      try driver.attach()
      rig.medium.bytes[0] = 7
      _ = try driver.negotiate()
      try driver.write(0x18, 0, 4)
      let isOffered = features == 0x13_0000_0206
      // The set is open again only after a reset.
      try driver.write(0x44, 0, 4)
      try driver.addStatus(3)
      try driver.write(0x18, 1, 4)
      try driver.write(0x14, features >> 32, 4)
      try driver.write(0x18, 0, 4)
      try driver.write(0x14, features & 0xffff_ffff, 4)
      try driver.synchronize()
      rig.pace = 0
      rig.link.region.store32(0xb, at: driver.base + 0x44)
      rig.link.region.store32(0x44, at: driver.base + 8)
      // The core looks at once and sees its own store: the refusal is not visible.
      #expect(driver.status & 8 == 8)
      rig.pace = 2
      try driver.findQueues()
      try driver.write(0x44, 0xf, 4)
      rig.settle()
      driver.handleInterrupts()
      #expect(driver.isBroken == !isOffered)
      #expect(rig.counters.abandonments == (isOffered ? 0 : 1))
      guard !isOffered else { continue }
      #expect(driver.backendState == 0)
      #expect(rig.waitsForFrontEndToLeave)
      // A driver that is bound again finds a back-end.
      try driver.remove()
      rig.settle()
      #expect(driver.backendState == 1)
      try driver.probe()
      #expect(driver.read(sector: 0))
      #expect(rig.run(until: 1))
    }
  }

  @Test func f3_aPostedResetIsClearedOnlyWhenNothingTouchesTheBuffers() throws {
    let rig = try Self.live()
    let driver = rig.driver
    rig.medium.isDeferring = true
    for index in 0..<512 { rig.medium.bytes[index] = 0x5a }
    #expect(driver.read(sector: 0))
    rig.settle()
    #expect(rig.medium.waiting.count == 1)
    let data = try #require(driver.rings[0].open.values.first).parts[1].address + driver.base
    #expect(rig.link.region.load8(data) == 0)
    try driver.write(0x44, 0, 4)
    for _ in 0..<100 { rig.step() }
    #expect(Self.word(rig, 8) == 0x44, "cleared while a request could still write")
    rig.medium.finishOne()
    rig.settle()
    #expect(Self.word(rig, 8) == 0)
    #expect(rig.link.region.load8(data) == 0x5a)
    // From here on the memory is the driver's.
    rig.link.region.store8(1, at: data)
    rig.settle()
    #expect(rig.link.region.load8(data) == 1)
    #expect(Self.word(rig, 0x44) == 0)
  }

  @Test func f4_noOtherTransactionWaitsForTheDevice() throws {
    let rig = try Self.live()
    let driver = rig.driver
    rig.medium.isDeferring = true
    for sector: UInt64 in 0..<2 { #expect(driver.read(sector: sector)) }
    rig.settle()
    #expect(rig.medium.waiting.count == 2)
    rig.pace = 0
    for (offset, value, width): (Int, UInt64, Int) in [
      (0x10, 1, 4), (0x18, 0, 4), (0x14, 1, 4), (0x1c, 0, 4), (0x20, 4, 2), (0x24, 0, 2),
      (0x28, 0x400, 8), (0x26, 1, 2), (0x4c + 32, 1, 1), (0x44, 0xf, 4), (0x77, 1, 4),
      (0x44, 0x8f, 4),
    ] {
      try driver.write(offset, value, width)
      rig.step()
      #expect(Self.word(rig, 8) == 0, "0x\(String(offset, radix: 16)) was not cleared in one step")
    }
    #expect(rig.medium.waiting.count == 2)
  }

  @Test func f4_aTransactionComesBeforeTheNextChain() throws {
    let rig = try Self.live()
    let driver = rig.driver
    rig.pace = 0
    for sector: UInt64 in 0..<2 { #expect(driver.read(sector: sector)) }
    var stores = 0
    rig.medium.onSubmit = { [unowned rig] in
      stores += 1
      rig.link.region.store32(0, at: driver.base + 0x1c)
      rig.link.region.store32(0x1c, at: driver.base + 8)
    }
    let before = rig.counters.transactions
    rig.step()
    #expect(stores == 1, "the second chain went first")
    #expect(Self.word(rig, 8) == 0x1c)
    rig.step()
    #expect(rig.counters.transactions == before + 1)
    #expect(stores == 2)
  }

  @Test func f5_transactionsThatRaceEachOther() throws {
    let rig = try Self.live()
    let driver = rig.driver
    let region = rig.link.region
    var random = ScheduledDice(seed: 5)
    for _ in 0..<2000 {
      // Two processors write configuration without a lock: value of one, offset of the other.
      let first = 0x4c + Int(random.next() % 64)
      let second = 0x4c + Int(random.next() % 64)
      for byte in 0..<4 {
        region.store8(UInt8(random.next() & 0xff), at: driver.base + first + byte)
        region.store8(UInt8(random.next() & 0xff), at: driver.base + second + byte)
      }
      region.store32(UInt32(second), at: driver.base + 8)
      if random.next() % 2 == 0 { region.store32(UInt32(first), at: driver.base + 8) }
      rig.step()
      #expect(Self.word(rig, 8) == 0)
    }
    // Only the cache mode can be written, and has two values.
    var shown: [UInt8] = []
    for index in 0..<60 { shown.append(region.load8(driver.base + 0x4c + index)) }
    #expect(shown[0] == 64)
    #expect(shown[32] <= 1)
    #expect(Array(shown[1..<8]) == [0, 0, 0, 0, 0, 0, 0])
    #expect(driver.read(sector: 1))
    #expect(rig.run(until: 1))
  }

  @Test func f6_aVectorThatDoesNotExist() throws {
    let rig = try SiemensRig(vectors: 2)
    try rig.startBackend()
    let driver = rig.driver
    try driver.attach()
    _ = try driver.negotiate()
    try driver.findQueues()
    try driver.write(0x1c, 0, 4)
    try driver.write(0x26, 0, 2)
    try driver.write(0x24, 0xffff, 2)
    try driver.write(0x28, UInt64(driver.rings[0].descriptors), 8)
    try driver.write(0x30, UInt64(driver.rings[0].driver), 8)
    try driver.write(0x38, UInt64(driver.rings[0].device), 8)
    try driver.write(0x26, 1, 2)
    try driver.addStatus(4)
    #expect(driver.read(sector: 0))
    for _ in 0..<200 where !rig.step() { rig.sleep() }
    #expect(rig.link.region.load16(driver.base + driver.rings[0].device + 2) == 1)
    #expect(driver.rings[0].finished.isEmpty)
  }

  @Test func f8_noFeatureThatNeedsPartialSynchronisation() throws {
    let rig = try Self.live()
    let own = FeatureSet(rawValue: 0x7fff_ffff)
    let offered = rig.registers.offered
    #expect(offered.subtracting(own).rawValue == 0x13_0000_0000)
    #expect(offered.isDisjoint(with: .indirectDescriptors | .eventIndex | .inOrder | .ringReset))
  }

  @Test(arguments: [0x2000, 0x1_0000, 0xd_f000, 0x1f_f000, 0x80_0000] as [UInt64])
  func f9_everyRequestFitsTheBouncePool(size: UInt64) throws {
    let rig = try SiemensRig(readWriteSize: size)
    try rig.startBackend()
    try rig.driver.probe()
    let sizeMax = Int(Self.word(rig, 0x4c + 8))
    let segments = Int(Self.word(rig, 0x4c + 12))
    #expect(sizeMax > 0 && segments > 0)
    guard size > 0x2000 else { return }
    #expect(rig.driver.allocate(16) != nil)
    #expect(rig.driver.allocate(1) != nil)
    for _ in 0..<segments { #expect(rig.driver.allocate(sizeMax) != nil) }
  }

  @Test func f10_sectionsOfTwoGibibytesAreRefused() throws {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: 1 << 31, outputSize: 0)
    #expect(throws: SiemensPlanError.sectionTooLarge(have: 1 << 31)) {
      try SiemensPlan(own: PeerID(0), geometry: geometry, configurationSize: 60)
    }
  }

  @Test func f11_theHeaderSizeIsNeverZeroAndLeavesAPool() throws {
    for size: UInt64 in [0x2000, 0xf000, 0xd_f000, 0x100_0000] {
      for configuration in [0, 1, 12, 60, 256, 2000] {
        let geometry = try LinkGeometry(
          maxPeers: 2, stateTableSize: 4096, readWriteSize: size, outputSize: 0)
        let plan = try SiemensPlan(
          own: PeerID(0), geometry: geometry, configurationSize: configuration)
        #expect(plan.headerSize >= 0x4c + configuration)
        #expect(plan.reservation >= plan.headerSize)
        #expect(plan.reservation % plan.chunkSize == 0)
        #expect((plan.reservation / plan.chunkSize).nonzeroBitCount == 1)
        #expect(plan.reservation + 4096 <= Int(size))
      }
    }
  }

  @Test(arguments: 1...60) func f13_anUnloadThatSpinsUntilTheTransactionIsCleared(
    seed: UInt64
  ) throws {
    let rig = try SiemensRig(seed: seed, vectors: 1 + Int(seed % 2))
    rig.pace = 1 + seed % 5
    try rig.startBackend()
    for _ in 0..<3 {
      try rig.driver.probe()
      #expect(rig.driver.read(sector: seed % 64))
      #expect(rig.run(until: 1))
      // The back-end may already be waiting for the next front-end.
      try rig.driver.remove()
      #expect(rig.driver.backendState == 1, "the next probe would fail for good")
    }
    #expect(rig.driver.complaints == 0)
    // The last write of an unload may be cleared by the next life.
    rig.settle()
    #expect(rig.counters.orphanedTransactions > 0)
  }

  @Test func f13_anUnloadInTheMiddleOfARequestWaitsForTheRequest() throws {
    let rig = try Self.live()
    rig.medium.isDeferring = true
    #expect(rig.driver.read(sector: 0))
    rig.settle()
    rig.driver.patience = 200
    #expect(throws: DriverError.lockUp(at: 0x44)) { try rig.driver.remove() }
    rig.medium.finishOne()
    rig.settle()
    #expect(Self.word(rig, 8) == 0)
  }

  @Test func interruptsBeforeReadyAreRepeated() throws {
    let rig = try SiemensRig()
    try rig.startBackend()
    // Doorbells of a front-end that is not ready mean nothing.
    for _ in 0..<3 { rig.driver.ring(0) }
    rig.settle()
    #expect(rig.counters.transactions == 0)
    try rig.driver.attach()
    _ = try rig.driver.negotiate()
    // A change that the driver cannot hear: its interrupts are off until its queues are set up.
    rig.medium.bytes += [UInt8](repeating: 0, count: 512)
    rig.settle()
    #expect(rig.driver.configurationChanges == 0)
    try rig.driver.findQueues()
    try rig.driver.addStatus(4)
    rig.settle()
    rig.driver.handleInterrupts()
    #expect(rig.driver.configurationChanges == 1)
    #expect(Self.word(rig, 0x4c) == 65)
  }

  @Test(arguments: [1, 2, 3, 4]) func aStaleStateTable(kind: Int) throws {
    let rig = try SiemensRig(seed: UInt64(kind))
    let word = rig.link.geometry.stateWord(of: PeerID(1))
    let stale: UInt32 = [1, 0xdead_beef, 0x434d_0101, 2][kind - 1]
    rig.link.region.store32(stale, at: word)
    try rig.startBackend()
    if stale == 1 {
      // A front-end of an earlier back-end, or a word nobody cleared: both have to go first.
      #expect(rig.phase == .withdrawn)
      #expect(rig.waitsForFrontEndToLeave)
      rig.link.region.store32(0, at: word)
      rig.settle()
    }
    #expect(rig.phase == .offered)
    #expect(!rig.waitsForFrontEndToLeave)
    rig.link.bury(PeerID(1))
    try rig.driver.probe()
    #expect(rig.driver.read(sector: 9))
    #expect(rig.run(until: 1))
  }
}

/// Pseudo-random numbers of a test.
struct ScheduledDice {
  var state: UInt64
  init(seed: UInt64) { state = seed }
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (state ^ state >> 29) >> 3
  }
}
