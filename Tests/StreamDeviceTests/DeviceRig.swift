import SharedMemory
import VirtioDevice
import Virtqueue

/// A small generator whose seed the tests print.
struct Dice {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (state ^ state >> 31) >> 7
  }
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
  mutating func bytes(_ count: Int) -> [UInt8] {
    (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
  }
}

/// Zeroed or poisoned memory that lives as long as somebody refers to it.
@safe
final class RigMemory {
  let base: UnsafeMutableRawPointer

  init(_ count: Int, alignment: Int, filledWith byte: UInt8) {
    unsafe base = .allocate(byteCount: count, alignment: alignment)
    unsafe base.initializeMemory(as: UInt8.self, repeating: byte, count: count)
  }

  deinit { unsafe base.deallocate() }
}

/// A device with all its queues over real rings in a private region, moved by hand: what the drain
/// loop does, without a link.
@safe
struct DeviceRig<Device: DeviceModel & ~Copyable>: ~Copyable {
  static var ringStride: Int { 0x4000 }
  static var dataBase: Int { 0x100000 }
  static var total: Int { 4 << 20 }
  static var bookTotal: Int { 3 << 20 }
  private let size: QueueSize
  private let access: AccessMap
  private var arena: PrivateArena
  private var segments: ChainSegments
  private var generation: UInt32 = 0
  private var queues: PrivateStore<DeviceQueue>
  private var arenas: PrivateStore<PrivateArena>
  private var driverArenas: PrivateStore<PrivateArena>
  let region: SharedRegion
  /// For the books of a driver under test.
  var driverBooks: PrivateArena
  var device: Device
  // The last fields: a value's fields end in the order they are declared in, and the stores above
  // look into the books when they end.
  private let memory: RigMemory
  private let books: RigMemory
  private let kept: RigMemory?

  /// Takes a device over, and the memory its own books lie in.
  init(
    _ device: consuming Device, keeping kept: RigMemory? = nil, queueSize: UInt32 = 64
  ) throws {
    self.kept = kept
    memory = RigMemory(Self.total, alignment: 4096, filledWith: 0xa5)
    books = RigMemory(Self.bookTotal, alignment: 64, filledWith: 0)
    region = unsafe SharedRegion(unsafeBase: memory.base, count: Self.total, isUnalignedSafe: true)
    var arena = unsafe PrivateArena(unsafeBase: books.base, count: Self.bookTotal)
    let count = device.queueCount
    guard let size = QueueSize(queueSize),
      let access = AccessMap(region: region, readable: 0..<Self.total, writable: 0..<Self.total),
      let segments = ChainSegments(capacity: device.maximumChainLength, arena: &arena),
      let queues = PrivateStore<DeviceQueue>(count: count, in: &arena),
      var arenas = PrivateStore<PrivateArena>(count: count, in: &arena),
      var driverArenas = PrivateStore<PrivateArena>(count: count, in: &arena),
      let driverBooks = arena.split(1 << 20)
    else { preconditionFailure("the books are large enough") }
    for index in 0..<count {
      guard let one = arena.split(16 << 10), let other = arena.split(16 << 10) else {
        preconditionFailure("the books are large enough")
      }
      arenas.put(one, at: index)
      driverArenas.put(other, at: index)
    }
    self.size = size
    self.access = access
    self.segments = segments
    self.queues = queues
    self.arenas = arenas
    self.driverArenas = driverArenas
    self.driverBooks = driverBooks
    self.arena = arena
    self.device = device
  }

  private func configuration(_ queue: Int) -> QueueConfiguration {
    let start = UInt64(0x1000 + queue * Self.ringStride)
    return QueueConfiguration(
      size: size, descriptorTable: start, availableRing: start + 0x1000,
      usedRing: start + 0x2000, maximumChainLength: device.maximumChainLength)
  }

  /// The driver's side of a queue, made before the device's side sees it.
  mutating func enable(_ queue: Int) throws -> DriverQueue {
    driverArenas[queue].reuse()
    let driver = try DriverQueue(
      configuration(queue), in: region, access: access, arena: &driverArenas[queue])
    if queues.isOccupied(queue) { _ = queues.remove(at: queue) }
    arenas[queue].reuse()
    generation += 1
    queues.put(
      try DeviceQueue(
        configuration(queue), in: region, access: access, arena: &arenas[queue],
        generation: generation), at: queue)
    return driver
  }

  /// The driver resets the device: its queues are gone.
  mutating func reset() {
    for queue in 0..<queues.count where queues.isOccupied(queue) { _ = queues.remove(at: queue) }
    device.stop()
  }

  /// One look of the drain loop; whether anything moved.
  @discardableResult
  mutating func pump() throws -> Bool {
    var found = false
    // Bounded, as the drain loop is.
    for _ in 0..<64 {
      guard let done = device.nextCompletion() else { break }
      found = true
      guard queues.isOccupied(done.queue) else { continue }
      _ = queues[done.queue].complete(done.ticket, written: done.written)
    }
    for index in 0..<queues.count where queues.isOccupied(index) {
      while device.canServe(queue: index) {
        guard let chain = try queues[index].takeChain(into: &segments) else { break }
        device.serve(chain, segments, index: index, on: &queues[index], in: region)
        found = true
      }
      _ = queues[index].publish()
    }
    return found
  }

  /// Looks until nothing moves any more.
  mutating func settle() throws {
    for _ in 0..<1000 {
      guard try pump() else { return }
    }
    preconditionFailure("the device never comes to rest")
  }

  /// Chains of a queue that the device has returned, as its ring says.
  func taken(queue: Int) -> UInt16 {
    region.load16(0x1000 + queue * Self.ringStride + 0x2000 + 2)
  }

  /// Chains of a queue that the device holds.
  func heldCount(_ queue: Int) -> Int { queues[queue].inFlightCount }

  func store(_ bytes: [UInt8], at offset: Int) {
    region.copy(bytes.span, into: region.ownRange(offset..<offset + bytes.count))
  }

  func load(_ offset: Int, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    region.copy(region.readRange(offset..<offset + count), into: &span)
    return bytes
  }
}
