import CLinux
import CommandOptions
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

/// A block device behind a vhost-user socket, for instance of qemu-storage-daemon.
struct VhostUserBlockPath: BlockPath, ~Copyable {
  private let path: String
  private let size: QueueSize
  private let memory: DriverMemory
  private let wake: Descriptor
  private var connection: VhostUserFrontend
  private var driver: BlockDriver
  private var pool: BufferPool
  private let rings: InlineArray<3, BufferSegment>
  private var queueArena: PrivateArena
  private(set) var features = FeatureSet()
  /// Kicks on the connections before this one.
  private var kicksBefore: UInt64 = 0

  /// How long one answer may take.
  private static var patience: UInt64 { 5_000_000_000 }

  /// Connects; `chunk` bytes is the largest request.
  static func open(path: String, depth: Int, chunk: Int) throws(ClientError) -> VhostUserBlockPath {
    let memoryBytes = ((2 * depth * (chunk + 1024) + (1 << 20)) + 0xfffff) & ~0xfffff
    var arena = PrivateMemory.arena(8 << 20)
    do throws(VhostUserFrontendError) {
      let connection = try VhostUserFrontend.connect(path: path, patience: patience)
      let memory = try DriverMemory.make(memoryBytes, arena: &arena)
      let wake = try makeWakeEvent()
      return VhostUserBlockPath(path, depth, connection, memory, wake, &arena)
    } catch {
      let text = "--vhost-user \(path): \(error.text)"
      if case .connect = error { throw .usage(UsageError(text)) }
      throw .failed(text)
    }
  }

  private init(
    _ path: String, _ depth: Int, _ connection: consuming VhostUserFrontend,
    _ memory: consuming DriverMemory, _ wake: consuming Descriptor,
    _ arena: inout PrivateArena
  ) {
    let region = memory.region
    guard let size = QueueSize(UInt32(depth * 4)),
      var pool = BufferPool(window: 0..<region.count, blockSize: 512, arena: &arena),
      let table = pool.allocate(QueueLayout(size).descriptorTable),
      let available = pool.allocate(QueueLayout(size).availableRing),
      let used = pool.allocate(QueueLayout(size).usedRing),
      let headers = pool.allocate(BlockDriver.headerBytes(depth: depth)),
      let statuses = pool.allocate(BlockDriver.statusBytes(depth: depth)),
      let driver = BlockDriver(
        depth: depth, headers: headers, statuses: statuses, region: region, arena: &arena),
      let queueArena = arena.split(DriverQueue.privateBytes(size: size))
    else { preconditionFailure("memory was sized for this depth") }
    self.path = path
    self.size = size
    self.memory = memory
    self.wake = wake
    self.driver = driver
    self.pool = pool
    rings = [table, available, used]
    self.queueArena = queueArena
    self.connection = connection
  }

  var configuration: BlockConfiguration { driver.configuration }
  var region: SharedRegion { memory.region }
  var notificationCount: UInt64 { kicksBefore + connection.kicks }
  var resubmittedCount: UInt64 { driver.counters.resubmitted }
  var hasCompletion: Bool { driver.hasCompletion }
  var wakeDescriptor: Int32 { wake.number }

  mutating func allocateForReading(_ count: Int) -> BufferSegment? { pool.allocate(count) }
  mutating func allocateForWriting(_ count: Int) -> BufferSegment? { pool.allocate(count) }

  private static var wanted: FeatureSet {
    FeatureSet.version1.union(.indirectDescriptors).union(.eventIndex).union(.blockSizeMax)
      .union(.blockSegmentMax).union(.blockReadOnly).union(.blockBlockSize).union(.blockFlush)
      .union(.blockTopology).union(.blockConfigWriteback).union(.blockMultiQueue)
      .union(.blockDiscard).union(.blockWriteZeroes)
  }

  mutating func connect(until deadline: UInt64) throws(ClientError) {
    do throws(VhostUserFrontendError) {
      try setUp()
    } catch { throw .failed("--vhost-user \(path): \(error.text)") }
  }

  private mutating func setUp() throws(VhostUserFrontendError) {
    features = try connection.negotiate(wanted: Self.wanted, memory: memory)
    var bytes = InlineArray<64, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    var part = span._mutatingExtracting(0..<BlockConfiguration.size)
    try connection.configuration(into: &part)
    var ringFeatures = QueueFeatures()
    if features.contains(.indirectDescriptors) { ringFeatures.insert(.indirectDescriptors) }
    if features.contains(.eventIndex) { ringFeatures.insert(.eventIndex) }
    let access = memory.access
    let ring = QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: rings[0].offset),
      availableRing: access.address(ofOffset: rings[1].offset),
      usedRing: access.address(ofOffset: rings[2].offset), features: ringFeatures,
      maximumChainLength: 4)
    queueArena.reuse()
    // The device initialises its ring on a link; here the driver's memory starts as zeroes, but
    // not after a restart of the back-end.
    memory.region.store32(0, at: rings[2].offset)
    let queue: DriverQueue
    do throws(QueueError) {
      queue = try DriverQueue(ring, in: memory.region, access: access, arena: &queueArena)
    } catch { throw .queue(error) }
    try connection.enableQueue(0, ring)
    do throws(BlockDriverError) {
      try driver.attach(
        queue: queue, configuration: BlockConfiguration(bytes.span), features: features)
    } catch { preconditionFailure("the ring holds every request: \(error)") }
    publish()
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    driver.detachQueue()
    kicksBefore += connection.kicks
    while true {
      do throws(VhostUserFrontendError) {
        connection = try VhostUserFrontend.connect(path: path, patience: Self.patience)
        return
      } catch {
        guard cl_monotonic_ns() < deadline else {
          throw .failed("--vhost-user \(path): the back-end did not come back: \(error.text)")
        }
      }
      // Nothing announces a socket that is not there yet: look again, soon.
      var entry = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, 2_000_000)
      if cl_stop_requested() != 0 { throw .interrupted }
    }
  }

  mutating func submit(
    _ type: BlockRequestType, sector: UInt64, data: BufferSegment, token: UInt32
  ) throws(ClientError) {
    do throws(BlockDriverError) {
      switch type {
      case .read: try driver.read(sector: sector, into: data, token: token)
      case .write: try driver.write(sector: sector, from: data, token: token)
      case .flush: try driver.flush(token: token)
      case .getID: try driver.getID(into: data, token: token)
      case .discard, .writeZeroes: preconditionFailure("no tool asks for \(type)")
      }
    } catch { throw .failed("submitting a request: \(error)") }
  }

  mutating func publish() {
    if driver.publish() { connection.kick(0) }
  }

  mutating func nextCompletion() throws(ClientError) -> PathCompletion? {
    do throws(QueueError) {
      guard let done = try driver.nextCompletion() else { return nil }
      return PathCompletion(token: done.token, status: done.status, data: done.data)
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  mutating func isLost() -> Bool {
    var entry = cl_poll_entry(fd: connection.descriptor, events: Int16(CL_POLL_IN), revents: 0)
    // Nothing was asked, so that anything to read is the end of the connection.
    return unsafe cl_poll_ns(&entry, 1, 0) > 0
  }

  mutating func sleep() -> PathWait {
    driver.armNotifications()
    // Pairs with the device's fence between its used index and its look at what was armed.
    Ordering.fullFence()
    if driver.hasCompletion {
      driver.suppressNotifications()
      return .event
    }
    var entries: InlineArray<3, cl_poll_entry> = [
      cl_poll_entry(fd: connection.callDescriptor(0), events: Int16(CL_POLL_IN), revents: 0),
      cl_poll_entry(fd: connection.descriptor, events: Int16(CL_POLL_IN), revents: 0),
      cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0),
    ]
    var span = entries.mutableSpan
    let result = unsafe span.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_poll_ns(base, 3, -1)
    }
    driver.suppressNotifications()
    if entries[0].revents != 0 { cl_event_take(connection.callDescriptor(0)) }
    return result < 0 || entries[2].revents != 0 ? .interrupted : .event
  }

  mutating func leave() { _ = try? connection.stopQueue(0) }
}

/// The event that ends a wait of a front-end without a link.
func makeWakeEvent() throws(VhostUserFrontendError) -> Descriptor {
  do throws(SystemError) {
    return try Descriptor(cl_eventfd())
  } catch { throw .system(error) }
}
