import CBench
import SharedMemory
import Virtqueue

/// The measured driver: adds chains of the shape that `vring_ref` adds, and reaps them.
struct DriverSide: ~Copyable {
  var queue: DriverQueue
  /// Numbers of the chain buffers that are free, as a stack.
  private let free: PrivateTable<UInt32>
  private var freeCount: Int
  private let shape: Shape
  private let stride: Int
  private let payload: Int
  private let isAsking: Bool

  private enum Shape { case one, two, many(Int) }

  static func stride(_ options: BenchOptions) -> Int { (options.payload + 64 + 64 + 63) & ~63 }

  init(_ queue: consuming DriverQueue, _ free: PrivateTable<UInt32>, _ options: BenchOptions) {
    self.queue = queue
    self.free = free
    freeCount = free.count
    for index in 0..<free.count { free[index] = UInt32(free.count - 1 - index) }
    switch options.descriptors {
    case 1: shape = .one
    case 2: shape = .two
    default: shape = .many(options.descriptors)
    }
    stride = Self.stride(options)
    payload = options.payload
    isAsking = options.isAsking
  }

  var hasRoom: Bool { freeCount > 0 }

  @inline(__always)
  mutating func add() {
    freeCount &-= 1
    let token = free[freeCount]
    let start = (1 << 20) &+ Int(token) &* stride
    do throws(AddError) {
      switch shape {
      case .one:
        try queue.add(
          [BufferSegment(offset: start, count: payload)], readableCount: 1, token: token)
      case .two:
        try queue.add(
          [
            BufferSegment(offset: start, count: payload),
            BufferSegment(offset: start &+ ((payload &+ 63) & ~63), count: payload),
          ], readableCount: 1, token: token)
      case .many(3):
        try queue.add(
          [
            BufferSegment(offset: start, count: 16),
            BufferSegment(offset: start &+ 64, count: max(payload & ~7, 1)),
            BufferSegment(offset: start &+ 64 &+ payload, count: 1),
          ], readableCount: 1, token: token)
      case .many(let count): try addMany(count, start, token)
      }
    } catch { cb_exit(1) }
  }

  /// Header, data in equal parts, status.
  private mutating func addMany(
    _ count: Int, _ start: Int, _ token: UInt32
  ) throws(AddError) {
    let part = (payload / (count &- 2)) & ~7
    var buffers = InlineArray<8, BufferSegment>(repeating: .empty)
    buffers[0] = BufferSegment(offset: start, count: 16)
    for position in 1..<count &- 1 {
      buffers[position] = BufferSegment(
        offset: start &+ 64 &+ (position &- 1) &* part, count: max(part, 1))
    }
    buffers[count &- 1] = BufferSegment(offset: start &+ 64 &+ payload, count: 1)
    let span = buffers.span
    try queue.add(
      readable: span.extracting(0..<1), writable: span.extracting(1..<count), token: token)
  }

  mutating func publish(bell: Int32) {
    if isAsking {
      if queue.publish() { cb_signal(bell) }
    } else {
      queue.publishQuietly()
    }
  }

  /// Takes everything the device has used.
  mutating func reap() -> Int {
    var count = 0
    do throws(QueueError) {
      while let used = try queue.takeUsed() {
        free[freeCount] = used.token
        freeCount &+= 1
        count &+= 1
      }
    } catch { cb_exit(1) }
    return count
  }
}
