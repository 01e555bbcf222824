public import SharedMemory
public import Virtqueue

/// What an entropy driver counts; never reset.
public struct EntropyDriverCounters: Equatable, Sendable {
  /// Buffers the device has answered.
  public var completed: UInt64 = 0
  /// Bytes taken out of them.
  public var bytes: UInt64 = 0
  /// Answers without a byte, which no device may give (VIRTIO 1.4, 5.4.6.2).
  public var empty: UInt64 = 0
}

/// The entropy device, driver side (VIRTIO 1.4, 5.4): keeps buffers with the device and hands out
/// what comes back.
///
/// It knows no transport: the caller sets the device up, gives it a queue with ``attach(queue:)``
/// and carries notifications. A buffer that was with a device that went away goes to the next one.
/// How random the bytes are is the device's word alone: mix them into a pool, do not use them raw.
public struct EntropyDriver: ~Copyable {
  /// Where a buffer is, and how many bytes of it are random.
  private struct Buffer: BitwiseCopyable {
    var isWithDevice = false
    var count = 0
  }

  /// What was counted.
  public private(set) var counters = EntropyDriverCounters()
  private let region: SharedRegion
  private let memory: BufferSegment
  private let size: Int
  private let buffers: PrivateTable<Buffer>
  private var queue: PrivateStore<DriverQueue>
  /// The buffer that is being read, and how far.
  private var current = -1
  private var position = 0

  /// Prepares `depth` buffers (1 ... 1024) of equal size in `memory`, which the device may write;
  /// `nil` when `arena` cannot hold the books.
  @inline(never)
  public init?(
    depth: Int, memory: BufferSegment, region: SharedRegion, arena: inout PrivateArena
  ) {
    precondition(depth > 0 && depth <= 1024 && memory.count >= depth)
    guard let buffers = arena.table(of: depth, initial: Buffer()),
      let queue = PrivateStore<DriverQueue>(count: 1, in: &arena)
    else { return nil }
    self.region = region
    self.memory = memory
    size = memory.count / depth
    self.buffers = buffers
    self.queue = queue
  }

  /// Whether there is a queue.
  public var isAttached: Bool { queue.isOccupied(0) }

  /// Takes a fresh queue of a device that was set up; it needs one descriptor a buffer. The device
  /// is asked by ``ask()`` and ``publish()``.
  public mutating func attach(queue fresh: consuming DriverQueue) {
    precondition(fresh.freeDescriptorCount >= buffers.count)
    detachQueue()
    queue.put(fresh, at: 0)
  }

  /// Drops the queue, after the device was reset or has gone.
  public mutating func detachQueue() {
    guard isAttached else { return }
    _ = queue.remove(at: 0)
    for index in 0..<buffers.count { buffers[index].isWithDevice = false }
  }

  /// Gives every buffer that is neither with the device nor being read to the device.
  public mutating func ask() {
    guard isAttached else { return }
    let none = InlineArray<0, BufferSegment>(repeating: .empty)
    for index in 0..<buffers.count where !buffers[index].isWithDevice && index != current {
      let into: InlineArray<1, BufferSegment> = [
        memory.slice(from: index * size, count: size)
      ]
      do throws(AddError) {
        try queue[0].add(readable: none.span, writable: into.span, token: UInt32(index))
      } catch {
        // The device broke the queue; the next one is asked again.
        return
      }
      buffers[index] = Buffer(isWithDevice: true)
    }
  }

  /// Shows the device what it was asked; whether it wants to be notified.
  public mutating func publish() -> Bool { isAttached && queue[0].publish() }

  /// Copies random bytes into `destination`; returns how many there were.
  ///
  /// - Throws: what the device did wrong on the queue, which is of no use any more: reset the
  ///   device and attach a new one.
  public mutating func read(
    into destination: inout MutableSpan<UInt8>
  ) throws(QueueError) -> Int {
    var done = 0
    while done < destination.count {
      if current < 0 {
        guard try next() else { break }
      }
      let take = min(buffers[current].count - position, destination.count - done)
      let start = memory.offset + current * size + position
      var part = destination._mutatingExtracting(done..<done + take)
      region.copy(region.readRange(start..<start + take), into: &part)
      done += take
      position += take
      if position == buffers[current].count { current = -1 }
    }
    counters.bytes &+= UInt64(done)
    return done
  }

  /// Takes the next answer with a byte in it; whether there was one. Bounded by the number of
  /// buffers that are with the device.
  private mutating func next() throws(QueueError) -> Bool {
    guard isAttached else { return false }
    for _ in 0..<buffers.count {
      guard let used = try queue[0].takeUsed() else { return false }
      counters.completed &+= 1
      // The queue compared the count with what the buffer holds.
      buffers[Int(used.token)] = Buffer(count: Int(used.written))
      guard used.written > 0 else {
        counters.empty &+= 1
        continue
      }
      current = Int(used.token)
      position = 0
      return true
    }
    return false
  }

  /// Whether an answer waits to be taken.
  public var hasCompletion: Bool { isAttached && queue[0].hasPending() }

  /// Asks the device for a notification; the caller does one full fence, then looks at
  /// ``hasCompletion`` before it sleeps.
  public mutating func armNotifications() {
    if isAttached { queue[0].armNotifications() }
  }

  /// Asks the device to stay quiet while the caller looks by itself.
  public mutating func suppressNotifications() {
    if isAttached { queue[0].suppressNotifications() }
  }
}
