import Dispatch
import Foundation
import IVShmem
import SharedMemory
import Simulator
import Synchronization
import Testing
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

@testable import DeviceRuntime

/// What VIRTIO 1.4 asks of a driver, seen from the device's side: every access, in its order.
@Suite struct FrontendRuleTests {
  typealias Access = RecordingBackend.Access
  static let everything: UInt64 = 1 << 40 | 1 << 36 | 3 << 32 | 3 << 28 | 0x7e66

  struct Rig: ~Copyable {
    let memory: ScheduledLink
    let backend: RecordingBackend
    var front: BlockFrontend<ScheduledPeer>

    init(_ registers: RegisterFile, placement: Placement = .output) throws {
      let memory = try HandshakeTests.memory(placement, seed: 3, garbage: true)
      memory.spuriousOneIn = 1
      let backend = try RecordingBackend(memory, registers)
      let native = try HandshakeTests.link(.frontEnd, memory)
      let books = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
      var arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
      var front = try BlockFrontend(
        frontend: Frontend(link: native, spinCount: 1), slot: 0, depth: 4, arena: &arena)
      memory.onWait = { backend.step() }
      front.frontend.start()
      self.memory = memory
      self.backend = backend
      self.front = front
    }

    mutating func connect() throws { try front.connect(until: Instant(nanoseconds: 1_000_000)) }

    /// What `connect` throws.
    mutating func failure() -> BlockFrontendError? {
      do throws(BlockFrontendError) {
        try front.connect(until: Instant(nanoseconds: 1_000_000))
        return nil
      } catch { return error }
    }

    var statusWrites: [UInt64] {
      backend.log.filter { $0.isWrite && $0.offset == 0x70 }.map(\.value)
    }
  }

  /// 3.1.1, step by step, and 4.2.3.1.1: what it is, first; status bits only grow; features between
  /// DRIVER and FEATURES_OK; FEATURES_OK looked at again; the queue; DRIVER_OK.
  @Test(arguments: HandshakeTests.placements)
  func theDriverFollowsTheSequence(placement: Placement) throws {
    var rig = try Rig(
      RecordingBackend.registers(offered: Self.everything), placement: placement)
    try rig.connect()
    let offered = Self.everything
    let agreed = rig.front.features.rawValue
    let before: [Access] = [
      .read(0x00, 0x7472_6976), .read(0x04, 2), .read(0x08, 2), .write(0x70, 0), .read(0x70, 0),
      .write(0x70, 1), .write(0x70, 3), .write(0x14, 0),
      .read(0x10, offered & 0xffff_ffff), .write(0x14, 1), .read(0x10, offered >> 32),
      .write(0x24, 0), .write(0x20, agreed & 0xffff_ffff), .write(0x24, 1),
      .write(0x20, agreed >> 32), .write(0x70, 0xb), .read(0x70, 0xb), .write(0x30, 0),
      .read(0x34, 64),
    ]
    #expect(Array(rig.backend.log.prefix(before.count)) == before)
    let rest = rig.backend.log.dropFirst(before.count).filter { $0.offset != 0x30 }
    #expect(rest.first == .write(0x38, 16))
    #expect(
      rest.map(\.offset) == [0x38, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0x44, 0x70])
    #expect(Array(rest.suffix(2)) == [.write(0x44, 1), .write(0x70, 0xf)])
  }

  /// Registers that exist, in their direction, 32 bits wide; nothing of shared memory regions.
  @Test func onlyRegistersAreTouchedInTheirDirection() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    try rig.connect()
    try rig.front.frontend.resetQueue(slot: 0, queue: 0)
    let readable: Set<Int> = [0x00, 0x04, 0x08, 0x0c, 0x10, 0x34, 0x44, 0x70, 0xc0, 0xfc]
    let writable: Set<Int> = [
      0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x70, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xc0,
    ]
    for access in rig.backend.log {
      #expect(access.width == 4)
      #expect((access.isWrite ? writable : readable).contains(access.offset))
    }
  }

  /// All 64 bits on offer: what is not described, of another transport or of a feature that is not
  /// built here is not accepted, and no reason to fail.
  @Test func onlyKnownFeaturesAreAccepted() throws {
    var rig = try Rig(RecordingBackend.registers(offered: .max))
    try rig.connect()
    let bits = (0..<64).filter { rig.front.features.rawValue >> UInt64($0) & 1 == 1 }
    #expect(bits == [1, 2, 5, 6, 9, 10, 11, 12, 13, 14, 28, 29, 32, 33, 36, 40])
    #expect(rig.backend.registers.driverFeatures == rig.front.features)
  }

  @Test func nothingThatIsNotOfferedIsAccepted() throws {
    var rig = try Rig(RecordingBackend.registers(offered: 3 << 32 | 1 << 9))
    try rig.connect()
    #expect(rig.front.features.rawValue == 3 << 32 | 1 << 9)
  }

  /// Whether the offer is too small or the device refuses the choice: FAILED, and nothing after it.
  @Test(arguments: [(UInt64(1 << 32), UInt64(1 << 32)), (7 << 32, 7 << 32)])
  func aDriverThatGivesUpSaysSo(offered: UInt64, required: UInt64) throws {
    var rig = try Rig(RecordingBackend.registers(offered: offered, required: required))
    let error = rig.failure()
    #expect(
      error
        == (offered == 7 << 32
          ? .frontend(.refused(9, register: 0x70))
          : .frontend(.missingFeatures(FeatureSet(rawValue: 1 << 33)))))
    #expect(rig.backend.log.last == .write(0x70, 0x83))
    let isConnected = rig.front.isConnected
    #expect(!isConnected)
    // The next attempt starts with a reset.
    let first = rig.statusWrites.count
    _ = rig.failure()
    #expect(rig.statusWrites[first] == 0)
  }

  /// A device that takes FEATURES_OK back silently is given up, too.
  @Test func featuresOKIsLookedAtAgain() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    let backend = rig.backend
    backend.onAccess = { access in
      if access == .write(0x70, 0xb) { backend.lies[0x70] = 0x3 }
    }
    #expect(
      rig.failure()
        == .frontend(.featuresRefused(wanted: FeatureSet(rawValue: Self.everything))))
    #expect(rig.backend.log.last == .write(0x70, 0x83))
  }

  @Test(arguments: [UInt32(0), 3, 42])
  func anotherDeviceIsLeftAlone(deviceID: UInt32) throws {
    var rig = try Rig(
      RecordingBackend.registers(offered: Self.everything, deviceID: deviceID))
    #expect(rig.failure() == .frontend(.wrongDevice(found: deviceID, expected: 2)))
    #expect(rig.backend.log.map(\.offset) == [0, 4, 8])
  }

  @Test(arguments: [(0, UInt32(0x7472_6975)), (4, 1), (4, 3)])
  func whatIsNotVirtioIsLeftAlone(offset: Int, value: UInt32) throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    rig.backend.lies[offset] = value
    let magic = offset == 0 ? value : 0x7472_6976
    #expect(
      rig.failure() == .frontend(.notVirtio(magic: magic, version: offset == 4 ? value : 2)))
    #expect(rig.backend.log.map(\.offset) == [0, 4])
  }

  /// A reset that was acknowledged but does not show is not believed (2.4.2).
  @Test func aResetIsOverWhenTheStatusIsZero() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    rig.backend.lies[0x70] = 1
    #expect(rig.failure() == .frontend(.deadline(.reset)))
    #expect(rig.backend.log.last == .read(0x70, 1))
  }

  /// DEVICE_NEEDS_RESET, announced: the queue is let go, the device is reset, and what was open goes
  /// out again (2.1.1).
  @Test func aDeviceThatWantsAResetGetsOne() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    try rig.connect()
    try rig.front.submit(.flush, sector: 0, data: .empty, token: 1)
    rig.front.publish()
    let slot = rig.backend.link.plan.ownBlock + 0x100
    rig.memory.region.store32(0x4f, at: slot + 0x170)
    let before = rig.front.step()
    #expect(!before, "not announced yet")
    rig.memory.region.store32(1, at: slot + 0x18)
    let isLost = rig.front.step()
    #expect(isLost)
    rig.memory.region.store32(0, at: slot + 0x170)
    let count = rig.statusWrites.count
    try rig.connect()
    #expect(Array(rig.statusWrites.dropFirst(count)) == [0, 1, 3, 0xb, 0xf])
    #expect(rig.front.inFlightCount == 1 && rig.front.counters.resubmitted == 1)
  }

  /// A configuration change is announced: the new capacity counts (5.2.6.1).
  @Test func aNewCapacityIsTheNewLimit() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    var space = [UInt8](repeating: 0, count: 60)
    space[0] = 8
    rig.backend.publish(space, generation: 2)
    try rig.connect()
    let slot = rig.backend.link.plan.ownBlock + 0x100
    space[0] = 9
    rig.backend.publish(space, generation: 4)
    rig.memory.region.store32(1, at: slot + 0x18)
    let isLost = rig.front.step()
    #expect(!isLost)
    #expect(rig.front.configuration.capacity == 9)
    let buffer = BufferSegment(offset: 0x2000, count: 512)
    try rig.front.submit(.read, sector: 8, data: buffer, token: 0)
    // While the generation is odd nothing is taken over, and nothing waits.
    rig.memory.region.store32(5, at: slot + 0x1fc)
    rig.memory.region.store32(2, at: slot + 0x18)
    _ = rig.front.step()
    #expect(rig.front.configuration.capacity == 9)
    rig.backend.publish([10], generation: 6)
    _ = rig.front.step()
    #expect(rig.front.configuration.capacity == 10)
  }

  /// A request that waits for the device goes out, and is notified, only after DRIVER_OK.
  @Test func nothingIsMadeAvailableBeforeDriverOK() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything & ~(1 << 29)))
    try rig.front.submit(.flush, sector: 0, data: .empty, token: 1)
    let backend = rig.backend
    let plan = rig.front.frontend.link.plan
    var seen: [UInt64] = []
    backend.onAccess = { access in
      let available = backend.registers.queueState(0).isReady ? Self.available(backend) : 0
      let counter = backend.link.region.load32(plan.driverBlock + 0x140)
      seen.append(UInt64(available) << 32 | UInt64(counter))
    }
    try rig.connect()
    #expect(seen.allSatisfy { $0 == 0 })
    #expect(Self.available(backend) == 1)
    #expect(backend.link.region.load32(plan.driverBlock + 0x140) == 1)
  }

  /// The index of the available ring, by the address that was written last.
  static func available(_ backend: RecordingBackend) -> UInt16 {
    let ring = backend.log.last { $0.isWrite && $0.offset == 0x90 }
    return ring.map { backend.link.region.load16(Int($0.value) + 2) } ?? 0
  }

  /// The configuration is read once the features are agreed, whatever its size, and not before: the
  /// bytes change at FEATURES_OK.
  @Test(arguments: [60, 64, 200])
  func theConfigurationIsReadAfterFeaturesOK(size: Int) throws {
    var rig = try Rig(
      RecordingBackend.registers(offered: Self.everything, configurationSize: size))
    let backend = rig.backend
    var bytes = [UInt8](repeating: 0, count: 60)
    bytes[0] = 77
    backend.publish([UInt8](repeating: 0xff, count: 256), generation: 2)
    backend.onAccess = { access in
      if access == .write(0x70, 0xb) { backend.publish(bytes, generation: 4) }
    }
    try rig.connect()
    #expect(rig.front.configuration.capacity == 77)
    #expect(!rig.front.configuration.isWriteback)
  }

  /// The rules for a driver's requests: whole sectors inside the medium, 20 bytes for a name, one
  /// range, no data for a flush (5.2.6.1).
  @Test func requestsThatNoDriverMayMakeAreRefused() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    var space = [UInt8](repeating: 0, count: 60)
    space[0] = 8
    rig.backend.publish(space, generation: 2)
    try rig.connect()
    let bad: [(BlockRequestType, UInt64, Int)] = [
      (.read, 0, 0), (.read, 0, 511), (.write, 0, 513), (.read, 8, 512), (.write, 7, 1024),
      (.read, .max, 512), (.flush, 0, 512), (.getID, 0, 19), (.discard, 0, 15),
      (.writeZeroes, 0, 32),
    ]
    for (type, sector, count) in bad {
      var seen: BlockFrontendError?
      do throws(BlockFrontendError) {
        try rig.front.submit(
          type, sector: sector, data: BufferSegment(offset: 0x2000, count: count), token: 0)
      } catch { seen = error }
      #expect(seen == .badRequest(type, sector: sector, byteCount: count))
    }
    #expect(rig.front.inFlightCount == 0)
    // A flush names no sector, whatever the caller says.
    try rig.front.submit(.flush, sector: 5, data: .empty, token: 0)
    let header = rig.front.header(0)
    #expect(rig.memory.region.load64(header.offset) == 4)
    #expect(rig.memory.region.load64(header.offset + 8) == 0)
  }

  /// A device that says OK without having written the data is not believed (2.7.8.3).
  @Test(arguments: [
    (UInt32(513), UInt8(0), true), (512, 0, false), (1, 0, false), (0, 0, false), (513, 3, false),
    (1, 1, true),
  ])
  func lyingCompletions(written: UInt32, status: UInt8, isValid: Bool) throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    var space = [UInt8](repeating: 0, count: 60)
    space[0] = 8
    rig.backend.publish(space, generation: 2)
    try rig.connect()
    guard let buffer = rig.front.allocateForReading(512) else { return }
    try rig.front.submit(.read, sector: 0, data: buffer, token: 9)
    rig.front.publish()
    let ring = rig.backend.log.last { $0.isWrite && $0.offset == 0xa0 }
    let used = Int(ring?.value ?? 0)
    let region = rig.memory.region
    let spot = rig.front.statusByte(0).offset
    region.store8(status, at: spot)
    region.store32(0, at: used + 4)
    region.store32(written, at: used + 8)
    region.store16(1, at: used + 2)
    let done = try rig.front.nextCompletion()
    #expect(done?.token == 9)
    #expect((done?.status != nil) == isValid)
  }

  @Test func aQueueResetIsVerified() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    try rig.connect()
    let count = rig.backend.log.count
    try rig.front.frontend.resetQueue(slot: 0, queue: 0)
    #expect(
      Array(rig.backend.log.dropFirst(count)) == [
        .write(0x30, 0), .write(0xc0, 1), .read(0xc0, 0),
      ])
    rig.backend.lies[0xc0] = 1
    var seen: FrontendError?
    do throws(FrontendError) {
      try rig.front.frontend.resetQueue(slot: 0, queue: 0)
    } catch { seen = error }
    #expect(seen == .queueResetIncomplete)
  }

  /// A queue is enabled again as it was enabled first: size and all six addresses.
  @Test func aQueueIsEnabledAgainFromTheStart() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    try rig.connect()
    try rig.front.frontend.resetQueue(slot: 0, queue: 0)
    let count = rig.backend.log.count
    let size = try #require(QueueSize(4))
    try rig.front.frontend.enableQueue(
      slot: 0, queue: 0,
      QueueConfiguration(
        size: size, descriptorTable: 0x1_0000_1000, availableRing: 0x2000, usedRing: 0x3000))
    #expect(
      Array(rig.backend.log.dropFirst(count)) == [
        .write(0x30, 0), .write(0x38, 4), .write(0x80, 0x1000), .write(0x84, 1),
        .write(0x90, 0x2000), .write(0x94, 0), .write(0xa0, 0x3000), .write(0xa4, 0),
        .write(0x44, 1),
      ])
  }

  /// While another thread changes the whole space again and again, each read shows one version of
  /// it; and a generation that stays odd is an error, not a wait without end.
  @Test func theConfigurationIsNeverTorn() throws {
    var rig = try Rig(RecordingBackend.registers(offered: Self.everything))
    try rig.connect()
    let slot = rig.backend.link.plan.ownBlock + 0x100
    let region = rig.memory.region
    rig.backend.publish([UInt8](repeating: 0, count: 64), generation: 2)
    let writer = Writer()
    writer.start(region, slot: slot)
    var torn = 0
    var versions: Set<UInt8> = []
    for _ in 0..<20_000 {
      var bytes = InlineArray<64, UInt8>(repeating: 0)
      var span = bytes.mutableSpan
      do throws(FrontendError) {
        try rig.front.frontend.configuration(slot: 0, into: &span)
      } catch {
        #expect(error == .deadline(.configuration))
        continue
      }
      versions.insert(bytes[0])
      for index in 0..<64 where bytes[index] != bytes[0] { torn += 1 }
    }
    writer.finish()
    #expect(torn == 0)
    #expect(!versions.isEmpty)
    region.store32(5, at: slot + 0x1fc)
    var bytes = InlineArray<64, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    var seen: FrontendError?
    do throws(FrontendError) {
      try rig.front.frontend.configuration(slot: 0, into: &span)
    } catch { seen = error }
    #expect(seen == .deadline(.configuration))
  }

  /// Changes all bytes of a configuration space under the lock, as a device does (R14).
  final class Writer: Sendable {
    private let isStopping = Atomic(false)
    private let hasEnded = DispatchSemaphore(value: 0)

    func start(_ region: SharedRegion, slot: Int) {
      Thread.detachNewThread { [self] in
        var generation: UInt32 = 2
        var version: UInt8 = 0
        while !isStopping.load(ordering: .relaxed) {
          version &+= 1
          region.store32(generation &+ 1, at: slot + 0x1fc)
          Ordering.releaseFence()
          for offset in 0..<64 { region.store8(version, at: slot + 0x200 + offset) }
          generation &+= 2
          region.store32Releasing(generation, at: slot + 0x1fc)
        }
        hasEnded.signal()
      }
    }

    func finish() {
      isStopping.store(true, ordering: .relaxed)
      hasEnded.wait()
    }
  }
}
