public import SharedMemory
public import Virtqueue

/// Limits that the shared blocks of the native transport set for every device.
public enum DeviceLimits {
  /// Queues a device may have: one notification counter each in the blocks.
  public static let queues = 32
}

/// A finished request of an asynchronous device.
public struct DeviceCompletion: Sendable {
  /// The queue it came from.
  public let queue: Int
  /// What the chain was detached as.
  public let ticket: ChainTicket
  /// Bytes the device wrote into the chain.
  public let written: UInt32

  /// Names a finished request.
  @inlinable
  public init(queue: Int, ticket: ChainTicket, written: UInt32) {
    self.queue = queue
    self.ticket = ticket
    self.written = written
  }
}

/// One virtio device type, device side. It sees features, configuration, chains and its host
/// resource; never a platform, a dialect or an address it has not been given checked.
///
/// The one drain loop (`DeviceRuntime`) owns queues, notifications and budgets; a device turns a
/// chain into a byte count, at once or later.
public protocol DeviceModel: ~Copyable {
  /// VIRTIO device type (VIRTIO 1.4, chapter 5).
  var deviceID: UInt32 { get }
  /// Number of queues, 1 ... ``DeviceLimits/queues``; constant.
  var queueCount: Int { get }
  /// The largest size of every queue; constant.
  var maximumQueueSize: QueueSize { get }
  /// Descriptors one chain may have; longer chains are an error of the driver.
  var maximumChainLength: Int { get }
  /// Device-specific features on offer; the transport adds ``FeatureSet/transport``.
  var offeredFeatures: FeatureSet { get }
  /// Bytes of configuration space, at most ``MMIORegister/configurationLimit``; constant.
  var configurationSize: Int { get }

  /// One byte of configuration space; `offset` is below ``configurationSize``.
  func configurationByte(at offset: Int) -> UInt8

  /// The driver wrote `width` bytes (1, 2, 4, 8) at `offset`, wholly inside the space. Returns
  /// whether the field may be written.
  mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool

  /// The driver has set DRIVER_OK; `features` is what was agreed.
  mutating func start(features: FeatureSet)

  /// As ``start(features:)``, in the place of a back-end that ended: the driver runs and will not
  /// say again what it has said to that one on its queues. Serve it so that nothing waits for ever.
  mutating func resume(features: FeatureSet)

  /// Whether another chain of `queue` can be served now. When not, the chain stays in the ring
  /// until a completion makes room.
  func canServe(queue: Int) -> Bool

  /// Serves one chain: completes it on `queue` or detaches it and completes it later through
  /// ``nextCompletion()``.
  mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion)

  /// The next finished request, or `nil` when none has finished. Called in every look at the
  /// device, before its queues: also where a device looks at its host.
  mutating func nextCompletion() -> DeviceCompletion?

  /// Detached requests that are not yet returned by ``nextCompletion()``. A reset is acknowledged
  /// only at 0.
  var inFlightCount: Int { get }

  /// The driver has reset the device: forget negotiated state and let in-flight requests end as
  /// soon as they can.
  mutating func stop()

  /// The driver stops `queue` alone (VIRTIO 1.4, 2.6.1): requests of it that wait for the host end
  /// as soon as they can, each through ``nextCompletion()``.
  mutating func cancel(queue: Int)

  /// The driver's buffers all lie in a pool of `byteCount` bytes, into which it copies: told once,
  /// before anything else, on links where that is so. A device whose requests could be larger than
  /// the pool shows limits that keep them smaller.
  mutating func adapt(toPool byteCount: Int)

  /// Whether the configuration space changed since the last call.
  mutating func takeConfigurationChange() -> Bool
}

extension DeviceModel where Self: ~Copyable {
  /// Nothing waits for long.
  public mutating func cancel(queue: Int) {}
  /// No request is large.
  public mutating func adapt(toPool byteCount: Int) {}
  /// A device that is told nothing but requests begins anew.
  public mutating func resume(features: FeatureSet) { start(features: features) }
}
