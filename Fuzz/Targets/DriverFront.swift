import DeviceRuntime
import IVShmem
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A driver with its link: sets the device up and lets it go, as the programs do.
struct DriverFront<D: FuzzedDriver & ~Copyable>: ~Copyable {
  /// The production driver.
  var driver: D
  /// Whether the device was set up and has not gone.
  private(set) var isConnected = false
  /// Where the queues lie.
  let rings: [HostileBackend.Rings]
  private var frontend: Frontend<ScheduledPeer>
  private let access: AccessMap
  /// What the driver may touch: its rings and its buffers.
  private let memory: [Range<Int>]
  private var queueArena: PrivateArena
  private var changeCount: UInt32 = 0

  private static var queueSize: UInt32 { 16 }
  private static var entries: Int { Int(queueSize) }

  private static func range(_ start: Int, _ count: Int) -> Range<Int> { start..<start + count }

  /// Takes memory out of the link's pools; `nil` when there is too little.
  init?(_ link: ScheduledLink, _ arena: inout PrivateArena) {
    let native = FuzzLinks.native(.frontEnd, link)
    let plan = native.plan
    let region = native.region
    guard var own = BufferPool(window: plan.driverPool, blockSize: 64, arena: &arena),
      var shared = BufferPool(window: plan.devicePool, blockSize: 64, arena: &arena),
      let access = AccessMap(region: region, readable: plan.whole, writable: plan.driverPool)
    else { return nil }
    func allocateForReading(_ count: Int) -> BufferSegment? {
      plan.placement == .shared ? own.allocate(count) : shared.allocate(count)
    }
    var rings: [HostileBackend.Rings] = []
    for _ in 0..<D.queueCount(D.wanted) {
      guard let table = own.allocate(256), let available = own.allocate(64),
        let used = allocateForReading(192)
      else { return nil }
      rings.append(
        HostileBackend.Rings(
          table: table.offset, available: available.offset, used: used.offset))
    }
    guard let out = D.outBytes == 0 ? .empty : own.allocate(D.outBytes),
      let into = allocateForReading(D.inBytes),
      let driver = D(out: out, into: into, region: region, arena: &arena),
      let queueArena = arena.split(64 << 10)
    else { return nil }
    self.driver = driver
    self.rings = rings
    memory =
      rings.flatMap { ring in
        [
          Self.range(ring.table, 16 * Self.entries),
          Self.range(ring.available, 6 + 2 * Self.entries),
          Self.range(ring.used, 6 + 8 * Self.entries),
        ]
      } + [out, into].map { Self.range($0.offset, $0.count) }
    self.access = access
    self.queueArena = queueArena
    frontend = Frontend(link: native, spinCount: 1)
    frontend.start()
  }

  /// Waits for the back-end and sets the device up, until it works or `deadline` passes.
  mutating func connect(until deadline: Instant) throws(BlockFrontendError) {
    disconnect()
    while true {
      do throws(FrontendError) {
        try frontend.waitForLink(until: deadline)
        try setUp()
        break
      } catch {
        driver.end()
        guard case .linkLost = error, frontend.link.platform.now() < deadline else {
          throw .frontend(error)
        }
      }
    }
    isConnected = true
    publish()
  }

  /// Something that the driver alone does: meanwhile AddressSanitizer refuses everything in the
  /// shared memory but its rings and buffers.
  ///
  /// - Parameter strays: read a byte that is none of the driver's, to show that it is seen.
  mutating func fenced<Result>(
    strays: Bool = false, _ body: (inout D) throws(QueueError) -> Result
  ) throws(QueueError) -> Result {
    let region = frontend.link.region
    fence(memory, in: region)
    defer { unfence(region) }
    if strays { _ = region.load8(region.count - 1) }
    return try body(&driver)
  }

  /// Rules that the back-end broke.
  var peerErrors: UInt64 { frontend.link.counters.peerErrors }

  /// Leaves the link in good order.
  mutating func leave() {
    disconnect()
    frontend.leave()
  }

  /// Lets the device go.
  mutating func disconnect() {
    isConnected = false
    driver.end()
  }

  private mutating func setUp() throws(FrontendError) {
    let features = try frontend.negotiate(
      slot: D.slot, deviceID: D.deviceID,
      wanted: D.wanted.union(.required).union(.eventIndex))
    changeCount = frontend.changeCount(slot: D.slot)
    var bytes = InlineArray<64, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    try frontend.configuration(slot: D.slot, into: &span)
    driver.learn(bytes.span, features)
    queueArena.reuse()
    for index in 0..<D.queueCount(features) { try makeQueue(index, features) }
    try frontend.startDevice(slot: D.slot)
    driver.begin(features)
  }

  private mutating func makeQueue(_ index: Int, _ features: FeatureSet) throws(FrontendError) {
    let limit = try frontend.maximumQueueSize(slot: D.slot, queue: index)
    guard limit >= Self.queueSize, let size = QueueSize(Self.queueSize) else {
      throw .refused(limit, register: MMIORegister.queueSizeMax.rawValue)
    }
    var ringFeatures = QueueFeatures()
    if features.contains(.eventIndex) { ringFeatures.insert(.eventIndex) }
    let ring = QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: rings[index].table),
      availableRing: access.address(ofOffset: rings[index].available),
      usedRing: access.address(ofOffset: rings[index].used), features: ringFeatures,
      maximumChainLength: 4)
    let queue: DriverQueue
    do throws(QueueError) {
      queue = try DriverQueue(ring, in: frontend.link.region, access: access, arena: &queueArena)
    } catch { preconditionFailure("the rings were allocated in our own pools") }
    try frontend.enableQueue(slot: D.slot, queue: index, ring)
    driver.take(queue, at: index)
  }

  private mutating func publish() {
    fence(memory, in: frontend.link.region)
    var wanted = driver.publish()
    unfence(frontend.link.region)
    while wanted != 0 {
      frontend.notify(slot: D.slot, queue: wanted.trailingZeroBitCount)
      wanted &= wanted &- 1
    }
  }

  /// Shows what is new, looks at the peer and sleeps unless something has come.
  mutating func wait(until time: UInt64) {
    publish()
    fence(memory, in: frontend.link.region)
    driver.armNotifications()
    unfence(frontend.link.region)
    frontend.link.prepareToSleep()
    fence(memory, in: frontend.link.region)
    let isAwake = driver.hasCompletion
    unfence(frontend.link.region)
    if isAwake || look() {
      frontend.link.stayAwake()
    } else {
      _ = frontend.link.sleep(until: Instant(nanoseconds: time))
      _ = look()
    }
    driver.suppressNotifications()
  }

  /// Whether there is news of the back-end.
  private mutating func look() -> Bool {
    switch frontend.step() {
    case .none, .up: break
    case .peerStarted, .down:
      isConnected = false
      return true
    }
    let count = frontend.changeCount(slot: D.slot)
    guard count != changeCount else { return false }
    changeCount = count
    if frontend.needsReset(slot: D.slot) { isConnected = false }
    return true
  }
}
