import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioDevice
import VirtioTransport
import Virtqueue

@testable import DeviceRuntime

extension Pair {
  /// What the driver sees of queue 0: its used index and the notifications it was sent.
  var signs: [UInt32] {
    let counters = front.plan.deviceBlock + 0x100 + 0x40
    return [
      UInt32(memory.region.load16(front.plan.devicePool.lowerBound + 0x802)),
      memory.region.load32(counters),
    ]
  }

  /// How often the device has announced a change of configuration or status.
  var announcements: UInt32 { memory.region.load32(front.plan.deviceBlock + 0x100 + 0x18) }

  /// Asks for notifications about used buffers and says that queue 0 moved.
  func ask() {
    let pool = front.plan.driverPool.lowerBound
    memory.region.store16(0, at: pool + 0x400)
    let counter = front.plan.driverBlock + 0x100 + 0x40
    memory.region.store32(memory.region.load32(counter) &+ 1, at: counter)
  }
}

/// What VIRTIO 1.4 asks of a device in its whole life, seen from the driver's side of a native link.
@Suite struct BackendRuleTests {
  @Test(arguments: HandshakeTests.placements)
  func nothingIsServedBeforeDriverOK(placement: Placement) throws {
    var pair = try Pair(placement)
    let isUp = pair.bringUp(isLive: false)
    #expect(isUp)
    pair.ask()
    let before = pair.signs
    #expect(pair.readOneSector(1) == 0xff)
    #expect(pair.signs == before)
    // DRIVER_OK: what waits is served, and the driver told.
    _ = pair.access(.write, 0x70, 0xf)
    for _ in 0..<4 { _ = pair.backend.step() }
    #expect(pair.signs == [1, before[1] + 1])
  }

  @Test(arguments: HandshakeTests.placements, [false, true])
  func afterAResetTheQueuesAreLeftAlone(placement: Placement, byFailure: Bool) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    pair.ask()
    #expect(pair.readOneSector(1) == 0)
    // The driver gives up (FAILED), or resets the device.
    _ = pair.access(.write, 0x70, byFailure ? 0x8f : 0)
    #expect(pair.access(.read, 0x70)?.value == (byFailure ? 0x8f : 0))
    let before = pair.signs
    #expect(pair.readOneSector(2) == 0xff)
    pair.ask()
    #expect(pair.readOneSector(2) == 0xff)
    #expect(pair.signs == before)
  }

  /// Found by the fuzzer of the C interface: a chain that came while requests were waited for kept
  /// a back-end awake until its deadline.
  @Test(arguments: HandshakeTests.placements)
  func aLeavingBackEndSleepsThoughChainsWait(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    pair.backend.quiesce()
    #expect(pair.readOneSector(1) == 0xff)
    while pair.backend.step() == .busy {}
    let maySleep = pair.backend.prepareToSleep()
    #expect(maySleep)
  }

  /// One queue alone, by QueueReset or by QueueReady (4.2.2.1).
  @Test(arguments: HandshakeTests.placements, [false, true])
  func aStoppedQueueIsLeftAloneAndComesBackAnew(placement: Placement, byReset: Bool) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp(features: 0x103_0000_0200)
    pair.ask()
    #expect(pair.readOneSector(1) == 0)
    _ = pair.access(.write, 0x30, 0)
    #expect(pair.access(.write, byReset ? 0xc0 : 0x44, byReset ? 1 : 0)?.result == 0)
    #expect(pair.access(.read, 0xc0)?.value == 0)
    #expect(pair.access(.read, 0x44)?.value == 0)
    let before = pair.signs
    pair.ask()
    #expect(pair.readOneSector(2) == 0xff)
    #expect(pair.signs == before)
    #expect(pair.access(.read, 0x70)?.value == 0xf)
    // Enabled again with another size: both indices start at 0.
    let pool = UInt64(pair.front.plan.driverPool.lowerBound)
    let used = UInt64(pair.front.plan.devicePool.lowerBound) + 0x800
    pair.memory.region.store32(0, at: Int(pool) + 0x400)
    for (offset, value) in [
      (0x38, 8), (0x80, pool), (0x84, 0), (0x90, pool + 0x400), (0x94, 0), (0xa0, used), (0xa4, 0),
      (0x44, 1),
    ] { #expect(pair.access(.write, offset, value)?.result == 0) }
    #expect(pair.signs[0] == 0)
    for index: UInt32 in 1...20 {
      let spot = Int(pool) + 0x400 + 4 + 2 * Int((index - 1) % 8)
      pair.memory.region.store16(0, at: spot)
      #expect(pair.readOneSector(3) == 0)
      #expect(pair.signs[0] == index)
    }
  }

  @Test(arguments: HandshakeTests.placements)
  func aBrokenQueueIsAnnounced(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    let before = pair.announcements
    pair.memory.region.store16(0x7777, at: pair.front.plan.driverPool.lowerBound + 0x402)
    for _ in 0..<4 { _ = pair.backend.step() }
    #expect(pair.access(.read, 0x70)?.value == 0x4f)
    #expect(pair.announcements == before + 1)
  }

  @Test(arguments: HandshakeTests.placements)
  func theConfigurationIsReadableBeforeFeaturesOK(placement: Placement) throws {
    var pair = try Pair(placement)
    for status: UInt64 in [0, 1, 3] { _ = pair.access(.write, 0x70, status) }
    #expect(pair.access(.read, 0x100, width: 8)?.value == 64)
    // Also what depends on an offered feature: the discard limits.
    #expect(pair.access(.read, 0x100 + 36)?.value == 1 << 21)
    for offset in 0..<60 {
      #expect(pair.access(.read, 0x100 + offset, width: 1)?.result == 0)
    }
  }

  @Test(arguments: HandshakeTests.placements)
  func aChangedConfigurationHasANewGeneration(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp(features: 0x3_0000_0a00)
    var generation = pair.access(.read, 0xfc)?.value
    var announcements = pair.announcements
    // By the driver (the cache mode), then by the device (a larger medium).
    for change in 0..<2 {
      if change == 0 {
        #expect(pair.access(.write, 0x120, 0, width: 1)?.result == 0)
      } else {
        pair.medium.bytes += [UInt8](repeating: 0, count: 512)
      }
      for _ in 0..<4 { _ = pair.backend.step() }
      let next = pair.access(.read, 0xfc)?.value
      #expect(next != generation && (next ?? 1) & 1 == 0)
      #expect(pair.announcements == announcements + 1)
      (generation, announcements) = (next, pair.announcements)
    }
    #expect(pair.access(.read, 0x120, width: 1)?.value == 0)
    #expect(pair.access(.read, 0x100, width: 8)?.value == 65)
  }

  @Test(arguments: HandshakeTests.placements)
  func spuriousNotificationsAreHarmless(placement: Placement) throws {
    var pair = try Pair(placement)
    _ = pair.bringUp()
    let before = pair.signs
    for _ in 0..<50 {
      pair.ask()
      pair.front.wakePeer()
      _ = pair.backend.step()
    }
    #expect(pair.signs == before)
    #expect(pair.backend.slots[0].counters.queueErrors == 0)
    #expect(pair.readOneSector(1) == 0)
  }
}
