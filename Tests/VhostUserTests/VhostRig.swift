import CLinux
import Foundation
import Glibc
import HostResources
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

typealias TestHost = FaultyBlockHost<MemoryBlockHost>

/// A device and the memory of a driver, moved by hand: messages in, rings by our driver side.
@safe
struct VhostRig: ~Copyable {
  let memory: DriverMemory
  var device: VhostUserDevice<BlockDevice<TestHost>>
  var message = VhostUserMessage()
  var reply = VhostUserMessage()
  var books: PrivateArena
  private let epoll: Descriptor

  static var memoryBytes: Int { 4 << 20 }
  static var protocolFeatures: UInt64 { ProtocolFeatures.all.rawValue }

  static func make(
    queues: Int = 2, plan: TestHost.Plan = TestHost.Plan()
  ) throws -> VhostRig {
    var books = arena(1 << 20)
    let memory = try DriverMemory.make(Self.memoryBytes, arena: &books)
    return try VhostRig(memory, try makeEpoll(), books, queues, plan)
  }

  private static func makeEpoll() throws -> Descriptor { try Descriptor(cl_epoll()) }

  /// A test's memory is small and lives as long as its process.
  private static func arena(_ count: Int) -> PrivateArena {
    let block = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    return unsafe PrivateArena(unsafeBase: block, count: count)
  }

  private init(
    _ memory: consuming DriverMemory, _ epoll: consuming Descriptor,
    _ books: consuming PrivateArena, _ queues: Int, _ plan: TestHost.Plan
  ) throws {
    var books = books
    device = try Self.device(epoll.number, &books, queues, plan)
    self.memory = memory
    self.epoll = epoll
    self.books = books
    device.begin()
  }

  static func device(
    _ epoll: Int32, _ books: inout PrivateArena, _ queues: Int, _ plan: TestHost.Plan
  ) throws -> VhostUserDevice<BlockDevice<TestHost>> {
    guard let size = QueueSize(64) else { preconditionFailure("64 is a size") }
    let host = TestHost(MemoryBlockHost(byteCount: 1 << 20), plan: plan)
    guard
      let block = BlockDevice(
        host: host, queueCount: queues, maximumQueueSize: size, slots: 128, arena: &books)
    else { preconditionFailure("the books hold a device") }
    var own = arena(
      VhostUserDevice<BlockDevice<TestHost>>.privateBytes(queues: queues, size: 64))
    return try VhostUserDevice.make(block, epoll: epoll, arena: &own)
  }

  /// The process of the back-end dies with whatever it had in flight, and another one comes.
  mutating func replaceDevice(plan: TestHost.Plan = TestHost.Plan()) throws {
    device = try Self.device(epoll.number, &books, 2, plan)
    device.begin()
  }

  // MARK: Messages

  /// Gives the device a message whose payload is 32-bit words.
  @discardableResult
  mutating func send(
    _ request: VhostUserRequest, _ words: [UInt32] = [], descriptors: [Int32] = []
  ) throws -> VhostUserHandling {
    try send(raw: request.rawValue, payload(words), descriptors: descriptors)
  }

  @discardableResult
  mutating func send(
    raw request: UInt32, _ payload: [UInt8], flags: UInt32 = 1, descriptors: [Int32] = []
  ) throws -> VhostUserHandling {
    message.fill(request: request, flags: flags, payload: payload, descriptors: descriptors)
    return try device.handle(&message, reply: &reply)
  }

  /// The reply's payload, once a message was answered.
  func replyWord(_ offset: Int) -> UInt64 { reply.payloadWord(offset) }

  /// Agrees on everything and hands the memory over as one region.
  mutating func negotiate(features: UInt64? = nil) throws {
    try send(.getFeatures)
    let offered = replyWord(0)
    try send(.setProtocolFeatures, split(Self.protocolFeatures))
    try send(.setOwner)
    try send(.setFeatures, split(features ?? offered))
    try giveMemory()
  }

  /// Words of one region of a memory table.
  static func region(
    guest: UInt64 = DriverMemory.guestBase, size: UInt64 = UInt64(memoryBytes),
    user: UInt64 = DriverMemory.userBase, offset: UInt64 = 0
  ) -> [UInt32] { split(guest) + split(size) + split(user) + split(offset) }

  mutating func giveMemory() throws {
    try send(
      .setMemoryTable, [1, 0] + Self.region(), descriptors: [try duplicate(memory.descriptor)])
  }

  /// Where the rings of queue `index` lie in the memory.
  static func ringOffset(_ index: Int) -> Int { index * 0x4000 }

  static func configuration(_ index: Int, size: UInt32 = 64) -> QueueConfiguration {
    let base = DriverMemory.guestBase + UInt64(ringOffset(index))
    guard let size = QueueSize(size) else { preconditionFailure("a size") }
    return QueueConfiguration(
      size: size, descriptorTable: base, availableRing: base + 0x1000, usedRing: base + 0x2000,
      features: .indirectDescriptors | .eventIndex, maximumChainLength: 8)
  }

  /// Tells the device about queue `index`; the driver side has to be made before.
  mutating func enable(_ index: Int, base: UInt16 = 0) throws {
    let number = UInt32(index)
    let ring = DriverMemory.userBase + UInt64(Self.ringOffset(index))
    try send(.setVringSize, [number, 64])
    try send(.setVringBase, [number, UInt32(base)])
    try send(
      .setVringAddresses,
      [number, 0] + split(ring) + split(ring + 0x2000) + split(ring + 0x1000) + split(0))
    try send(.setVringCall, [number, 0], descriptors: [try event()])
    try send(.setVringKick, [number, 0], descriptors: [try event()])
    try send(.setVringEnable, [number, 1])
  }

  /// A fresh driver side of queue `index`.
  mutating func driverQueue(_ index: Int) throws -> DriverQueue {
    try DriverQueue(
      Self.configuration(index), in: memory.region, access: memory.access, arena: &books)
  }

  /// Steps until nothing moves.
  mutating func run() throws {
    for _ in 0..<10_000 where try !device.step() { return }
  }
}

func split(_ value: UInt64) -> [UInt32] {
  [UInt32(truncatingIfNeeded: value), UInt32(truncatingIfNeeded: value >> 32)]
}

func payload(_ words: [UInt32]) -> [UInt8] {
  words.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(8 * $0)) } }
}

func duplicate(_ number: Int32) throws -> Int32 { try Descriptor(cl_duplicate(number)).release() }

func event() throws -> Int32 { try Descriptor(cl_eventfd()).release() }

/// Descriptors this process has open on the same file as `number`: other tests run beside, so that
/// the number of all descriptors says nothing.
func openCount(_ number: Int32) -> Int {
  func file(_ number: Int32) -> UInt? {
    var facts = stat()
    return unsafe fstat(number, &facts) == 0 ? UInt(facts.st_ino) : nil
  }
  guard let own = file(number) else { return 0 }
  let all = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")) ?? []
  return all.count { name in Int32(name).flatMap(file) == own }
}

/// A small generator whose seed the tests print.
struct VhostDice {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (state ^ state >> 31) >> 7
  }
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
  mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }
}
