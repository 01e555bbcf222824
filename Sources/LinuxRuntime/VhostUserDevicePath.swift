import CLinux
import CommandOptions
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioDevice
import Virtqueue

/// A device behind a vhost-user socket.
///
/// The socket itself says nothing about the device's type, and nobody announces that its
/// configuration changed: it is read at the start.
struct VhostUserDevicePath: DevicePath, ~Copyable {
  private let path: String
  /// How long one answer may take.
  private let patience: UInt64
  private let memory: DriverMemory
  private let wake: Descriptor
  private var connection: VhostUserFrontend?
  private var pool: BufferPool
  private var rings = [QueueRings?](repeating: nil, count: DeviceLimits.queues)
  private var queues: [Int] = []
  private var queueArena: PrivateArena
  private var agreed = FeatureSet()
  /// Kicks on the connections before this one.
  private var kicksBefore: UInt64 = 0
  private var entries = [cl_poll_entry](
    repeating: cl_poll_entry(), count: DeviceLimits.queues + 2)

  /// Prepares `memoryBytes` for rings and buffers.
  ///
  /// - Parameter patience: how long one answer may take, in nanoseconds.
  static func open(
    path: String, memoryBytes: Int, patience: UInt64
  ) throws(ClientError) -> VhostUserDevicePath {
    var arena = PrivateMemory.arena(1 << 20)
    do throws(VhostUserFrontendError) {
      let memory = try DriverMemory.make((memoryBytes + 0xfffff) & ~0xfffff, arena: &arena)
      return VhostUserDevicePath(path, patience, memory, try makeWakeEvent(), &arena)
    } catch { throw .failed("--vhost-user \(path): \(error.text)") }
  }

  private init(
    _ path: String, _ patience: UInt64, _ memory: consuming DriverMemory,
    _ wake: consuming Descriptor, _ arena: inout PrivateArena
  ) {
    let count = memory.region.count
    guard let pool = BufferPool(window: 0..<count, blockSize: 4096, arena: &arena) else {
      preconditionFailure("1 MiB holds the books")
    }
    self.path = path
    self.patience = patience
    self.memory = memory
    self.wake = wake
    self.pool = pool
    queueArena = PrivateMemory.arena(1 << 20)
  }

  var region: SharedRegion { memory.region }
  var notificationCount: UInt64 {
    switch connection {
    case .some(let connection): kicksBefore + connection.kicks
    case nil: kicksBefore
    }
  }
  var wakeDescriptor: Int32 { wake.number }

  private var socketNumber: Int32 {
    switch connection {
    case .some(let connection): connection.descriptor
    case nil: -1
    }
  }

  private func callNumber(_ queue: Int) -> Int32 {
    switch connection {
    case .some(let connection): connection.callDescriptor(queue)
    case nil: -1
    }
  }

  mutating func allocate(_ count: Int, _ use: BufferUse) -> BufferSegment? { pool.allocate(count) }
  mutating func free(_ segment: BufferSegment, _ use: BufferUse) { pool.free(segment) }

  private func failed(_ error: VhostUserFrontendError) -> PathError {
    // A back-end that dies in the middle.
    if case .message(.closed) = error { return .lost }
    return .failed(.failed("--vhost-user \(path): \(error.text)"))
  }

  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(PathError) -> FeatureSet {
    queueArena.reuse()
    queues = []
    do throws(VhostUserFrontendError) {
      if connection == nil {
        connection = try VhostUserFrontend.connect(path: path, patience: patience)
      }
      agreed = try connection!.negotiate(
        wanted: wanted.union(.version1).union(.eventIndex), memory: memory)
      return agreed
    } catch {
      guard case .connect = error else { throw failed(error) }
      throw .failed(.usage(UsageError("--vhost-user \(path): \(error.text)")))
    }
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(PathError) {
    guard connection != nil else { throw .lost }
    do throws(VhostUserFrontendError) {
      try connection!.configuration(into: &bytes)
    } catch { throw failed(error) }
  }

  mutating func makeQueue(_ index: Int, size: QueueSize) throws(PathError) -> DriverQueue {
    guard connection != nil else { throw .lost }
    if rings[index] == nil { rings[index] = QueueRings(size) { allocate($0, $1) } }
    let access = memory.access
    guard let rings = rings[index] else { throw .failed(.noRoom) }
    let ring = rings.configuration(access, agreed)
    // The device initialises its ring on a link; here it lies in the driver's memory.
    memory.region.store32(0, at: rings.used.offset)
    do throws(VhostUserFrontendError) {
      let queue: DriverQueue
      do throws(QueueError) {
        queue = try DriverQueue(ring, in: memory.region, access: access, arena: &queueArena)
      } catch { throw .queue(error) }
      try connection!.enableQueue(index, ring)
      queues.append(index)
      return queue
    } catch { throw failed(error) }
  }

  mutating func start() throws(PathError) {}

  mutating func notify(queue: Int) {
    guard connection != nil else { return }
    connection!.kick(queue)
  }

  mutating func look() -> PathNews {
    guard connection != nil else { return .lost }
    var entry = cl_poll_entry(fd: socketNumber, events: Int16(CL_POLL_IN), revents: 0)
    // Nothing was asked, so that anything to read is the end of the connection.
    guard unsafe cl_poll_ns(&entry, 1, 0) > 0 else { return .nothing }
    kicksBefore = notificationCount
    connection = nil
    return .lost
  }

  mutating func prepareToSleep() {
    // Pairs with the device's fence between its used index and its look at what was armed.
    Ordering.fullFence()
  }
  mutating func stayAwake() {}

  mutating func sleep(until deadline: UInt64?) -> PathWait {
    entries[0] = cl_poll_entry(fd: socketNumber, events: Int16(CL_POLL_IN), revents: 0)
    entries[1] = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
    for (place, queue) in queues.enumerated() {
      entries[2 + place] = cl_poll_entry(
        fd: callNumber(queue), events: Int16(CL_POLL_IN), revents: 0)
    }
    let count = UInt32(2 + queues.count)
    let now = cl_monotonic_ns()
    let timeout = deadline.map { Int64($0 - min($0, now)) } ?? -1
    let result = unsafe entries.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_poll_ns(base, count, timeout)
    }
    if result < 0 { return .interrupted }
    if entries[1].revents != 0 { cl_event_take(wake.number) }
    for place in queues.indices where entries[2 + place].revents != 0 {
      cl_event_take(entries[2 + place].fd)
    }
    return .event
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    while true {
      do throws(VhostUserFrontendError) {
        connection = try VhostUserFrontend.connect(path: path, patience: patience)
        return
      } catch {
        guard cl_monotonic_ns() < deadline else {
          throw .failed("--vhost-user \(path): the back-end did not come back: \(error.text)")
        }
      }
      // Nothing announces a socket that is not there yet: look again, soon.
      var entry = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
      if unsafe cl_poll_ns(&entry, 1, 2_000_000) > 0 { cl_event_take(wake.number) }
      if cl_stop_requested() != 0 { throw .interrupted }
    }
  }

  mutating func leave() {
    guard connection != nil else { return }
    for queue in queues { _ = try? connection!.stopQueue(queue) }
  }
}
