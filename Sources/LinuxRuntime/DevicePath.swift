import CommandOptions
import SharedMemory
import VirtioDevice
import Virtqueue

/// A device type a tool drives.
struct DeviceKind {
  /// Its number (VIRTIO 1.4, chapter 5).
  let id: UInt32
  /// What people call it, with its article.
  let name: String
}

/// Who may write a buffer.
enum BufferUse {
  /// The driver fills it, the device reads it.
  case toDevice
  /// The device fills it.
  case fromDevice
}

/// Why a set-up ended.
enum PathError: Error {
  /// The back-end went away in the middle: wait for it and begin again.
  case lost
  /// It will not get better.
  case failed(ClientError)
}

/// What a look at the back-end found; the same until it is acted upon.
enum PathNews {
  case nothing
  /// The configuration space changed.
  case configuration
  /// The device has to be set up again.
  case lost
}

/// The way from a tool to a device of any kind: an ivshmem link, or a vhost-user socket.
protocol DevicePath: ~Copyable {
  /// The shared memory the buffers lie in.
  var region: SharedRegion { get }
  /// Notifications sent to the device.
  var notificationCount: UInt64 { get }
  /// A descriptor that ends a sleep when it is signalled.
  var wakeDescriptor: Int32 { get }

  /// A buffer; `nil` when there is no room.
  mutating func allocate(_ count: Int, _ use: BufferUse) -> BufferSegment?
  /// Takes a buffer back that is not in use.
  mutating func free(_ segment: BufferSegment, _ use: BufferUse)
  /// Waits for a back-end until `deadline` (monotonic nanoseconds) and agrees on features.
  mutating func negotiate(
    _ kind: DeviceKind, wanted: FeatureSet, until deadline: UInt64
  ) throws(PathError) -> FeatureSet
  /// Copies the configuration space from its start on.
  mutating func configuration(into bytes: inout MutableSpan<UInt8>) throws(PathError)
  /// Makes queue `index` and gives it to the device; its memory is that of the one before.
  mutating func makeQueue(_ index: Int, size: QueueSize) throws(PathError) -> DriverQueue
  /// Starts the device.
  mutating func start() throws(PathError)
  /// Tells the device that a queue moved.
  mutating func notify(queue: Int)
  /// Looks at the back-end.
  mutating func look() -> PathNews
  /// Says that this side is about to sleep, with a full fence behind; then look once more.
  mutating func prepareToSleep()
  /// The last look found something.
  mutating func stayAwake()
  /// Sleeps until the device or ``wakeDescriptor`` calls, or until `deadline`.
  mutating func sleep(until deadline: UInt64?) -> PathWait
  /// Waits until there is a back-end again.
  mutating func waitForBackend(until deadline: UInt64) throws(ClientError)
  /// Leaves on purpose.
  mutating func leave()
}

/// Where the rings of a queue lie.
struct QueueRings {
  let size: QueueSize
  let table: BufferSegment
  let available: BufferSegment
  let used: BufferSegment

  /// Takes the rings out of a path's memory; `nil` when there is no room.
  init?(_ size: QueueSize, _ allocate: (Int, BufferUse) -> BufferSegment?) {
    let layout = QueueLayout(size)
    guard let table = allocate(layout.descriptorTable, .toDevice),
      let available = allocate(layout.availableRing, .toDevice),
      let used = allocate(layout.usedRing, .fromDevice)
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

extension ClientError {
  /// The memory of a path is used up.
  static var noRoom: ClientError {
    .usage(UsageError("the link's memory cannot hold this device's buffers; make it larger"))
  }
}
