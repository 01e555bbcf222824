import SharedMemory
import Virtqueue

/// One ring in a private region with both of its sides; guards around it show stray stores.
struct Rig: ~Copyable {
  static let ringBase = 0x1000
  static let dataBase = 0x10000
  static let total = 0x20000
  let region: SharedRegion
  var arena: PrivateArena
  let size: QueueSize
  let configuration: QueueConfiguration
  let access: AccessMap

  init(size raw: UInt32, features: QueueFeatures, chain: Int = 16) {
    let base = UnsafeMutableRawPointer.allocate(byteCount: Self.total, alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0xa5, count: Self.total)
    region = unsafe SharedRegion(unsafeBase: base, count: Self.total)
    let books = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
    guard let size = QueueSize(raw),
      let access = AccessMap(
        region: region, readable: Self.ringBase..<Self.total - 0x1000,
        writable: Self.ringBase..<Self.total - 0x1000)
    else { preconditionFailure("the rig is sound") }
    self.size = size
    self.access = access
    configuration = QueueConfiguration(
      size: size, descriptorTable: UInt64(Self.ringBase),
      availableRing: UInt64(Self.ringBase + 0x4000), usedRing: UInt64(Self.ringBase + 0x6000),
      features: features, maximumChainLength: chain)
  }

  /// Fresh memory and books, as after `init`; no queue of before may be used.
  mutating func startOver() {
    region.fill(region.ownRange(0..<Self.total), with: 0xa5)
    arena.reuse()
  }

  mutating func device() throws -> DeviceQueue {
    try DeviceQueue(configuration, in: region, access: access, arena: &arena)
  }

  mutating func driver(indirect: Bool = false) throws -> DriverQueue {
    let tables = indirect ? BufferSegment(offset: 0xb000, count: 0x4000) : nil
    return try DriverQueue(
      configuration, in: region, access: access, arena: &arena, indirectTables: tables)
  }

  mutating func segments(_ capacity: Int = 16) -> ChainSegments {
    guard let segments = ChainSegments(capacity: capacity, arena: &arena) else {
      preconditionFailure("the arena is large enough")
    }
    return segments
  }

  /// Whether the pages before and behind the windows are as they were.
  var guardsAreWhole: Bool {
    for offset in stride(from: 0, to: Self.ringBase, by: 8)
    where region.load64(offset) != 0xa5a5_a5a5_a5a5_a5a5 {
      return false
    }
    for offset in stride(from: Self.total - 0x1000, to: Self.total, by: 8)
    where region.load64(offset) != 0xa5a5_a5a5_a5a5_a5a5 {
      return false
    }
    return true
  }
}

/// A small generator whose seed the tests print.
struct Dice {
  var state: UInt64
  mutating func next() -> UInt64 {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return (state ^ state >> 31) >> 7
  }
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }
}
