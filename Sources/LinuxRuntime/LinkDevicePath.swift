import CLinux
import CommandOptions
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A device of an ivshmem link.
struct LinkDevicePath: DevicePath, ~Copyable {
  private var frontend: Frontend<HostPlatform>
  private let slot: Int
  private let access: AccessMap
  private var driverPool: BufferPool
  private var devicePool: BufferPool?
  private var rings = [QueueRings?](repeating: nil, count: DeviceLimits.queues)
  private var queueArena: PrivateArena
  private var agreed = FeatureSet()
  private var isConnected = false
  /// What the device had announced when its configuration was read last.
  private var changeCount: UInt32 = 0

  /// Takes over a link that was joined.
  static func open(
    _ platform: consuming HostPlatform, _ link: LinkSpecification, slot: Int
  ) throws(ClientError) -> LinkDevicePath {
    let native: NativeLink<HostPlatform>
    do throws(UsageError) {
      native = try makeNativeLink(platform, link, side: .frontEnd)
    } catch { throw .usage(error) }
    let plan = native.plan
    var arena = PrivateMemory.arena(1 << 20)
    let driverPool = try Self.pool(plan.driverPool, &arena)
    guard plan.placement == .output else { return LinkDevicePath(native, slot, driverPool, nil) }
    let devicePool = try Self.pool(plan.devicePool, &arena)
    return LinkDevicePath(native, slot, driverPool, devicePool)
  }

  private init(
    _ native: consuming NativeLink<HostPlatform>, _ slot: Int,
    _ driverPool: consuming BufferPool, _ devicePool: consuming BufferPool?
  ) {
    guard
      let access = AccessMap(
        region: native.region, readable: native.plan.whole, writable: native.plan.driverPool)
    else { preconditionFailure("the plan's ranges lie inside the region") }
    self.access = access
    self.driverPool = driverPool
    self.devicePool = devicePool
    self.slot = slot
    queueArena = PrivateMemory.arena(1 << 20)
    frontend = Frontend(link: native)
    frontend.start()
  }

  private static func pool(
    _ window: Range<Int>, _ arena: inout PrivateArena
  ) throws(ClientError) -> BufferPool {
    guard let pool = BufferPool(window: window, blockSize: 4096, arena: &arena) else {
      throw .noRoom
    }
    return pool
  }

  var region: SharedRegion { frontend.link.region }
  var notificationCount: UInt64 { frontend.link.counters.doorbells }
  var wakeDescriptor: Int32 { frontend.link.platform.localWake.descriptor }

  mutating func allocate(_ count: Int, _ use: BufferUse) -> BufferSegment? {
    guard use == .fromDevice, devicePool != nil else { return driverPool.allocate(count) }
    return devicePool!.allocate(count)
  }

  mutating func free(_ segment: BufferSegment, _ use: BufferUse) {
    guard use == .fromDevice, devicePool != nil else { return driverPool.free(segment) }
    devicePool!.free(segment)
  }

  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(PathError) -> FeatureSet {
    isConnected = false
    queueArena.reuse()
    let seconds = (deadline - min(deadline, cl_monotonic_ns())) / 1_000_000_000
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
      agreed = try frontend.negotiate(
        slot: slot, deviceID: kind.id,
        wanted: wanted.union(.version1).union(.accessPlatform).union(.orderPlatform)
          .union(.eventIndex))
      changeCount = frontend.changeCount(slot: slot)
      return agreed
    } catch {
      if case .linkLost = error { throw .lost }
      throw .failed(
        frontendFailure(error, frontend.link.reason, seconds: seconds, wanting: kind))
    }
  }

  private func failed(_ error: FrontendError) -> PathError {
    if case .linkLost = error { return .lost }
    return .failed(.failed("setting up the device: \(error)"))
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(PathError) {
    let count = frontend.changeCount(slot: slot)
    do throws(FrontendError) {
      try frontend.configuration(slot: slot, into: &bytes)
    } catch { throw failed(error) }
    changeCount = count
  }

  mutating func makeQueue(_ index: Int, size: QueueSize) throws(PathError) -> DriverQueue {
    if rings[index] == nil { rings[index] = QueueRings(size) { allocate($0, $1) } }
    guard let ring = rings[index]?.configuration(access, agreed) else { throw .failed(.noRoom) }
    do throws(FrontendError) {
      let limit = try frontend.maximumQueueSize(slot: slot, queue: index)
      guard limit >= UInt32(size.rawValue) else {
        throw .refused(limit, register: MMIORegister.queueSizeMax.rawValue)
      }
      let queue: DriverQueue
      do throws(QueueError) {
        queue = try DriverQueue(
          ring, in: frontend.link.region, access: access, arena: &queueArena)
      } catch { preconditionFailure("the rings were allocated in our own pools") }
      try frontend.enableQueue(slot: slot, queue: index, ring)
      return queue
    } catch { throw failed(error) }
  }

  mutating func start() throws(PathError) {
    do throws(FrontendError) {
      try frontend.startDevice(slot: slot)
    } catch { throw failed(error) }
    isConnected = true
  }

  mutating func notify(queue: Int) { frontend.notify(slot: slot, queue: queue) }

  mutating func look() -> PathNews {
    switch frontend.step() {
    case .none, .up: break
    case .peerStarted, .down: isConnected = false
    }
    guard isConnected else { return .lost }
    guard frontend.changeCount(slot: slot) != changeCount else { return .nothing }
    if frontend.needsReset(slot: slot) {
      isConnected = false
      return .lost
    }
    return .configuration
  }

  mutating func prepareToSleep() { frontend.link.prepareToSleep() }
  mutating func stayAwake() { frontend.link.stayAwake() }

  mutating func sleep(until deadline: UInt64?) -> PathWait {
    switch frontend.link.sleep(until: deadline.map { Instant(nanoseconds: $0) }) {
    case .event, .deadline: .event
    case .interrupted: .interrupted
    case .gone: .gone
    }
  }

  mutating func waitForBackend(until deadline: UInt64) throws(ClientError) {
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
    } catch {
      throw cl_stop_requested() != 0 ? .interrupted : .failed("the back-end did not come back")
    }
  }

  mutating func leave() { frontend.leave() }
}
