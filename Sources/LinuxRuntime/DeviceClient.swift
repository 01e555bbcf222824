import CLinux
import LinuxSupport
import SharedMemory
import VirtioDevice
import Virtqueue

/// A driver as ``DeviceClient`` sees it: it has queues and knows no transport.
protocol PathDriver: ~Copyable {
  /// What it drives.
  static var kind: DeviceKind { get }
  /// Features it uses when they are offered.
  var wanted: FeatureSet { get }
  /// Descriptors it needs in every queue.
  var neededQueueSize: Int { get }
  /// The queues it uses of a device with these features and this configuration.
  mutating func queues(
    _ features: FeatureSet, _ configuration: [UInt8]
  ) throws(ClientError) -> [Int]
  /// Takes a fresh queue.
  mutating func take(_ queue: consuming DriverQueue, at index: Int)
  /// The device runs.
  mutating func begin(_ features: FeatureSet)
  /// The device has gone.
  mutating func end()
  /// Shows the device everything new; the queues that want to be notified, one bit each.
  mutating func publishAll() -> UInt32
  /// Whether the device has returned something that was not yet taken.
  var hasCompletion: Bool { get }
  /// Asks the device for notifications.
  mutating func armNotifications()
  /// Asks the device to stay quiet.
  mutating func suppressNotifications()
}

/// A driver with the way to its device; it takes the device up again when the back-end was
/// restarted.
struct DeviceClient<Path: DevicePath & ~Copyable, Driver: PathDriver & ~Copyable>: ~Copyable {
  private var path: Path
  /// The driver.
  var driver: Driver
  /// What was agreed.
  private(set) var features = FeatureSet()
  /// The start of the configuration space.
  private(set) var configuration = [UInt8](repeating: 0, count: 64)
  /// Times the back-end came back.
  private(set) var recoveries = 0
  private let patience: UInt64
  private let progress: @Sendable (String) -> Void

  /// Puts a driver, which has memory of `path`, before its device.
  ///
  /// - Parameter place: how long a missing back-end is waited for, and whether that is told.
  init(_ path: consuming Path, _ driver: consuming Driver, _ place: FrontendPlace) {
    patience = place.patience
    let isNoisy = place.isNoisy
    progress = { if isNoisy { writeError("\nivshmem: \($0)\n") } }
    self.driver = driver
    self.path = path
  }

  /// Sets the device up for the first time.
  mutating func start() throws(ClientError) {
    cl_catch_stop(path.wakeDescriptor)
    try connect(until: cl_monotonic_ns() + patience)
  }

  /// The descriptor that ends a wait when it is signalled.
  var wakeDescriptor: Int32 { path.wakeDescriptor }
  /// Notifications sent to the device.
  var notificationCount: UInt64 { path.notificationCount }

  private mutating func connect(until deadline: UInt64) throws(ClientError) {
    while true {
      do throws(PathError) {
        return try setUp(until: deadline)
      } catch {
        driver.end()
        switch error {
        case .lost:
          guard cl_monotonic_ns() < deadline else {
            throw .failed("the back-end goes away again and again")
          }
          try path.waitForBackend(until: deadline)
        case .failed(let error): throw cl_stop_requested() != 0 ? .interrupted : error
        }
      }
    }
  }

  private mutating func setUp(until deadline: UInt64) throws(PathError) {
    features = try path.negotiate(Driver.kind, wanted: driver.wanted, until: deadline)
    try readConfiguration()
    let queues: [Int]
    do throws(ClientError) {
      queues = try driver.queues(features, configuration)
    } catch { throw .failed(error) }
    var size: UInt32 = 1
    while size < UInt32(driver.neededQueueSize) { size *= 2 }
    guard let size = QueueSize(size) else { preconditionFailure("a power of two") }
    for index in queues {
      let queue = try path.makeQueue(index, size: size)
      driver.take(queue, at: index)
    }
    try path.start()
    driver.begin(features)
    publish()
  }

  private mutating func readConfiguration() throws(PathError) {
    var bytes = configuration
    var span = bytes.mutableSpan
    try path.configuration(into: &span)
    configuration = bytes
  }

  /// Shows the device what is new and notifies it if it asked for that.
  mutating func publish() {
    var wanted = driver.publishAll()
    while wanted != 0 {
      path.notify(queue: wanted.trailingZeroBitCount)
      wanted &= wanted &- 1
    }
  }

  /// Whether the device has to be set up again; what it has delivered can still be taken.
  mutating func isLost() -> Bool {
    if case .lost = path.look() { return true }
    return false
  }

  /// Waits for the back-end and sets the device up again.
  mutating func recover() throws(ClientError) {
    progress("the back-end went away; waiting for it")
    driver.end()
    let deadline = cl_monotonic_ns() + patience
    try path.waitForBackend(until: deadline)
    try connect(until: deadline)
    recoveries += 1
    progress("the back-end is back")
  }

  /// Sleeps until the device, ``wakeDescriptor`` or `deadline`, unless something has come already.
  ///
  /// - Throws: also when the process was asked to stop.
  mutating func wait(until deadline: UInt64? = nil) throws(ClientError) {
    if cl_stop_requested() != 0 { throw .interrupted }
    driver.armNotifications()
    path.prepareToSleep()
    let isAwaited = driver.hasCompletion ? true : hasNews()
    if isAwaited {
      path.stayAwake()
      driver.suppressNotifications()
      return
    }
    let end = path.sleep(until: deadline)
    driver.suppressNotifications()
    if cl_stop_requested() != 0 { throw .interrupted }
    if case .gone = end { throw .failed("the platform is gone: did ivshmem-sim stop?") }
  }

  /// Sleeps until ``wakeDescriptor`` is signalled, whatever the device does.
  mutating func waitForWake() throws(ClientError) {
    var entry = cl_poll_entry(fd: wakeDescriptor, events: Int16(CL_POLL_IN), revents: 0)
    if unsafe cl_poll_ns(&entry, 1, -1) > 0 { cl_event_take(wakeDescriptor) }
    if cl_stop_requested() != 0 { throw .interrupted }
  }

  private mutating func hasNews() -> Bool {
    switch path.look() {
    case .nothing: return false
    case .lost: return true
    case .configuration:
      do throws(PathError) {
        try readConfiguration()
      } catch {
        // It is changing right now, or the back-end has gone: the next look tells.
      }
      return true
    }
  }

  /// Leaves on purpose.
  consuming func leave() { path.leave() }
}
