import CLinux
import CommandOptions
import IVShmem
import LinuxSupport
import SharedMemory
import SiemensDialect
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A block device of a link in the Siemens dialect, of this back-end or of any other.
struct SiemensBlockPath: BlockPath, ~Copyable {
  private let name: String
  private let depth: Int
  private var front: SiemensFrontend<HostPlatform>
  private var driver: BlockDriver
  private var pool: BufferPool
  private let access: AccessMap
  private let rings: BufferSegment
  private var queueArena: PrivateArena
  private(set) var features = FeatureSet()

  /// Takes over a link that was joined.
  static func open(
    _ platform: consuming HostPlatform, _ link: LinkSpecification, depth: Int
  ) throws(ClientError) -> SiemensBlockPath {
    let plan: SiemensPlan
    do throws(UsageError) {
      if let type = Dialect.deviceType(platform.deviceClass), type != BlockFormat.deviceID {
        throw UsageError(
          "link \(link.name): its device is of type \(type), not a block device (2)")
      }
      plan = try planSiemens(
        link.name, own: platform.peerID, platform.geometry,
        configurationSize: 4096 - SiemensHeader.configuration)
    } catch { throw .usage(error) }
    var arena = PrivateMemory.arena(8 << 20)
    guard let path = SiemensBlockPath(platform, plan, link, depth, &arena) else {
      throw .usage(
        UsageError(
          "link \(link.name): its read/write section cannot hold rings for --depth \(depth)"))
    }
    return path
  }

  private init?(
    _ platform: consuming HostPlatform, _ plan: SiemensPlan, _ link: LinkSpecification,
    _ depth: Int, _ arena: inout PrivateArena
  ) {
    guard let largest = QueueSize(Self.entries(depth)),
      var pool = BufferPool(window: plan.pool, blockSize: 512, arena: &arena),
      let rings = pool.allocate(Self.ringBytes(largest)),
      let headers = pool.allocate(BlockDriver.headerBytes(depth: depth)),
      let statuses = pool.allocate(BlockDriver.statusBytes(depth: depth)),
      let driver = BlockDriver(
        depth: depth, headers: headers, statuses: statuses, region: platform.region,
        arena: &arena),
      let queueArena = arena.split(DriverQueue.privateBytes(size: largest))
    else { return nil }
    name = link.name
    self.depth = depth
    access = plan.access(in: platform.region)
    self.pool = pool
    self.driver = driver
    self.rings = rings
    self.queueArena = queueArena
    front = SiemensFrontend(platform: platform, plan: plan)
  }

  /// Three descriptors a request, as a power of two.
  private static func entries(_ depth: Int) -> Int { depth * 4 }

  /// Descriptor table, available ring and used ring behind each other, each on a line of its own.
  private static func ringBytes(_ size: QueueSize) -> Int {
    let layout = QueueLayout(size)
    return layout.descriptorTable + (layout.availableRing + 63) & ~63 + layout.usedRing + 64
  }

  var configuration: BlockConfiguration { driver.configuration }
  var region: SharedRegion { front.platform.region }
  var notificationCount: UInt64 { front.doorbells }
  var resubmittedCount: UInt64 { driver.counters.resubmitted }
  var hasCompletion: Bool { driver.hasCompletion }
  var wakeDescriptor: Int32 { front.platform.localWake.descriptor }

  mutating func allocateForReading(_ count: Int) -> BufferSegment? { pool.allocate(count) }
  mutating func allocateForWriting(_ count: Int) -> BufferSegment? { pool.allocate(count) }

  private static var wanted: FeatureSet {
    FeatureSet.version1.union(.accessPlatform).union(.orderPlatform).union(.indirectDescriptors)
      .union(.eventIndex).union(.blockSizeMax).union(.blockSegmentMax).union(.blockReadOnly)
      .union(.blockBlockSize).union(.blockFlush).union(.blockTopology)
      .union(.blockConfigWriteback).union(.blockMultiQueue)
  }

  mutating func connect(until deadline: UInt64) throws(ClientError) {
    driver.detachQueue()
    do throws(SiemensFrontendError) {
      try front.attach(until: Instant(nanoseconds: deadline))
      try setUp()
    } catch { throw explain(error) }
  }

  private mutating func setUp() throws(SiemensFrontendError) {
    features = try front.negotiate(wanted: Self.wanted)
    var bytes = InlineArray<64, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    try front.configuration(into: &span)
    var ringFeatures = QueueFeatures()
    if features.contains(.indirectDescriptors) { ringFeatures.insert(.indirectDescriptors) }
    if features.contains(.eventIndex) { ringFeatures.insert(.eventIndex) }
    let maximum = Int(try front.maximumQueueSize(0))
    guard let size = QueueSize(Self.entries(depth)), Int(size.rawValue) <= maximum else {
      throw .noSuchQueue(0, maximum: UInt16(maximum))
    }
    let layout = QueueLayout(size)
    let available = rings.offset + layout.descriptorTable
    let used = (available + layout.availableRing + 63) & ~63
    let ring = QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: rings.offset),
      availableRing: access.address(ofOffset: available),
      usedRing: access.address(ofOffset: used), features: ringFeatures, maximumChainLength: 4)
    // A back-end of another make expects the driver to have zeroed all of it.
    region.fill(region.ownRange(rings.offset..<rings.offset + rings.count), with: 0)
    queueArena.reuse()
    let queue: DriverQueue
    do throws(QueueError) {
      queue = try DriverQueue(ring, in: region, access: access, arena: &queueArena)
    } catch { preconditionFailure("the rings were allocated in our own pool: \(error)") }
    try front.enableQueue(0, ring)
    try front.startDevice()
    do throws(BlockDriverError) {
      try driver.attach(
        queue: queue, configuration: BlockConfiguration(bytes.span), features: features)
    } catch { preconditionFailure("the ring holds every request: \(error)") }
    publish()
  }

  private func explain(_ error: SiemensFrontendError) -> ClientError {
    switch error {
    case .interrupted: .interrupted
    case .noBackend:
      .failed("link \(name): no back-end of the Siemens dialect became ready; start it")
    case .platformGone: .failed("the platform is gone: did ivshmem-sim stop?")
    case .noSuchQueue(_, let maximum):
      .failed(
        "link \(name): the queue has \(maximum) entries; give a --depth of at most"
          + " \(max(1, maximum / 4))")
    case .deadline, .backendLost, .badHeader, .missingFeatures, .featuresRefused, .queueRefused,
      .configurationUnstable:
      .failed("link \(name): setting up the device: \(error)")
    }
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    driver.detachQueue()
    do throws(SiemensFrontendError) {
      try front.attach(until: Instant(nanoseconds: deadline))
    } catch {
      throw cl_stop_requested() != 0 ? .interrupted : .failed("the back-end did not come back")
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
    } catch {
      if case .badLength(_, let limit) = error {
        throw .failed(
          "link \(name): a request has at most \(limit) bytes here; give --size \(limit)")
      }
      throw .failed("submitting a request: \(error)")
    }
  }

  mutating func publish() {
    if driver.publish() { front.notify(0) }
  }

  mutating func nextCompletion() throws(ClientError) -> PathCompletion? {
    do throws(QueueError) {
      guard let done = try driver.nextCompletion() else { return nil }
      return PathCompletion(token: done.token, status: done.status, data: done.data)
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  mutating func isLost() -> Bool { !front.hasBackend || front.status.contains(.needsReset) }

  mutating func sleep() -> PathWait {
    driver.armNotifications()
    front.prepareToSleep()
    let isReady = driver.hasCompletion || !front.hasBackend
    let outcome = isReady ? WaitOutcome.event : front.sleep(until: nil)
    driver.suppressNotifications()
    return switch outcome {
    case .event, .deadline: .event
    case .interrupted: .interrupted
    case .gone: .gone
    }
  }

  /// Makes one register write that changes nothing; how long the back-end took to clear it, in
  /// nanoseconds.
  mutating func timeTransaction() throws(ClientError) -> UInt64 {
    let start = cl_monotonic_ns()
    do throws(SiemensFrontendError) {
      try front.write(.queueSelector, 0)
    } catch { throw explain(error) }
    return cl_monotonic_ns() - start
  }

  mutating func leave() { front.leave() }
}
