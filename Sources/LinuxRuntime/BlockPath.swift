import SharedMemory
import VirtioBlock
import VirtioDevice
import Virtqueue

/// A finished request on either path.
struct PathCompletion {
  let token: UInt32
  /// `nil` when the device left none, or a wrong one.
  let status: BlockStatus?
  let data: BufferSegment
}

/// How a wait ended.
enum PathWait {
  case event
  /// A signal handler ran.
  case interrupted
  /// What carries the path is gone for good.
  case gone
}

/// The way from a tool to a block device: an ivshmem link, or a vhost-user socket.
protocol BlockPath: ~Copyable {
  /// What the device says of itself; valid once connected.
  var configuration: BlockConfiguration { get }
  /// What was agreed; valid once connected.
  var features: FeatureSet { get }
  /// The shared memory the buffers lie in.
  var region: SharedRegion { get }
  /// Notifications sent to the device.
  var notificationCount: UInt64 { get }
  /// Requests that were submitted again.
  var resubmittedCount: UInt64 { get }
  /// Whether a completion waits to be taken.
  var hasCompletion: Bool { get }
  /// A descriptor that a signal handler signals to end a wait.
  var wakeDescriptor: Int32 { get }

  /// A buffer the device may write; `nil` when there is no room.
  mutating func allocateForReading(_ count: Int) -> BufferSegment?
  /// A buffer the device may read; `nil` when there is no room.
  mutating func allocateForWriting(_ count: Int) -> BufferSegment?
  /// Waits for a back-end until `deadline` (monotonic nanoseconds), sets the device up and submits
  /// again what is open.
  mutating func connect(until deadline: UInt64) throws(ClientError)
  /// Waits until there is a back-end again.
  mutating func waitForBackend(until deadline: UInt64) throws(ClientError)
  /// Notes a request and gives it to the device; read, write or flush.
  mutating func submit(
    _ type: BlockRequestType, sector: UInt64, data: BufferSegment, token: UInt32
  ) throws(ClientError)
  /// Shows the device what was submitted.
  mutating func publish()
  /// The next finished request, or `nil`.
  mutating func nextCompletion() throws(ClientError) -> PathCompletion?
  /// Looks at the back-end; whether the device has to be set up again.
  mutating func isLost() -> Bool
  /// Sleeps until a completion or a change of the back-end.
  mutating func sleep() -> PathWait
  /// Leaves on purpose.
  mutating func leave()
}
