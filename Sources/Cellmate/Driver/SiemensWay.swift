import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import SharedMemory
import SiemensDialect
import VirtioDevice
import VirtioTransport
import Virtqueue

/// The device of a link in the Siemens dialect, of this back-end or of any other.
struct SiemensWay: ~Copyable {
  private let name: String
  private var front: SiemensFrontend<LibraryPlatform>
  /// What this side may tell the device of the memory.
  let access: AccessMap
  /// What rings and buffers may lie in.
  let window: Range<Int>
  /// Whether the configuration changed since it was read.
  private var isConfigurationNew = false
  private let deviceClass: UInt32
  private let isBlock: Bool
  /// Whether this side has said that it is there.
  private var isAttached = false

  /// Takes over a link that was joined; `isBlock` chooses the words of some messages.
  init(
    _ platform: consuming LibraryPlatform, _ plan: SiemensPlan, name: String, isBlock: Bool
  ) {
    self.name = name
    self.isBlock = isBlock
    deviceClass = platform.deviceClass
    access = plan.access(in: platform.region)
    window = plan.pool
    front = SiemensFrontend(platform: platform, plan: plan)
  }

  var region: SharedRegion { front.platform.region }
  var doorbells: UInt64 { front.doorbells }
  var wakeDescriptor: Int32 { front.platform.wakeDescriptor }
  var now: UInt64 { front.platform.now().nanoseconds }

  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    try requireType(kind)
    do throws(SiemensFrontendError) {
      try attach(until: deadline)
      return try front.negotiate(wanted: wanted)
    } catch { throw explain(error) }
  }

  private func requireType(_ kind: DeviceKind) throws(WayError) {
    guard let type = Dialect.deviceType(deviceClass), type != kind.id else { return }
    throw .failed(
      .explained(
        Code.text, "link \(name): its device is of type \(type), not \(kind.name) (\(kind.id))"))
  }

  mutating func offered(
    _ kind: DeviceKind, isRunning: Bool, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    try requireType(kind)
    do throws(SiemensFrontendError) {
      if !isRunning, !isAttached || !front.hasBackend { try attach(until: deadline) }
      return try front.offeredFeatures()
    } catch { throw explain(error) }
  }

  mutating func writeConfiguration(_ value: UInt32, at offset: Int) throws(WayError) {
    do throws(SiemensFrontendError) {
      try front.writeConfiguration(at: offset, width: 4, UInt64(value))
    } catch { throw explain(error) }
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(WayError) {
    isConfigurationNew = false
    do throws(SiemensFrontendError) {
      try front.configuration(into: &bytes)
    } catch { throw explain(error) }
  }

  /// Fails unless the device's queue `index` may be of this size.
  mutating func requireRoom(_ index: Int, _ size: QueueSize) throws(WayError) {
    do throws(SiemensFrontendError) {
      let limit = try front.maximumQueueSize(index)
      guard limit >= size.rawValue else { throw .noSuchQueue(index, maximum: limit) }
    } catch { throw explain(error) }
  }

  mutating func enableQueue(_ index: Int, _ ring: QueueConfiguration) throws(WayError) {
    do throws(SiemensFrontendError) {
      try front.enableQueue(index, ring)
    } catch { throw explain(error) }
  }

  private func explain(_ error: SiemensFrontendError) -> WayError {
    switch error {
    case .backendLost: return .lost
    case .interrupted: return .failed(FaceError(Code.interrupted))
    case .noBackend:
      return .failed(
        .explained(
          Code.deadline,
          "link \(name): no back-end of the Siemens dialect became ready; start it"))
    case .platformGone: return .failed(.gone)
    case .noSuchQueue(let queue, let maximum):
      return .failed(
        .explained(
          Code.refused,
          isBlock
            ? "link \(name): the queue has \(maximum) entries; give a --depth of at most"
              + " \(max(1, maximum / 4))"
            : "link \(name): queue \(queue) has \(maximum) entries, too few for this tool; make"
              + " its read/write section larger"))
    case .deadline, .badHeader, .missingFeatures, .featuresRefused, .queueRefused,
      .configurationUnstable:
      return .failed(
        .explained(Code.refused, "link \(name): setting up the device: \(error)"))
    }
  }

  mutating func start() throws(WayError) {
    do throws(SiemensFrontendError) {
      try front.startDevice()
    } catch { throw explain(error) }
  }

  mutating func notify(queue: Int) { front.notify(queue) }

  mutating func look() -> WayNews {
    guard front.hasBackend, !front.status.contains(.needsReset) else { return .lost }
    if front.takeConfigurationEvent() { isConfigurationNew = true }
    return isConfigurationNew ? .configuration : .nothing
  }

  mutating func prepareToSleep() { front.prepareToSleep() }
  mutating func sleep(until deadline: Instant?) -> WaitOutcome { front.sleep(until: deadline) }

  mutating func waitForBackend(until deadline: UInt64) throws(FaceError) {
    do throws(SiemensFrontendError) {
      try attach(until: deadline)
    } catch {
      switch error {
      case .interrupted: throw FaceError(Code.interrupted)
      case .platformGone: throw .gone
      default: throw .explained(Code.deadline, "the back-end did not come back")
      }
    }
  }

  /// Makes one register write that changes nothing.
  mutating func touch() throws(WayError) {
    do throws(SiemensFrontendError) {
      try front.write(.queueSelector, 0)
    } catch { throw explain(error) }
  }

  private mutating func attach(until deadline: UInt64) throws(SiemensFrontendError) {
    isAttached = false
    try front.attach(until: Instant(nanoseconds: deadline))
    isAttached = true
  }

  mutating func leave() {
    // Nothing was written before that, and nobody knows of this side.
    if isAttached { front.leave() }
  }
}

extension FaceError {
  /// What carries the link has ended.
  static var gone: FaceError {
    .explained(Code.gone, "the platform is gone: did ivshmem-sim stop?")
  }
}
