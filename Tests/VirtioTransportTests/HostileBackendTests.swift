import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

@testable import DeviceRuntime

/// A back-end that writes anything it may, whenever the front-end waits: errors and deadlines,
/// never a trap, never a hang.
@Suite struct HostileBackendTests {
  @Test(arguments: HandshakeTests.placements, BackendTests.hostileSeeds())
  func aHostileBackEndHurtsNobody(placement: Placement, seed: UInt64) throws {
    let memory = try HandshakeTests.memory(placement, seed: seed, garbage: true)
    memory.spuriousOneIn = 3
    let native = try HandshakeTests.link(.frontEnd, memory)
    let plan = native.plan
    let books = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    var arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
    var front = try BlockFrontend(
      frontend: Frontend(link: native, spinCount: 1), slot: 0, depth: 4, arena: &arena)
    front.frontend.start()
    memory.onWait = { Self.attack(memory, plan) }
    var connected = 0
    var failures = 0
    for round in 0..<400 {
      memory.time &+= 1_000
      do throws(BlockFrontendError) {
        if !front.isConnected {
          try front.connect(until: Instant(nanoseconds: memory.time + 500))
          connected += 1
        }
        try front.submit(.flush, sector: UInt64(round), data: .empty, token: UInt32(round))
        front.publish()
        Self.attack(memory, plan)
        while try front.nextCompletion() != nil {}
        _ = front.sleep(until: Instant(nanoseconds: memory.time))
      } catch {
        failures += 1
        front.disconnect()
      }
    }
    memory.onWait = nil
    #expect(failures > 0, "seed \(seed): the attack was too tame")
    #expect(connected > 0, "seed \(seed): the device was never up")
    // The front-end's own memory is what it wrote: it still starts like a healthy one.
    front.frontend.start()
    let header = memory.region.load32(plan.driverBlock)
    #expect(header == 0x7476_4d43)
  }

  /// Plausible lies as well as noise: answers to open requests, echoes, used elements.
  static func attack(_ memory: ScheduledLink, _ plan: LinkPlan) {
    let region = memory.region
    let device = plan.deviceBlock
    for _ in 0..<4 {
      let dice = memory.next() >> 8
      let lies: [UInt64] = [0, 1, 2, 0xb, 0xf, 256, 0xffff, 0x3_0000_0000, .max]
      let lie = dice & 3 == 0 ? memory.next() : lies[Int(dice >> 4) % lies.count]
      // Honest most of the time, or no device would ever come up and be lied about.
      let kind = memory.next() >> 8 & 63 == 0 ? Int(dice >> 12) % 10 : 10
      switch kind {
      case 0, 1, 2:
        region.store64(lie, at: device + 0x110)
        region.store32(UInt32(dice >> 40) % 20, at: device + 0x108)
        region.store64(region.load64(plan.driverBlock + 0x100), at: device + 0x100)
      case 3, 4, 5, 6:
        // Used elements that nobody asked for, or with lengths nobody gave.
        let used = plan.devicePool.lowerBound + Int(dice >> 20) % 0x4000 & ~3
        region.store32(UInt32(truncatingIfNeeded: lie), at: used)
      case 10: Self.answer(region, plan)
      case 7: region.store32(UInt32(truncatingIfNeeded: lie), at: 0)
      case 8: region.store64(lie, at: device + Int(dice >> 20) % 0x3000 & ~7)
      default:
        let start = plan.devicePool.lowerBound
        region.store16(UInt16(truncatingIfNeeded: lie), at: start + Int(dice >> 20) % 4096 & ~1)
      }
    }
  }

  /// What an honest back-end would say: echo, header, and yes to every request.
  static func answer(_ region: SharedRegion, _ plan: LinkPlan) {
    let device = plan.deviceBlock
    let theirs = region.load64(plan.driverBlock + 0x40) >> 24 & 0xff_ffff
    let words: [(Int, UInt32)] = [
      (0x00, 0x7476_4d43), (0x04, 1), (0x08, 2), (0x0c, plan.placement.rawValue), (0x10, 0),
      (0x18, 8),
    ]
    for (field, value) in words { region.store32(value, at: device + field) }
    region.store64(UInt64(plan.devicePool.lowerBound), at: device + 0x20)
    region.store64(UInt64(plan.devicePool.count), at: device + 0x28)
    region.store64(0x12_3456 << 24 | theirs, at: device + 0x40)
    region.store32(0x434d_0102, at: 0)
    region.store32(region.load32(device + 0x2fc) & ~1, at: device + 0x2fc)
    let offset = region.load32(plan.driverBlock + 0x10c)
    // The mirrored status is what was written last.
    if offset == 0x70, region.load32(plan.driverBlock + 0x108) & 0xff == 2 {
      region.store32(region.load32(plan.driverBlock + 0x110), at: device + 0x270)
    }
    let value: UInt64 =
      switch offset {
      case 0x00: 0x7472_6976
      case 0x04, 0x08: 2
      case 0x34: 256
      case 0x70: UInt64(region.load32(device + 0x270))
      default: .max
      }
    region.store64(value, at: device + 0x110)
    region.store32(0, at: device + 0x108)
    region.store64(region.load64(plan.driverBlock + 0x100), at: device + 0x100)
  }
}
