import CLinux
import CommandOptions
import IVShmem
import LinuxSupport
import SharedMemory
import SiemensDialect
import VirtioDevice
import VirtioTransport
import Virtqueue

/// The device of a link in the Siemens dialect, of this back-end or of any other.
struct SiemensDevicePath: DevicePath, ~Copyable {
  private let name: String
  private var front: SiemensFrontend<HostPlatform>
  private let access: AccessMap
  private var pool: BufferPool
  private var rings = [QueueRings?](repeating: nil, count: DeviceLimits.queues)
  private var queueArena: PrivateArena
  private var agreed = FeatureSet()
  /// Whether the configuration changed since it was read.
  private var isConfigurationNew = false
  private let deviceClass: UInt32

  /// Takes over a link that was joined.
  static func open(
    _ platform: consuming HostPlatform, _ link: LinkSpecification, slot: Int
  ) throws(ClientError) -> SiemensDevicePath {
    guard slot == 0 else {
      throw .usage(
        UsageError("--slot \(slot): the Siemens dialect carries one device a link, 0"))
    }
    let plan: SiemensPlan
    do throws(UsageError) {
      plan = try planSiemens(
        link.name, own: platform.peerID, platform.geometry,
        configurationSize: 4096 - SiemensHeader.configuration)
    } catch { throw .usage(error) }
    var arena = PrivateMemory.arena(1 << 20)
    guard let pool = BufferPool(window: plan.pool, blockSize: 512, arena: &arena) else {
      throw .noRoom
    }
    return SiemensDevicePath(platform, plan, link, pool)
  }

  private init(
    _ platform: consuming HostPlatform, _ plan: SiemensPlan, _ link: LinkSpecification,
    _ pool: consuming BufferPool
  ) {
    name = link.name
    deviceClass = platform.deviceClass
    access = plan.access(in: platform.region)
    self.pool = pool
    queueArena = PrivateMemory.arena(1 << 20)
    front = SiemensFrontend(platform: platform, plan: plan)
  }

  var region: SharedRegion { front.platform.region }
  var notificationCount: UInt64 { front.doorbells }
  var wakeDescriptor: Int32 { front.platform.localWake.descriptor }

  mutating func allocate(_ count: Int, _ use: BufferUse) -> BufferSegment? { pool.allocate(count) }
  mutating func free(_ segment: BufferSegment, _ use: BufferUse) { pool.free(segment) }

  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(PathError) -> FeatureSet {
    queueArena.reuse()
    if let type = Dialect.deviceType(deviceClass), type != kind.id {
      throw .failed(
        .usage(
          UsageError("link \(name): its device is of type \(type), not \(kind.name) (\(kind.id))")))
    }
    do throws(SiemensFrontendError) {
      try front.attach(until: Instant(nanoseconds: deadline))
      agreed = try front.negotiate(
        wanted: wanted.union(.version1).union(.accessPlatform).union(.orderPlatform)
          .union(.eventIndex))
      return agreed
    } catch { throw explain(error) }
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(PathError) {
    isConfigurationNew = false
    do throws(SiemensFrontendError) {
      try front.configuration(into: &bytes)
    } catch { throw explain(error) }
  }

  mutating func makeQueue(_ index: Int, size: QueueSize) throws(PathError) -> DriverQueue {
    if rings[index] == nil { rings[index] = QueueRings(size) { count, _ in pool.allocate(count) } }
    guard let ring = rings[index] else { throw .failed(.noRoom) }
    let configuration = ring.configuration(access, agreed)
    // A back-end of another make expects the driver to have zeroed all of it.
    for part in [ring.table, ring.available, ring.used] {
      region.fill(region.ownRange(part.offset..<part.offset + part.count), with: 0)
    }
    do throws(SiemensFrontendError) {
      let limit = try front.maximumQueueSize(index)
      guard limit >= size.rawValue else { throw .noSuchQueue(index, maximum: limit) }
      let queue: DriverQueue
      do throws(QueueError) {
        queue = try DriverQueue(configuration, in: region, access: access, arena: &queueArena)
      } catch { preconditionFailure("the rings were allocated in our own pool: \(error)") }
      try front.enableQueue(index, configuration)
      return queue
    } catch { throw explain(error) }
  }

  private func explain(_ error: SiemensFrontendError) -> PathError {
    switch error {
    case .backendLost: .lost
    case .interrupted: .failed(.interrupted)
    case .noBackend:
      .failed(
        .failed("link \(name): no back-end of the Siemens dialect became ready; start it"))
    case .platformGone: .failed(.failed("the platform is gone: did ivshmem-sim stop?"))
    case .noSuchQueue(let queue, let maximum):
      .failed(
        .failed(
          "link \(name): queue \(queue) has \(maximum) entries, too few for this tool; make its"
            + " read/write section larger"))
    case .deadline, .badHeader, .missingFeatures, .featuresRefused, .queueRefused,
      .configurationUnstable:
      .failed(.failed("link \(name): setting up the device: \(error)"))
    }
  }

  mutating func start() throws(PathError) {
    do throws(SiemensFrontendError) {
      try front.startDevice()
    } catch { throw explain(error) }
  }

  mutating func notify(queue: Int) { front.notify(queue) }

  mutating func look() -> PathNews {
    guard front.hasBackend, !front.status.contains(.needsReset) else { return .lost }
    if front.takeConfigurationEvent() { isConfigurationNew = true }
    return isConfigurationNew ? .configuration : .nothing
  }

  mutating func prepareToSleep() { front.prepareToSleep() }
  mutating func stayAwake() {}

  mutating func sleep(until deadline: UInt64?) -> PathWait {
    switch front.sleep(until: deadline.map { Instant(nanoseconds: $0) }) {
    case .event, .deadline: .event
    case .interrupted: .interrupted
    case .gone: .gone
    }
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    do throws(SiemensFrontendError) {
      try front.attach(until: Instant(nanoseconds: deadline))
    } catch {
      throw cl_stop_requested() != 0 ? .interrupted : .failed("the back-end did not come back")
    }
  }

  mutating func leave() { front.leave() }
}
