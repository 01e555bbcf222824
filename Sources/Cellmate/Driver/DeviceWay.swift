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
struct QueueRings {
  let size: QueueSize
  let table: BufferSegment
  let available: BufferSegment
  let used: BufferSegment

  /// Takes the rings out of the shared memory; `nil` when there is no room.
  init?(_ size: QueueSize, _ pools: inout SharedPools) {
    let layout = QueueLayout(size)
    guard let table = pools.allocate(layout.descriptorTable, forWriting: false),
      let available = pools.allocate(layout.availableRing, forWriting: false),
      let used = pools.allocate(layout.usedRing, forWriting: true)
    else { return nil }
    self.size = size
    self.table = table
    self.available = available
    self.used = used
  }

  /// The queue as the device is told.
  func configuration(_ access: borrowing AccessMap, _ agreed: FeatureSet) -> QueueConfiguration {
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
  private var rings = InlineArray<32, QueueRings?>(repeating: nil)
  private var queueArena: PrivateArena
  private(set) var agreed = FeatureSet()
  private var link: LinkWay?
  private var siemens: SiemensWay?
  private var socket: SocketWay?

  /// Bytes of private memory for the books of the queues: 32 of 1024 entries.
  private static var queueBytes: Int { 32 * DriverQueue.privateBytes(size: largestQueue) }
  private static var largestQueue: QueueSize {
    guard let size = QueueSize(1024) else { preconditionFailure("1024 is a queue size") }
    return size
  }

  /// Bytes of private memory a way over `window` and `other` needs.
  static func privateBytes(_ window: Range<Int>, _ other: Range<Int>) -> Int {
    SharedPools.privateBytes(window, other, blockSize: 512) + queueBytes + 4096
  }

  /// A native link.
  static func over(
    _ link: consuming LinkWay, _ plan: LinkPlan, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access) = (link.region, link.access)
    guard
      let pools = SharedPools.make(
        plan.driverPool, plan.placement == .output ? plan.devicePool : nil, blockSize: 512,
        arena: &arena), let queueArena = arena.split(queueBytes)
    else { throw .noRoom }
    return DeviceWay(region, access, pools, queueArena, link: link)
  }

  /// A link in the Siemens dialect.
  static func over(
    _ siemens: consuming SiemensWay, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access, window) = (siemens.region, siemens.access, siemens.window)
    guard let pools = SharedPools.make(window, nil, blockSize: 512, arena: &arena),
      let queueArena = arena.split(queueBytes)
    else { throw .noRoom }
    return DeviceWay(region, access, pools, queueArena, siemens: siemens)
  }

  /// A socket.
  static func over(
    _ socket: consuming SocketWay, arena: inout PrivateArena
  ) throws(FaceError) -> DeviceWay {
    let (region, access) = (socket.region, socket.access)
    guard let pools = SharedPools.make(0..<region.count, nil, blockSize: 512, arena: &arena),
      let queueArena = arena.split(queueBytes)
    else { throw .noRoom }
    return DeviceWay(region, access, pools, queueArena, socket: socket)
  }

  private init(
    _ region: SharedRegion, _ access: AccessMap, _ pools: consuming SharedPools,
    _ queueArena: consuming PrivateArena, link: consuming LinkWay? = nil,
    siemens: consuming SiemensWay? = nil, socket: consuming SocketWay? = nil
  ) {
    self.region = region
    self.access = access
    self.pools = pools
    self.queueArena = queueArena
    self.link = link
    self.siemens = siemens
    self.socket = socket
  }

  /// Whether this is a link in the Siemens dialect.
  var isSiemens: Bool { siemens != nil }
  /// Whether this is a native link.
  var isNative: Bool { link != nil }

  /// How far this way is away from its device: what a look costs a call of the kernel.
  var hasCostlyLook: Bool { socket != nil }

  /// What was counted of a link.
  var counters: LinkCounters {
    mutating get {
      if link != nil { return link!.counters }
      var counters = LinkCounters()
      counters.doorbells = notificationCount
      return counters
    }
  }

  /// Notifications sent to the device.
  var notificationCount: UInt64 {
    mutating get {
      if link != nil { return link!.counters.doorbells }
      if siemens != nil { return siemens!.doorbells }
      return socket!.notificationCount
    }
  }

  /// A descriptor that ends a sleep when it is signalled.
  var wakeDescriptor: Int32 {
    mutating get {
      if link != nil { return link!.wakeDescriptor }
      if siemens != nil { return siemens!.wakeDescriptor }
      return socket!.wakeDescriptor
    }
  }

  /// The monotonic clock, in nanoseconds.
  var now: UInt64 {
    mutating get {
      if link != nil { return link!.now }
      if siemens != nil { return siemens!.now }
      return socket!.now
    }
  }

  // MARK: Set-up

  /// Waits for a back-end until `deadline` (monotonic nanoseconds) and agrees on features:
  /// `wanted`, and what the transport needs.
  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    queueArena.reuse()
    let base = FeatureSet.version1.union(.accessPlatform).union(.orderPlatform)
    if link != nil {
      agreed = try link!.negotiate(kind, wanted: wanted.union(base), until: deadline)
    } else if siemens != nil {
      agreed = try siemens!.negotiate(kind, wanted: wanted.union(base), until: deadline)
    } else {
      agreed = try socket!.negotiate(wanted: wanted.union(.version1), until: deadline)
    }
    return agreed
  }

  /// Copies the configuration space from its start on.
  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(WayError) {
    if link != nil { return try link!.configuration(into: &bytes) }
    if siemens != nil { return try siemens!.configuration(into: &bytes) }
    try socket!.configuration(into: &bytes)
  }

  /// Takes the memory of queue `index`, which keeps it for good; whether there was room.
  mutating func reserveQueue(_ index: Int, size: QueueSize) -> Bool {
    if rings[index] == nil { rings[index] = QueueRings(size, &pools) }
    return rings[index] != nil
  }

  /// Makes queue `index` and gives it to the device; its memory is that of the one before.
  mutating func makeQueue(_ index: Int, size: QueueSize) throws(WayError) -> DriverQueue {
    guard reserveQueue(index, size: size), let ring = rings[index] else { throw .failed(.noRoom) }
    let configuration = ring.configuration(access, agreed)
    if link != nil {
      try link!.requireRoom(index, size)
    } else {
      // The device initialises its ring on a native link. Elsewhere the driver does, and a back-end
      // of another make expects all of it to be zero.
      for part in [ring.table, ring.available, ring.used] {
        region.fill(region.ownRange(part.offset..<part.offset + part.count), with: 0)
      }
      if siemens != nil { try siemens!.requireRoom(index, size) }
    }
    let queue: DriverQueue
    do throws(QueueError) {
      queue = try DriverQueue(configuration, in: region, access: access, arena: &queueArena)
    } catch { preconditionFailure("the rings were allocated in our own pools") }
    if link != nil {
      try link!.enableQueue(index, configuration)
    } else if siemens != nil {
      try siemens!.enableQueue(index, configuration)
    } else {
      try socket!.enableQueue(index, configuration)
    }
    return queue
  }

  /// Starts the device.
  mutating func start() throws(WayError) {
    if link != nil { return try link!.start() }
    if siemens != nil { return try siemens!.start() }
  }

  // MARK: At work

  /// Tells the device that a queue moved.
  mutating func notify(queue: Int) {
    if link != nil { return link!.notify(queue: queue) }
    if siemens != nil { return siemens!.notify(queue: queue) }
    socket!.notify(queue: queue)
  }

  /// Looks at the back-end.
  mutating func look() -> WayNews {
    if link != nil { return link!.look() }
    if siemens != nil { return siemens!.look() }
    return socket!.look()
  }

  /// Says that this side is about to sleep, with a full fence behind; then look once more.
  mutating func prepareToSleep() {
    if link != nil { return link!.prepareToSleep() }
    if siemens != nil { return siemens!.prepareToSleep() }
    // Pairs with the device's fence between its used index and its look at what was armed.
    Ordering.fullFence()
  }

  /// The last look found something.
  mutating func stayAwake() {
    if link != nil { link!.stayAwake() }
  }

  /// Sleeps until the device or ``wakeDescriptor`` calls, or until `deadline`.
  mutating func sleep(until deadline: UInt64) -> WaitOutcome {
    if link != nil { return link!.sleep(until: instant(deadline)) }
    if siemens != nil { return siemens!.sleep(until: instant(deadline)) }
    return socket!.sleep(until: deadline)
  }

  /// Waits until there is a back-end again.
  mutating func waitForBackend(until deadline: UInt64) throws(FaceError) {
    if link != nil { return try link!.waitForBackend(until: deadline) }
    if siemens != nil { return try siemens!.waitForBackend(until: deadline) }
    try socket!.waitForBackend(until: deadline)
  }

  /// Makes one register write that changes nothing and waits until the back-end has acted on it.
  mutating func touch() throws(WayError) {
    guard siemens != nil else {
      throw .failed(
        .explained(
          Code.refused, "a register write takes no time of its own but in the Siemens dialect"))
    }
    try siemens!.touch()
  }

  /// Leaves on purpose.
  mutating func leave() {
    if link != nil { return link!.leave() }
    if siemens != nil { return siemens!.leave() }
    socket!.leave()
  }
}

extension FaceError {
  /// The memory of a link is used up.
  static var noRoom: FaceError {
    .explained(
      Code.memory, "the link's memory cannot hold this device's buffers; make it larger")
  }
}
