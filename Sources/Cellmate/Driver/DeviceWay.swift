import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A device type that is driven.
struct DeviceKind {
  /// Its number (VIRTIO 1.4, chapter 5).
  let id: UInt32
  /// What people call it, with its article.
  let name: StaticString
}

/// Why a set-up ended.
enum WayError: Error {
  /// The back-end went away in the middle: wait for it and begin again.
  case lost
  /// It will not get better.
  case failed(FaceError)
}

/// What a look at the back-end found; the same until it is acted upon.
enum WayNews {
  case nothing
  /// The configuration space changed.
  case configuration
  /// The device has to be set up again.
  case lost
}

/// Where the rings of a queue lie.
struct QueueRings: BitwiseCopyable {
  /// The number of entries; 0 where no rings are yet.
  let size: UInt16
  let table: BufferSegment
  let available: BufferSegment
  let used: BufferSegment

  /// None.
  init() {
    size = 0
    table = BufferSegment(offset: 0, count: 0)
    available = table
    used = table
  }

  /// Takes the rings out of the shared memory; `nil` when there is no room.
  init?(_ size: QueueSize, _ pools: inout SharedPools) {
    let layout = QueueLayout(size)
    guard let table = pools.allocate(layout.descriptorTable, forWriting: false),
      let available = pools.allocate(layout.availableRing, forWriting: false),
      let used = pools.allocate(layout.usedRing, forWriting: true)
    else { return nil }
    self.size = size.rawValue
    self.table = table
    self.available = available
    self.used = used
  }

  /// The queue as the device is told.
  func configuration(
    _ size: QueueSize, _ access: borrowing AccessMap, _ agreed: FeatureSet
  ) -> QueueConfiguration {
    var features = QueueFeatures()
    if agreed.contains(.indirectDescriptors) { features.insert(.indirectDescriptors) }
    if agreed.contains(.eventIndex) { features.insert(.eventIndex) }
    return QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: table.offset),
      availableRing: access.address(ofOffset: available.offset),
      usedRing: access.address(ofOffset: used.offset), features: features, maximumChainLength: 4)
  }
}

/// The way from a driver to its device: an ivshmem link in either dialect, or a vhost-user socket.
///
/// Exactly one of the three is there. They stay where they are: a value that cannot be copied can
/// only be moved out of an enumeration and back.
struct DeviceWay: ~Copyable {
  /// The shared memory the rings and buffers lie in.
  let region: SharedRegion
  private let access: AccessMap
  /// What of it is free.
  var pools: SharedPools
  private let rings: PrivateTable<QueueRings>
  private var queueArena: PrivateArena
  private(set) var agreed = FeatureSet()
  private var link: Slot<LinkWay>
  private var siemens: Slot<SiemensWay>
  private var socket: Slot<SocketWay>

  /// Bytes of private memory for the books of the queues: 32 of 1024 entries.
  private static var queueBytes: Int { 32 * DriverQueue.privateBytes(size: largestQueue) }
  private static var largestQueue: QueueSize {
    guard let size = QueueSize(1024) else { preconditionFailure("1024 is a queue size") }
    return size
  }

  /// Bytes of private memory a way over `window` and `other` needs.
  static func privateBytes(_ window: Range<Int>, _ other: Range<Int>) -> Int {
    SharedPools.privateBytes(window, other, blockSize: 512) + queueBytes + 8192
  }

  /// A native link.
  static func over(
    _ link: consuming LinkWay, _ plan: LinkPlan, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access) = (link.region, link.access)
    guard
      let pools = SharedPools.make(
        plan.driverPool, plan.placement == .output ? plan.devicePool : nil, blockSize: 512,
        arena: &arena), let queueArena = arena.split(queueBytes),
      let rings = arena.table(of: 32, initial: QueueRings())
    else { throw .noRoom }
    return DeviceWay(region, access, pools, rings, queueArena, link: Slot(link))
  }

  /// A link in the Siemens dialect.
  static func over(
    _ siemens: consuming SiemensWay, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access, window) = (siemens.region, siemens.access, siemens.window)
    guard let pools = SharedPools.make(window, nil, blockSize: 512, arena: &arena),
      let queueArena = arena.split(queueBytes),
      let rings = arena.table(of: 32, initial: QueueRings())
    else { throw .noRoom }
    return DeviceWay(region, access, pools, rings, queueArena, siemens: Slot(siemens))
  }

  /// A socket.
  static func over(
    _ socket: consuming SocketWay, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access) = (socket.region, socket.access)
    guard let pools = SharedPools.make(0..<region.count, nil, blockSize: 512, arena: &arena),
      let queueArena = arena.split(queueBytes),
      let rings = arena.table(of: 32, initial: QueueRings())
    else { throw .noRoom }
    return DeviceWay(region, access, pools, rings, queueArena, socket: Slot(socket))
  }

  @inline(never)
  private init(
    _ region: SharedRegion, _ access: AccessMap, _ pools: consuming SharedPools,
    _ rings: PrivateTable<QueueRings>, _ queueArena: consuming PrivateArena,
    link: consuming Slot<LinkWay> = Slot(),
    siemens: consuming Slot<SiemensWay> = Slot(), socket: consuming Slot<SocketWay> = Slot()
  ) {
    self.region = region
    self.access = access
    self.pools = pools
    self.rings = rings
    self.queueArena = queueArena
    self.link = link
    self.siemens = siemens
    self.socket = socket
  }

  /// Whether this is a link in the Siemens dialect.
  var isSiemens: Bool { siemens.isThere }
  /// Whether this is a native link.
  var isNative: Bool { link.isThere }

  /// How far this way is away from its device: what a look costs a call of the kernel.
  var hasCostlyLook: Bool { socket.isThere }

  /// What was counted of a native link; `nil` of others.
  var counters: LinkCounters? {
    link.isThere ? link.value.counters : nil
  }

  /// Notifications sent to the device.
  var notificationCount: UInt64 {
    if link.isThere { return link.value.counters.doorbells }
    if siemens.isThere { return siemens.value.doorbells }
    return socket.value.notificationCount
  }

  /// A descriptor that ends a sleep when it is signalled.
  var wakeDescriptor: Int32 {
    if link.isThere { return link.value.wakeDescriptor }
    if siemens.isThere { return siemens.value.wakeDescriptor }
    return socket.value.wakeDescriptor
  }

  /// The monotonic clock, in nanoseconds.
  var now: UInt64 {
    if link.isThere { return link.value.now }
    if siemens.isThere { return siemens.value.now }
    return socket.value.now
  }

  // MARK: Set-up

  /// Waits for a back-end until `deadline` (monotonic nanoseconds) and agrees on features:
  /// `wanted`, and what the transport needs.
  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    queueArena.reuse()
    let base = FeatureSet.version1.union(.accessPlatform).union(.orderPlatform)
    if link.isThere {
      agreed = try link.value.negotiate(kind, wanted: wanted.union(base), until: deadline)
    } else if siemens.isThere {
      agreed = try siemens.value.negotiate(kind, wanted: wanted.union(base), until: deadline)
    } else {
      agreed = try socket.value.negotiate(wanted: wanted.union(.version1), until: deadline)
    }
    return agreed
  }

  /// What the device offers, as soon as a back-end is there; nothing is set up. A way whose device
  /// is not running is left with ``hangUp()``.
  mutating func offered(
    _ kind: DeviceKind, isRunning: Bool, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    if link.isThere { return try link.value.offered(kind, until: deadline) }
    if siemens.isThere {
      return try siemens.value.offered(kind, isRunning: isRunning, until: deadline)
    }
    return try socket.value.offered(until: deadline)
  }

  /// Writes a word of the configuration space, after ``offered(_:isRunning:until:)``.
  mutating func writeConfiguration(_ value: UInt32, at offset: Int) throws(WayError) {
    if link.isThere { return try link.value.writeConfiguration(value, at: offset) }
    if siemens.isThere { return try siemens.value.writeConfiguration(value, at: offset) }
    try socket.value.writeConfiguration(value, at: offset)
  }

  /// Ends what ``offered(_:isRunning:until:)`` began for a device that is not running.
  mutating func hangUp() {
    if socket.isThere { socket.value.hangUp() }
  }

  /// Copies the configuration space from its start on.
  @inline(never)
  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(WayError) {
    if link.isThere { return try link.value.configuration(into: &bytes) }
    if siemens.isThere { return try siemens.value.configuration(into: &bytes) }
    try socket.value.configuration(into: &bytes)
  }

  /// Takes the memory of queue `index`, which keeps it for good; whether there was room.
  mutating func reserveQueue(_ index: Int, size: QueueSize) -> Bool {
    if rings[index].size == 0, let made = QueueRings(size, &pools) { rings[index] = made }
    return rings[index].size != 0
  }

  /// Makes queue `index` and gives it to the device; its memory is that of the one before.
  mutating func makeQueue(_ index: Int, size: QueueSize) throws(WayError) -> DriverQueue {
    guard reserveQueue(index, size: size) else { throw .failed(.noRoom) }
    let ring = rings[index]
    guard let ringSize = QueueSize(ring.size) else { throw .failed(.noRoom) }
    let configuration = ring.configuration(ringSize, access, agreed)
    if link.isThere {
      try link.value.requireRoom(index, size)
    } else {
      // The device initialises its ring on a native link. Elsewhere the driver does, and a back-end
      // of another make expects all of it to be zero.
      for part in [ring.table, ring.available, ring.used] {
        region.fill(region.ownRange(part.offset..<part.offset + part.count), with: 0)
      }
      if siemens.isThere { try siemens.value.requireRoom(index, size) }
    }
    let queue: DriverQueue
    do throws(QueueError) {
      queue = try DriverQueue(configuration, in: region, access: access, arena: &queueArena)
    } catch { preconditionFailure("the rings were allocated in our own pools") }
    if link.isThere {
      try link.value.enableQueue(index, configuration)
    } else if siemens.isThere {
      try siemens.value.enableQueue(index, configuration)
    } else {
      try socket.value.enableQueue(index, configuration)
    }
    return queue
  }

  /// Starts the device.
  mutating func start() throws(WayError) {
    if link.isThere { return try link.value.start() }
    if siemens.isThere { return try siemens.value.start() }
  }

  // MARK: At work

  /// Tells the device that a queue moved.
  mutating func notify(queue: Int) {
    if link.isThere { return link.value.notify(queue: queue) }
    if siemens.isThere { return siemens.value.notify(queue: queue) }
    socket.value.notify(queue: queue)
  }

  /// Looks at the back-end.
  @inline(never)
  mutating func look() -> WayNews {
    if link.isThere { return link.value.look() }
    if siemens.isThere { return siemens.value.look() }
    return socket.value.look()
  }

  /// Says that this side is about to sleep, with a full fence behind; then look once more.
  mutating func prepareToSleep() {
    if link.isThere { return link.value.prepareToSleep() }
    if siemens.isThere { return siemens.value.prepareToSleep() }
    // Pairs with the device's fence between its used index and its look at what was armed.
    Ordering.fullFence()
  }

  /// The last look found something.
  mutating func stayAwake() {
    if link.isThere { link.value.stayAwake() }
  }

  /// Sleeps until the device or ``wakeDescriptor`` calls, or until `deadline`.
  mutating func sleep(until deadline: UInt64) -> WaitOutcome {
    if link.isThere { return link.value.sleep(until: instant(deadline)) }
    if siemens.isThere { return siemens.value.sleep(until: instant(deadline)) }
    return socket.value.sleep(until: deadline)
  }

  /// Waits until there is a back-end again.
  mutating func waitForBackend(until deadline: UInt64) throws(FaceError) {
    if link.isThere { return try link.value.waitForBackend(until: deadline) }
    if siemens.isThere { return try siemens.value.waitForBackend(until: deadline) }
    try socket.value.waitForBackend(until: deadline)
  }

  /// Makes one register write that changes nothing and waits until the back-end has acted on it.
  mutating func touch() throws(WayError) {
    guard siemens.isThere else {
      throw .failed(
        .explained(
          Code.refused, "a register write takes no time of its own but in the Siemens dialect"))
    }
    try siemens.value.touch()
  }

  /// Leaves on purpose.
  mutating func leave() {
    if link.isThere { return link.value.leave() }
    if siemens.isThere { return siemens.value.leave() }
    socket.value.leave()
  }
}

extension FaceError {
  /// The memory of a link is used up.
  static var noRoom: FaceError {
    .explained(
      Code.memory, "the link's memory cannot hold this device's buffers; make it larger")
  }
}
