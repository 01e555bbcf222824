import HostResources
import SharedMemory
import VirtioBlock
import VirtioDevice
import Virtqueue

/// A small generator whose seed the tests print.
struct BlockDice {
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

/// What a device answered to one chain.
struct BlockAnswer: Equatable {
  var written: UInt32
  /// The writable bytes, the status byte last.
  var bytes: [UInt8]
  var status: UInt8? { bytes.last }
}

/// A block device over real rings in a private region, moved by hand.
@safe
struct BlockRig<Host: BlockHost & ~Copyable>: ~Copyable {
  static var total: Int { 8 << 20 }
  static var dataBase: Int { 0x40000 }
  private let memory: UnsafeMutableRawPointer
  private let books: UnsafeMutableRawPointer
  private let size: QueueSize
  private let access: AccessMap
  private var deviceArena: PrivateArena
  private var driverArena: PrivateArena
  private var generation: UInt32 = 1
  private var segments: ChainSegments
  let region: SharedRegion
  var driverBooks: PrivateArena
  var device: BlockDevice<Host>
  var queue: DeviceQueue

  static var everything: FeatureSet {
    FeatureSet.version1.union(.blockFlush).union(.blockDiscard).union(.blockWriteZeroes)
      .union(.blockConfigWriteback).union(.blockSizeMax).union(.blockSegmentMax)
  }

  init(
    _ host: consuming Host, queueSize: UInt32 = 256, slots: Int = 64,
    features: FeatureSet = Self.everything, isUnalignedSafe: Bool = true
  ) throws {
    unsafe memory = .allocate(byteCount: Self.total, alignment: 4096)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0xa5, count: Self.total)
    unsafe books = .allocate(byteCount: 1 << 20, alignment: 64)
    region = unsafe SharedRegion(
      unsafeBase: memory, count: Self.total, isUnalignedSafe: isUnalignedSafe)
    var arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
    guard let size = QueueSize(queueSize),
      let access = AccessMap(region: region, readable: 0..<Self.total, writable: 0..<Self.total),
      let segments = ChainSegments(capacity: 130, arena: &arena),
      let device = BlockDevice(
        host: host, maximumQueueSize: size, slots: slots, arena: &arena),
      var deviceArena = arena.split(64 << 10), let driverArena = arena.split(64 << 10),
      let driverBooks = arena.split(256 << 10)
    else { preconditionFailure("the books are large enough") }
    self.size = size
    self.access = access
    self.segments = segments
    self.device = device
    self.driverArena = driverArena
    self.driverBooks = driverBooks
    queue = try DeviceQueue(
      Self.configuration(size), in: region, access: access, arena: &deviceArena)
    self.deviceArena = deviceArena
    self.device.start(features: features)
  }

  private static func configuration(_ size: QueueSize) -> QueueConfiguration {
    QueueConfiguration(
      size: size, descriptorTable: 0x1000, availableRing: 0x8000, usedRing: 0xa000,
      maximumChainLength: 130)
  }

  /// A fresh driver side over the rings.
  mutating func driverQueue() throws -> DriverQueue {
    driverArena.reuse()
    return try DriverQueue(
      Self.configuration(size), in: region, access: access, arena: &driverArena)
  }

  /// The back-end dies and another one comes: rings and device are as new, the medium stays.
  mutating func restartDeviceQueue() throws {
    deviceArena.reuse()
    generation += 1
    queue = try DeviceQueue(
      Self.configuration(size), in: region, access: access, arena: &deviceArena,
      generation: generation)
  }

  /// Serves what is there and returns what is finished; whether there was anything.
  @discardableResult
  mutating func pump() throws -> Bool {
    var found = false
    while device.canServe(queue: 0), let chain = try queue.takeChain(into: &segments) {
      device.serve(chain, segments, index: 0, on: &queue, in: region)
      found = true
    }
    while let done = device.nextCompletion() {
      _ = queue.complete(done.ticket, written: done.written)
      found = true
    }
    _ = queue.publish()
    return found
  }

  func store(_ bytes: [UInt8], at offset: Int) {
    region.copy(bytes.span, into: region.ownRange(offset..<offset + bytes.count))
  }

  func load(_ offset: Int, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var span = bytes.mutableSpan
    region.copy(region.readRange(offset..<offset + count), into: &span)
    return bytes
  }

  /// Sends one chain of the given readable bytes and number of writable ones, cut at the given
  /// places into descriptors that lie apart and unaligned.
  mutating func exchange(
    _ driver: inout DriverQueue, _ readable: [UInt8], cuts: [Int], writable: Int,
    writableCuts: [Int]
  ) throws -> BlockAnswer {
    var spot = Self.dataBase
    func place(_ count: Int, _ cuts: [Int]) -> [BufferSegment] {
      var pieces: [BufferSegment] = []
      var start = 0
      for end in cuts.filter({ $0 > 0 && $0 < count }) + [count] where end > start {
        pieces.append(BufferSegment(offset: spot, count: end - start))
        spot += end - start + 37
        start = end
      }
      return pieces
    }
    let out = place(readable.count, cuts)
    let into = place(writable, writableCuts)
    var done = 0
    for piece in out {
      store(Array(readable[done..<done + piece.count]), at: piece.offset)
      done += piece.count
    }
    for piece in into { store([UInt8](repeating: 0xee, count: piece.count), at: piece.offset) }
    try driver.add(readable: out.span, writable: into.span, token: 7)
    _ = driver.publish()
    var used: UsedChain?
    for _ in 0..<5_000_000 {
      try pump()
      used = try driver.takeUsed()
      if used != nil { break }
    }
    guard let used else { preconditionFailure("the device never answered") }
    return BlockAnswer(
      written: used.written, bytes: into.flatMap { load($0.offset, $0.count) })
  }

  /// One whole request in the usual layout; `data` goes out, `room` bytes come in.
  mutating func request(
    _ driver: inout DriverQueue, _ type: UInt32, sector: UInt64 = 0, data: [UInt8] = [],
    room: Int = 0
  ) throws -> BlockAnswer {
    try exchange(
      &driver, blockHeader(type, sector) + data, cuts: [16], writable: room + 1,
      writableCuts: [room])
  }

  deinit {
    unsafe memory.deallocate()
    unsafe books.deallocate()
  }
}

/// The header of a request, written out byte by byte (VIRTIO 1.4, 5.2.6).
func blockHeader(_ type: UInt32, _ sector: UInt64) -> [UInt8] {
  littleEndian(UInt64(type), 8) + littleEndian(sector, 8)
}

/// The range of a discard or write-zeroes request.
func blockRange(_ sector: UInt64, _ sectors: UInt32, _ flags: UInt32 = 0) -> [UInt8] {
  littleEndian(sector, 8) + littleEndian(UInt64(sectors), 4) + littleEndian(UInt64(flags), 4)
}

func littleEndian(_ value: UInt64, _ width: Int) -> [UInt8] {
  (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
}
