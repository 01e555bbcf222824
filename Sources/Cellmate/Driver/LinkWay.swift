import CCellmate
import DeviceRuntime
import IVShmem
import LinuxRuntime
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A device of a native link.
struct LinkWay: ~Copyable {
  private var frontend: Frontend<LibraryPlatform>
  private let slot: Int
  /// What this side may tell the device of the memory.
  let access: AccessMap
  private var isConnected = false
  /// What the device had announced when its configuration was read last.
  private var changeCount: UInt32 = 0

  /// Takes over a link that was joined.
  init(_ native: consuming NativeLink<LibraryPlatform>, slot: Int) {
    guard
      let access = AccessMap(
        region: native.region, readable: native.plan.whole, writable: native.plan.driverPool)
    else { preconditionFailure("the plan's ranges lie inside the region") }
    self.access = access
    self.slot = slot
    frontend = Frontend(link: native)
    frontend.start()
  }

  var region: SharedRegion { frontend.link.region }
  var counters: LinkCounters { frontend.link.counters }
  var wakeDescriptor: Int32 { frontend.link.platform.wakeDescriptor }
  var now: UInt64 { frontend.link.platform.now().nanoseconds }

  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    isConnected = false
    let start = now
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
      let agreed = try frontend.negotiate(slot: slot, deviceID: kind.id, wanted: wanted)
      changeCount = frontend.changeCount(slot: slot)
      return agreed
    } catch { throw failed(error, kind, start, deadline) }
  }

  private func failed(
    _ error: FrontendError, _ kind: DeviceKind, _ start: UInt64, _ deadline: UInt64
  ) -> WayError {
    if case .linkLost = error { return .lost }
    // Rounded: some of the patience is spent on the way here.
    let patience = ((deadline - min(deadline, start)) / 500_000 + 1) / 2
    return .failed(
      Self.explain(error, frontend.link.reason, patience: patience, wanting: kind))
  }

  mutating func offered(
    _ kind: DeviceKind, until deadline: UInt64
  ) throws(WayError) -> FeatureSet {
    let start = now
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
      return try frontend.offeredFeatures(slot: slot, deviceID: kind.id)
    } catch { throw failed(error, kind, start, deadline) }
  }

  mutating func writeConfiguration(_ value: UInt32, at offset: Int) throws(WayError) {
    do throws(FrontendError) {
      try frontend.write(
        slot: slot, offset: MMIORegister.configurationStart + offset, UInt64(value))
    } catch { throw failed(error) }
  }

  /// Why a device could not be set up, for people.
  ///
  /// - Parameters:
  ///   - reason: what this side says of its partner's header.
  ///   - patience: how long the back-end was waited for, in milliseconds.
  private static func explain(
    _ error: FrontendError, _ reason: LinkReason, patience: UInt64, wanting kind: DeviceKind
  ) -> FaceError {
    let waited = patience < 950 ? "\(patience) ms" : "\((patience + 500) / 1000) s"
    let text =
      switch error {
      case .deadline(.linkUp):
        "no back-end answered within \(waited)"
          + (reason == .none ? "; start ivshmem-backend" : "; its header is wrong: \(reason)")
      case .wrongDevice(let found, _):
        "the slot holds device type \(found), not \(kind.name) (\(kind.id))"
      case .refused(15, _): "the link has no device in this slot; see --slot"
      case .deadline, .linkLost, .refused, .notVirtio, .missingFeatures, .featuresRefused,
        .queueResetIncomplete, .interrupted, .platformGone:
        "setting up the device: \(error)"
      }
    return .explained(FaceError(error).code, text)
  }

  private func failed(_ error: FrontendError) -> WayError {
    if case .linkLost = error { return .lost }
    return .failed(.explained(FaceError(error).code, "setting up the device: \(error)"))
  }

  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(WayError) {
    let count = frontend.changeCount(slot: slot)
    do throws(FrontendError) {
      try frontend.configuration(slot: slot, into: &bytes)
    } catch { throw failed(error) }
    changeCount = count
  }

  /// Fails unless the device's queue `index` may be of this size.
  mutating func requireRoom(_ index: Int, _ size: QueueSize) throws(WayError) {
    do throws(FrontendError) {
      let limit = try frontend.maximumQueueSize(slot: slot, queue: index)
      guard limit >= UInt32(size.rawValue) else {
        throw .refused(limit, register: MMIORegister.queueSizeMax.rawValue)
      }
    } catch { throw failed(error) }
  }

  mutating func enableQueue(_ index: Int, _ ring: QueueConfiguration) throws(WayError) {
    do throws(FrontendError) {
      try frontend.enableQueue(slot: slot, queue: index, ring)
    } catch { throw failed(error) }
  }

  mutating func start() throws(WayError) {
    do throws(FrontendError) {
      try frontend.startDevice(slot: slot)
    } catch { throw failed(error) }
    isConnected = true
  }

  mutating func notify(queue: Int) { frontend.notify(slot: slot, queue: queue) }

  mutating func look() -> WayNews {
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
  mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    frontend.link.sleep(until: deadline)
  }

  mutating func waitForBackend(until deadline: UInt64) throws(FaceError) {
    do throws(FrontendError) {
      try frontend.waitForLink(until: Instant(nanoseconds: deadline))
    } catch { throw .explained(FaceError(error).code, "the back-end did not come back") }
  }

  mutating func leave() { frontend.leave() }
}
