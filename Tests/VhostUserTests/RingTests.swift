import CLinux
import HostResources
import LinuxSupport
import SharedMemory
import Testing
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

@Suite struct VhostUserRingTests {
  static let data = 0x10000

  /// Adds a block request: header at `spot`, one data buffer, a status byte.
  static func add(
    _ queue: inout DriverQueue, _ rig: borrowing VhostRig, _ type: BlockRequestType,
    sector: UInt64, spot: Int, token: UInt32, count: Int = 512
  ) throws {
    let region = rig.memory.region
    region.store32(type.rawValue, at: spot)
    region.store32(0, at: spot + 4)
    region.store64(sector, at: spot + 8)
    region.store8(0xee, at: spot + 16)
    let header = BufferSegment(offset: spot, count: 16)
    let status = BufferSegment(offset: spot + 16, count: 1)
    let data = BufferSegment(offset: spot + 512, count: count)
    if type == .write {
      try queue.add(readable: [header, data].span, writable: [status].span, token: token)
    } else {
      try queue.add(readable: [header].span, writable: [data, status].span, token: token)
    }
  }

  static func spot(_ index: Int) -> Int { data + index * 0x1000 }

  @Test func sectorsAreWrittenAndReadOnSeveralQueues() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    for index in 0..<2 {
      var queue = try rig.driverQueue(index)
      try rig.enable(index)
      let spot = Self.spot(index)
      for byte in 0..<512 {
        rig.memory.region.store8(UInt8(truncatingIfNeeded: byte + index), at: spot + 512 + byte)
      }
      try Self.add(&queue, rig, .write, sector: UInt64(index), spot: spot, token: 1)
      _ = queue.publish()
      try rig.run()
      #expect(try queue.takeUsed()?.token == 1)
      try Self.add(&queue, rig, .read, sector: UInt64(index), spot: spot + 0x800, token: 2)
      _ = queue.publish()
      try rig.run()
      let used = try queue.takeUsed()
      #expect(used?.token == 2)
      #expect(used?.written == 513)
      for byte in 0..<512 {
        #expect(
          rig.memory.region.load8(spot + 0x800 + 512 + byte)
            == UInt8(truncatingIfNeeded: byte + index))
      }
    }
  }

  /// A VMM stops a ring, for instance to migrate, and starts it again where it was.
  @Test func aRingGoesOnWhereItWasStopped() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    for round in 0..<200 {
      for index in 0..<3 {
        try Self.add(
          &queue, rig, .read, sector: 0, spot: Self.spot(index), token: UInt32(index))
      }
      _ = queue.publish()
      try rig.run()
      for _ in 0..<3 { #expect(try queue.takeUsed() != nil) }
      guard round % 7 == 0 else { continue }
      #expect(try rig.send(.getVringBase, [0, 0]) == .reply(descriptor: -1))
      let base = UInt16(truncatingIfNeeded: rig.replyWord(0) >> 32)
      #expect(base == UInt16(truncatingIfNeeded: 3 * (round + 1)))
      try rig.enable(0, base: base)
    }
    #expect(try queue.takeUsed() == nil)
  }

  /// After a machine reset a firmware uses one queue, but QEMU enables all: the others must not
  /// come to life where the driver before had them, because that memory holds something else now.
  @Test(arguments: [VhostUserRequest.getVringBase, .resetDevice, .setStatus])
  func aStoppedRingForgetsItsAddresses(stop: VhostUserRequest) throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    _ = try rig.driverQueue(1)
    try rig.enable(1)
    try rig.run()
    try rig.send(stop, stop == .getVringBase ? [1, 0] : [0, 0])
    // Whatever lies there now: an available index that no driver would write.
    rig.memory.region.store16(1064, at: VhostRig.ringOffset(1) + 0x1002)
    try rig.send(.setVringKick, [1, 0], descriptors: [try event()])
    try rig.send(.setVringEnable, [1, 1])
    try rig.run()
    #expect(rig.device.takeBrokenRing() == nil)
    #expect(rig.device.counters.queueErrors == 0)
  }

  @Test func aDisabledRingWaits() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    try rig.send(.setVringEnable, [0, 0])
    try Self.add(&queue, rig, .read, sector: 0, spot: Self.spot(0), token: 5)
    _ = queue.publish()
    try rig.run()
    #expect(try queue.takeUsed() == nil)
    try rig.send(.setVringEnable, [0, 1])
    try rig.run()
    #expect(try queue.takeUsed()?.token == 5)
  }

  /// Guest memory in two regions with a hole between them, rings in one and buffers in the other.
  @Test func buffersMayLieInAnyRegionButNotAcross() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let half = UInt64(0x10000)
    let rest = UInt64(VhostRig.memoryBytes) - half
    let file = rig.memory.descriptor
    // The same addresses as before, so that the driver side needs no other terms.
    try rig.send(
      .setMemoryTable,
      [2, 0] + VhostRig.region(size: half)
        + VhostRig.region(
          guest: DriverMemory.guestBase + half, size: rest,
          user: DriverMemory.userBase + half, offset: half),
      descriptors: [try duplicate(file), try duplicate(file)])
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    try Self.add(&queue, rig, .read, sector: 3, spot: Self.spot(1), token: 1)
    _ = queue.publish()
    try rig.run()
    #expect(try queue.takeUsed()?.written == 513)
    // The data buffer begins in the first region and ends in the second one.
    try Self.add(
      &queue, rig, .read, sector: 3, spot: Int(half) - 512 - 256, token: 2)
    _ = queue.publish()
    try rig.run()
    #expect(try queue.takeUsed() == nil)
    guard case .queue(index: 0, .bufferOutside)? = rig.device.takeBrokenRing() else {
      Issue.record("the ring did not break")
      return
    }
    // The device asks for a reset and the connection goes on.
    try rig.send(.getStatus)
    #expect(rig.replyWord(0) & 64 == 64)
    try rig.send(.resetDevice)
    try rig.send(.getStatus)
    #expect(rig.replyWord(0) == 0)
    var fresh = try rig.driverQueue(0)
    rig.memory.region.store32(0, at: VhostRig.ringOffset(0) + 0x2000)
    try rig.enable(0)
    try Self.add(&fresh, rig, .read, sector: 3, spot: Self.spot(1), token: 3)
    _ = fresh.publish()
    try rig.run()
    #expect(try fresh.takeUsed()?.token == 3)
  }

  @Test func regionsComeAndGoWhileARingRuns() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    let guest = UInt64(0x40_0000_0000)
    let extra = [0, 0] + VhostRig.region(guest: guest, user: 0x50_0000_0000)
    for round in 0..<40 {
      try rig.send(.addMemoryRegion, extra, descriptors: [try duplicate(rig.memory.descriptor)])
      try Self.add(&queue, rig, .read, sector: 0, spot: Self.spot(0), token: UInt32(round))
      _ = queue.publish()
      try rig.run()
      #expect(try queue.takeUsed()?.token == UInt32(round))
      try rig.send(.removeMemoryRegion, extra)
    }
    #expect(throws: VhostUserError.memory(.notThere(address: guest))) {
      try rig.send(.removeMemoryRegion, extra)
    }
    try rig.send(.addMemoryRegion, extra, descriptors: [try duplicate(rig.memory.descriptor)])
    #expect(throws: VhostUserError.memory(.overlap(address: guest))) {
      try rig.send(.addMemoryRegion, extra, descriptors: [try duplicate(rig.memory.descriptor)])
    }
  }

  /// What needs a quiet device waits for requests in flight, and nothing new is begun meanwhile.
  @Test func stoppingWaitsForWhatIsInFlight() throws {
    var plan = TestHost.Plan()
    plan.delayChance = 256
    plan.delayLimit = 20
    var rig = try VhostRig.make(plan: plan)
    try rig.negotiate()
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    for index in 0..<8 {
      try Self.add(&queue, rig, .read, sector: 0, spot: Self.spot(index), token: UInt32(index))
    }
    _ = queue.publish()
    _ = try rig.device.step()
    rig.message.fill(request: 11, payload: payload([0, 0]))
    var waits = 0
    while try rig.device.handle(&rig.message, reply: &rig.reply) == .wait {
      waits += 1
      _ = try rig.device.step(isDraining: true)
      try #require(waits < 1000)
    }
    #expect(waits > 0)
    for _ in 0..<8 { #expect(try queue.takeUsed() != nil) }
    #expect(rig.replyWord(0) >> 32 == 8)
  }

  /// A front-end that cuts its memory off under the device costs it its connection, not a signal.
  @Test func memoryThatVanishesEndsTheConnection() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let file = try Descriptor(unsafe cl_memfd("cellmate-test"))
    _ = try SystemError.check(cl_truncate(file.number, 1 << 20))
    let table = VhostRig.region(size: 1 << 20)
    try rig.send(.setMemoryTable, [1, 0] + table, descriptors: [try duplicate(file.number)])
    let ring = DriverMemory.userBase
    try rig.send(.setVringSize, [0, 64])
    try rig.send(
      .setVringAddresses,
      [0, 0] + split(ring) + split(ring + 0x2000) + split(ring + 0x1000) + split(0))
    try rig.send(.setVringKick, [0, 0], descriptors: [try event()])
    try rig.send(.setVringEnable, [0, 1])
    #expect(try rig.device.step() == false)
    _ = try SystemError.check(cl_truncate(file.number, 0))
    #expect(throws: VhostUserError.memoryVanished) { try rig.device.step() }
    rig.device.abort()
    rig.device.end()
    // The next front-end is served as if nothing had been.
    rig.device.begin()
    try rig.negotiate()
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    try Self.add(&queue, rig, .read, sector: 0, spot: Self.spot(0), token: 9)
    _ = queue.publish()
    try rig.run()
    #expect(try queue.takeUsed()?.token == 9)
  }
}
