import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioDevice

@testable import SiemensDialect

/// Ring address games, and life under any schedule.
@Suite struct RingAddressTests {
  /// Enables queue 0 with these addresses and goes on to DRIVER_OK, as a driver does that never
  /// looks back.
  static func enable(
    _ rig: SiemensRig, _ descriptors: UInt64, _ driver: UInt64, _ device: UInt64, size: UInt64 = 8
  ) throws {
    try rig.driver.attach()
    _ = try rig.driver.negotiate()
    for (offset, value, width): (Int, UInt64, Int) in [
      (0x1c, 0, 4), (0x20, size, 2), (0x24, 0, 2), (0x28, descriptors, 8), (0x30, driver, 8),
      (0x38, device, 8), (0x26, 1, 2), (0x44, 0xf, 4),
    ] { try rig.driver.write(offset, value, width) }
    try rig.driver.synchronize()
  }

  @Test func honestAddressesWork() throws {
    let rig = try SiemensRig(garbage: false)
    try rig.startBackend()
    try Self.enable(rig, 0x200, 0x280, 0x2c0)
    #expect(rig.registers.queueState(0).isReady)
    #expect(DefectTests.word(rig, 0x44) == 0xf)
  }

  @Test(
    arguments: [
      (0, 0x280, 0x2c0), (0x200, 0x40, 0x2c0), (0x200, 0x280, 0x20), (0x201, 0x280, 0x2c0),
      (0x208, 0x280, 0x2c0), (0x200, 0x281, 0x2c0), (0x200, 0x280, 0x2c2), (0x200, 0x280, 0x3_ffc0),
      (0x4_0000, 0x280, 0x2c0), (UInt64.max - 15, 0x280, 0x2c0), (0x200, UInt64.max - 1, 0x2c0),
      (0x200, 0x280, 0x1_0000_0000_0000), (0 &- 0x1000, 0x280, 0x2c0), (0x200, 0x280, 0 &- 0x1000),
      (0x8000_0000_0000_0200, 0x280, 0x2c0),
    ] as [(UInt64, UInt64, UInt64)])
  func ringsOutsideThePoolAreRefused(addresses: (UInt64, UInt64, UInt64)) throws {
    let rig = try SiemensRig()
    try rig.startBackend()
    try Self.enable(rig, addresses.0, addresses.1, addresses.2)
    #expect(!rig.registers.queueState(0).isReady)
    #expect(DefectTests.word(rig, 0x44) & 0x40 == 0x40)
    #expect(rig.counters.queueErrors == 1)
    // The header is what it was.
    #expect(DefectTests.word(rig, 0) == 1)
    #expect(DefectTests.word(rig, 4) == 0x88)
    // A reset mends it.
    rig.driver.isBroken = false
    try rig.driver.write(0x44, 0, 4)
    try rig.driver.synchronize()
    #expect(DefectTests.word(rig, 0x44) == 0)
    rig.driver.rings = []
    _ = try rig.driver.negotiate()
    try rig.driver.findQueues()
    try rig.driver.addStatus(4)
    #expect(rig.driver.read(sector: 0))
    #expect(rig.run(until: 1))
  }

  @Test(arguments: [0, 3, 16, 0xffff] as [UInt64])
  func queueSizesThatNobodyOfferedAreRefused(size: UInt64) throws {
    let rig = try SiemensRig()
    try rig.startBackend()
    try Self.enable(rig, 0x200, 0x280, 0x2c0, size: size)
    #expect(!rig.registers.queueState(0).isReady)
    #expect(rig.counters.refusals > 0)
  }

  @Test func aQueueThatDoesNotExistHasSizeZero() throws {
    let rig = try SiemensRig()
    try rig.startBackend()
    try rig.driver.attach()
    _ = try rig.driver.negotiate()
    for queue: UInt64 in [1, 31, 32, 0xffff_ffff] {
      try rig.driver.write(0x1c, queue, 4)
      try rig.driver.synchronize()
      #expect(DefectTests.word(rig, 0x20) == 0)
      #expect(DefectTests.word(rig, 0x24) == 0)
      // Writes to its bank go nowhere.
      for offset in [0x20, 0x24, 0x26] { try rig.driver.write(offset, 1, 2) }
      for offset in [0x28, 0x30, 0x38] { try rig.driver.write(offset, 0x200, 8) }
      try rig.driver.synchronize()
    }
    #expect(rig.counters.queueErrors == 0)
  }

  @Test func theBankIsNotReadAgain() throws {
    let rig = try DefectTests.live()
    // What a front-end stores without a transaction does not count, nor does a running queue move.
    let region = rig.link.region
    for offset in stride(from: 0x20, to: 0x40, by: 8) {
      region.store64(0xffff_ffff_ffff_ffff, at: rig.driver.base + offset)
    }
    #expect(rig.driver.read(sector: 0))
    #expect(rig.run(until: 1))
    try rig.driver.write(0x28, 0x9000, 8)
    try rig.driver.write(0x20, 2, 2)
    try rig.driver.synchronize()
    #expect(rig.counters.refusals == 2)
    #expect(rig.driver.read(sector: 1))
    #expect(rig.run(until: 2))
  }

  /// A cell that was started with something else writes over the header before its driver comes.
  @Test func aHeaderThatNobodyUsesIsRepaired() throws {
    let rig = try SiemensRig()
    try rig.startBackend()
    for offset in stride(from: 0, to: 0x100, by: 8) {
      rig.link.region.store64(rig.link.next(), at: rig.driver.base + offset)
    }
    rig.settle()
    #expect(rig.counters.repairs == 1)
    try rig.driver.probe()
    #expect(rig.driver.read(sector: 0))
    #expect(rig.run(until: 1))
  }

  // MARK: Schedules

  /// Whole lives under seeded schedules: set-up, requests in flight, unload, set-up again.
  @Test(arguments: 1...40) func everyScheduleWorks(seed: UInt64) throws {
    let queues = 1 + Int(seed % 2)
    let rig = try SiemensRig(
      seed: seed, vectors: 1 + Int(seed / 2 % 3), queues: queues, backendPeer: Int(seed % 3 / 2))
    rig.pace = 1 + seed % 7
    rig.link.spuriousOneIn = seed % 4 == 0 ? 3 : 0
    try rig.startBackend()
    for life in 0..<3 {
      try rig.driver.probe()
      try exercise(rig, queues: queues)
      if life == 1 {
        rig.link.bury(PeerID(UInt16(rig.driver.peerID)))
        if seed % 2 == 0 { rig.settle() }
      } else {
        try rig.driver.remove()
      }
    }
    #expect(rig.driver.complaints == 0)
    #expect(!rig.driver.isBroken)
  }

  /// Writes and reads back over all queues, with requests that end late.
  private func exercise(_ rig: SiemensRig, queues: Int) throws {
    rig.medium.isDeferring = rig.link.next() % 2 == 0
    let mark = UInt8(rig.link.next() & 0xff)
    for ring in 0..<queues {
      let sector = UInt64(ring)
      let data = [UInt8](repeating: mark &+ UInt8(ring), count: 512)
      #expect(
        rig.driver.submit(ring, out: [LinuxDriver.header(1, sector), data], answer: [1]))
      #expect(rig.run(until: 1, ring: ring))
      #expect(
        rig.driver.submit(ring, out: [LinuxDriver.header(0, sector)], answer: [512, 1]))
      #expect(rig.run(until: 2, ring: ring))
      let answer = try #require(rig.driver.rings[ring].finished.last)
      #expect(answer.result == data + [0])
      #expect(answer.written == 513)
      #expect(rig.driver.rings[ring].strange == 0)
    }
    rig.medium.isDeferring = false
  }

  /// The cell of the front-end is stopped between any two of its accesses, and its processor goes
  /// on for a while; the next life works.
  @Test(arguments: 0..<120) func aFrontEndThatDiesAnywhere(step: Int) throws {
    let rig = try SiemensRig(seed: UInt64(step) + 7)
    try rig.startBackend()
    var accesses = 0
    let turn = rig.driver.interleave
    rig.driver.interleave = {
      accesses += 1
      if accesses == 1 + step * 2 { rig.link.bury(PeerID(1)) }
      turn()
    }
    rig.driver.patience = 500
    do throws(DriverError) {
      try rig.driver.probe()
      _ = rig.driver.read(sector: 1)
    } catch {}
    rig.link.bury(PeerID(1))
    rig.driver.interleave = turn
    rig.driver.patience = 20_000
    try rig.driver.probe()
    #expect(rig.driver.read(sector: 2))
    #expect(rig.run(until: 1))
  }

  /// The back-end is killed between any two accesses, its descriptor closes (State 0), and another
  /// one starts without a book: the driver is lost, and works again when it is bound anew.
  @Test(arguments: 0..<100) func aBackEndThatDiesAnywhereWithoutABook(step: Int) throws {
    let rig = try SiemensRig(seed: UInt64(step) + 3)
    try rig.startBackend()
    var accesses = 0
    let turn = rig.driver.interleave
    rig.driver.interleave = {
      accesses += 1
      if accesses == 1 + step * 2 {
        rig.kill()
        rig.link.bury(PeerID(0))
      }
      turn()
    }
    do throws(DriverError) {
      try rig.driver.probe()
      _ = rig.driver.read(sector: 1)
    } catch { #expect(error == .backendFailed || error == .notReady) }
    rig.driver.interleave = turn
    if rig.backend != nil {
      rig.kill()
      rig.link.bury(PeerID(0))
    }
    try rig.startBackend()
    #expect(rig.phase == (rig.link.region.load32(4) == 1 ? .withdrawn : .offered))
    try rig.driver.remove()
    rig.settle()
    try rig.driver.probe()
    #expect(rig.driver.read(sector: 2))
    #expect(rig.run(until: 1))
  }
}
