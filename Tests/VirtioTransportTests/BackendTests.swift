import Foundation
import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

@testable import DeviceRuntime

/// A back-end with a block device, and a front-end that is moved by hand, register by register.
struct Pair: ~Copyable {
  let memory: ScheduledLink
  let medium = MemoryMedium(byteCount: 64 * 512)
  var backend: Backend<ScheduledPeer, BlockDevice<MemoryHost>>
  var front: NativeLink<ScheduledPeer>
  var transactions = DriverTransactions()

  init(_ placement: Placement, seed: UInt64 = 1) throws {
    let memory = try HandshakeTests.memory(placement, seed: seed, garbage: true)
    let front = try HandshakeTests.link(.frontEnd, memory)
    let link = try HandshakeTests.link(.backEnd, memory)
    self.memory = memory
    self.front = front
    backend = Self.makeBackend(link, medium)
    backend.start()
    self.front.start()
    settle()
  }

  static func makeBackend(
    _ link: consuming NativeLink<ScheduledPeer>, _ medium: MemoryMedium
  ) -> Backend<ScheduledPeer, BlockDevice<MemoryHost>> {
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    var arena = unsafe PrivateArena(unsafeBase: base, count: 1 << 20)
    guard
      var backend = Backend<ScheduledPeer, BlockDevice<MemoryHost>>(link: link, arena: &arena),
      let size = QueueSize(16),
      let device = BlockDevice(
        host: MemoryHost(medium: medium), maximumQueueSize: size, slots: 8, arena: &arena),
      backend.add(device, at: 0, arena: &arena)
    else { preconditionFailure("1 MiB holds a device") }
    return backend
  }

  mutating func settle() {
    for _ in 0..<40 {
      let event = front.look()
      if event == .peerStarted || event == .down { transactions.begin() }
      if front.owesAnswer {
        front.answer { region, block in
          region.fill(region.ownRange(block + 0x100..<block + 0x900), with: 0)
        }
      }
      if backend.step() == .idle, event == .none { return }
    }
  }

  mutating func access(
    _ operation: TransactionOperation, _ offset: Int, _ value: UInt64 = 0, slot: Int = 0,
    width: UInt8 = 4
  ) -> TransactionAnswer? {
    guard front.isUp, !transactions.isOpen(slot: slot) else { return nil }
    transactions.request(
      operation, slot: slot, offset: offset, width: width, value: value, on: &front)
    for _ in 0..<4 { _ = backend.step() }
    return transactions.answer(slot: slot, on: &front)
  }

  /// The start-up trace of docs/protocol.md, section 10; offsets written out.
  mutating func bringUp(features: UInt64 = 0x3_0000_0200, isLive: Bool = true) -> Bool {
    for status: UInt64 in [0, 1, 3] { _ = access(.write, 0x70, status) }
    _ = access(.write, 0x24, 0)
    _ = access(.write, 0x20, features & 0xffff_ffff)
    _ = access(.write, 0x24, 1)
    _ = access(.write, 0x20, features >> 32)
    _ = access(.write, 0x70, 0xb)
    guard access(.read, 0x70)?.value == 0xb else { return false }
    let pool = UInt64(front.plan.driverPool.lowerBound)
    let own = UInt64(front.plan.devicePool.lowerBound) + 0x800
    // The driver initialises its ring (R22); the used ring is the device's.
    memory.region.store32(0, at: Int(pool) + 0x400)
    for (offset, value) in [
      (0x30, UInt64(0)), (0x38, 16), (0x80, pool), (0x84, 0), (0x90, pool + 0x400), (0x94, 0),
      (0xa0, own), (0xa4, 0), (0x44, 1),
    ] { _ = access(.write, offset, value) }
    if isLive { _ = access(.write, 0x70, 0xf) }
    return access(.read, 0x44)?.value == 1
  }

  /// Offers one read of one sector and lets the device work; the status byte afterwards.
  mutating func readOneSector(_ sector: UInt64) -> UInt8 {
    let region = memory.region
    let pool = front.plan.driverPool.lowerBound
    let used = front.plan.devicePool.lowerBound + 0x800
    let data = used + 0x1000
    let index = region.load16(used + 2)
    region.store32(0, at: pool + 0x600)
    region.store64(sector, at: pool + 0x608)
    for (entry, address, count, flags, next) in [
      (0, pool + 0x600, UInt32(16), UInt16(1), UInt16(1)), (1, data, 512, 3, 2),
      (2, data + 512, 1, 2, 0),
    ] {
      region.store64(UInt64(address), at: pool + 16 * entry)
      region.store32(count, at: pool + 16 * entry + 8)
      region.store16(flags, at: pool + 16 * entry + 12)
      region.store16(next, at: pool + 16 * entry + 14)
    }
    region.store8(0xff, at: data + 512)
    region.store16(0, at: pool + 0x400 + 4 + 2 * Int(index % 16))
    region.store16Releasing(index &+ 1, at: pool + 0x400 + 2)
    for _ in 0..<4 { _ = backend.step() }
    return region.load8(data + 512)
  }
}

@Suite struct BackendTests {
  /// R7: what somebody wrote over the block before the peer started is gone when the answer shows,
  /// in empty slots and behind the device's own configuration too.
  @Test(arguments: HandshakeTests.placements)
  func theAnswerLeavesNothingOfWhatLayThere(placement: Placement) throws {
    var pair = try Pair(placement)
    let block = pair.backend.link.plan.ownBlock
    func words(_ pair: borrowing Pair) -> [UInt64] {
      stride(from: block, to: block + BlockLayout.deviceBlockSize, by: 8).map {
        pair.memory.region.load64($0)
      }
    }
    let before = words(pair)
    // Everything but the header's first words and hello: those a restart changes anyway.
    pair.memory.overwrite(block + 0x88..<block + 0x3000, count: 0x3000 - 0x88)
    pair.front.start()
    pair.settle()
    #expect(pair.front.isUp == true)
    let after = words(pair)
    // Words that change with a pairing: hello, and the generation of the configuration.
    let changing = [0x40 / 8, 0x80 / 8]
    let generation =
      (BlockLayout.deviceSlot(0) + BlockLayout.DeviceSlot.registers.rawValue
        + MMIORegister.configurationGeneration.rawValue) / 8
    for word in before.indices where !changing.contains(word) && word != generation {
      #expect(after[word] == before[word], "offset \(word * 8)")
    }
  }

  @Test(arguments: HandshakeTests.placements)
  func theStartUpTraceWorks(placement: Placement) throws {
    var pair = try Pair(placement)
    #expect(pair.access(.read, 0x0)?.value == 0x7472_6976)
    #expect(pair.access(.read, 0x8)?.value == 2)
    let isUp = pair.bringUp()
    #expect(isUp)
    #expect(pair.readOneSector(3) == 0)
    #expect(pair.readOneSector(64) == 1)
  }

  @Test(arguments: HandshakeTests.placements)
  func refusalsAreVisible(placement: Placement) throws {
    var pair = try Pair(placement)
    #expect(pair.access(.read, 0x4, width: 8)?.result == 12)
    #expect(pair.access(.read, 0x3)?.result == 1)
    #expect(pair.access(.write, 0x0, 1)?.result == 2)
    #expect(pair.access(.read, 0x8, slot: 5)?.result == 15)
    #expect(pair.access(.write, 0x100, 0)?.result == 13)
    let isUp = pair.bringUp(features: 0x1_0000_0000)
    #expect(!isUp)
    #expect(pair.access(.read, 0x70)?.value == 0x3)
  }

  @Test(arguments: HandshakeTests.placements)
  func aUsedRingOutsideTheDevicePoolIsRefused(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    _ = pair.access(.write, 0x70, 0)
    for status: UInt64 in [1, 3] { _ = pair.access(.write, 0x70, status) }
    _ = pair.access(.write, 0x24, 1)
    _ = pair.access(.write, 0x20, 3)
    _ = pair.access(.write, 0x70, 0xb)
    let block = UInt64(pair.front.plan.deviceBlock)
    for (offset, value) in [(0x30, UInt64(0)), (0x38, 16), (0x80, block), (0x90, block)] {
      _ = pair.access(.write, offset, value)
    }
    _ = pair.access(.write, 0xa0, block + 0x100)
    #expect(pair.access(.write, 0x44, 1)?.result == 14)
    #expect(pair.access(.read, 0x44)?.value == 0)
  }

  @Test(arguments: HandshakeTests.placements)
  func aResetIsAcknowledgedOnlyWhenTheDeviceIsQuiet(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    pair.medium.isDeferring = true
    #expect(pair.readOneSector(1) == 0xff)
    #expect(pair.access(.write, 0x70, 0) == nil)
    #expect(pair.backend.link.ownStatus.rawValue & 4 == 4)
    pair.medium.finished = pair.medium.waiting
    pair.medium.waiting = []
    for _ in 0..<4 { _ = pair.backend.step() }
    let answer = pair.transactions.answer(slot: 0, on: &pair.front)
    #expect(answer?.result == 0)
  }

  @Test func aSlowDeviceDelaysNoOtherSlot() throws {
    var pair = try Pair(.output)
    _ = pair.bringUp()
    pair.medium.isDeferring = true
    _ = pair.readOneSector(1)
    #expect(pair.access(.write, 0x70, 0) == nil)
    #expect(pair.access(.read, 0x8, slot: 5)?.result == 15)
  }

  /// R7: a front-end that starts anew gets its answer only when no old request can land in its
  /// buffers.
  @Test(arguments: HandshakeTests.placements)
  func aNewLifeIsAnsweredOnlyWhenTheOldOneIsQuiet(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    pair.medium.isDeferring = true
    _ = pair.readOneSector(1)
    pair.front.start()
    pair.settle()
    #expect(pair.front.isUp == false)
    pair.medium.finished = pair.medium.waiting
    pair.medium.waiting = []
    pair.settle()
    #expect(pair.front.isUp == true)
    pair.medium.isDeferring = false
    let isUp = pair.bringUp()
    #expect(isUp)
    #expect(pair.readOneSector(1) == 0)
  }

  @Test(arguments: HandshakeTests.placements)
  func aRequestOfAnotherPairingIsNotExecuted(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    let slot = pair.front.plan.driverBlock + 0x100
    let errors = pair.backend.link.counters.peerErrors
    pair.memory.region.store32(0x402, at: slot + 8)
    pair.memory.region.store32(0x70, at: slot + 12)
    pair.memory.region.store64(0, at: slot + 16)
    pair.memory.region.store64(0x1234_5678_9abc_0001, at: slot)
    for _ in 0..<4 { _ = pair.backend.step() }
    #expect(pair.backend.link.counters.peerErrors == errors + 1)
    #expect(pair.memory.region.load32(pair.front.plan.deviceBlock + 0x200 + 0x70) == 0xf)
  }

  @Test(arguments: HandshakeTests.placements)
  func aBrokenQueueDemandsAResetAndOneMendsIt(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    pair.memory.region.store16(
      0x7777, at: pair.front.plan.driverPool.lowerBound + 0x402)
    for _ in 0..<4 { _ = pair.backend.step() }
    #expect(pair.access(.read, 0x70)?.value == 0x4f)
    #expect(pair.front.peerStatus.rawValue & 16 == 16)
    #expect(pair.backend.slots[0].counters.queueErrors == 1)
    pair.memory.region.store16(0, at: pair.front.plan.driverPool.lowerBound + 0x402)
    let isUp = pair.bringUp()
    #expect(isUp)
    #expect(pair.readOneSector(0) == 0)
  }

  static var fuzzSeconds: Double {
    Double(ProcessInfo.processInfo.environment["CELLMATE_FUZZ_SECONDS"] ?? "") ?? 0
  }

  static func hostileSeeds() -> [UInt64] {
    let first = UInt64(ProcessInfo.processInfo.environment["CELLMATE_FUZZ_SEED"] ?? "") ?? 1
    return Array(first..<first + 6)
  }

  /// A front-end that writes anything it may, at any time: no trap, no hang, and an honest
  /// front-end is served afterwards.
  @Test(arguments: HandshakeTests.placements, hostileSeeds())
  func aHostileFrontEndHurtsNobody(placement: Placement, seed: UInt64) throws {
    let end = Date().addingTimeInterval(Self.fuzzSeconds / 12)
    var run = seed
    repeat {
      try Self.attack(placement, run)
      run += 1000
    } while Date() < end
  }

  static func attack(_ placement: Placement, _ seed: UInt64) throws {
    var pair = try Pair(placement, seed: seed)
    _ = pair.bringUp()
    let region = pair.memory.region
    let plan = pair.front.plan
    let deviceBlock = (0..<0x3000).map { region.load8(plan.deviceBlock + $0) }
    _ = deviceBlock
    let values: [UInt64] = [
      0, 1, 0xffff, .max, UInt64(plan.deviceBlock), UInt64(plan.driverPool.lowerBound),
      UInt64(plan.devicePool.upperBound), 0x3_0000_0200, 0x8000_0000,
    ]
    for _ in 0..<4_000 {
      let dice = pair.memory.next()
      let value =
        dice & 3 == 0 ? pair.memory.next() : values[Int(dice >> 8) % values.count]
      switch Int(dice >> 20) % 8 {
      case 0:
        let field = plan.driverBlock + (Int(dice >> 32) % 0x900 & ~7)
        region.store64(value, at: field)
      case 1, 2:
        region.store16(
          UInt16(truncatingIfNeeded: value),
          at: plan.driverPool.lowerBound + (Int(dice >> 32) % 0x700 & ~1))
      case 3, 4:
        _ = pair.access(
          dice & 16 == 0 ? .read : .write, Int(dice >> 32) % 0x210, value,
          slot: Int(dice >> 48) % 3, width: [1, 2, 4, 4, 4, 8][Int(dice >> 52) % 6])
      case 5: pair.front.platform.writeState(UInt32(truncatingIfNeeded: value))
      case 6: pair.settle()
      default: if dice & 32 == 0 { _ = pair.bringUp() }
      }
      _ = pair.backend.step()
      if dice & 64 == 0 { _ = pair.backend.sleep(until: Instant(nanoseconds: 0)) }
    }
    pair.front.start()
    pair.transactions.begin()
    pair.settle()
    let isUp = pair.bringUp()
    #expect(isUp, "seed \(seed)")
    #expect(pair.readOneSector(5) == 0, "seed \(seed)")
  }
}
