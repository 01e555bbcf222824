public import SharedMemory
public import VirtioDevice
import VirtioTransport
import Virtqueue

/// One device of a link with its registers, its queues and what is open about them.
public struct DeviceSlot<Device: DeviceModel & ~Copyable>: ~Copyable {
  /// What a control operation waits for: the device to stop touching the region.
  enum Pending: Equatable {
    case nothing
    /// A reset, acknowledged when no request is in flight.
    case reset(TransactionWord)
    /// The stop of one queue, acknowledged when no request is in flight.
    case queueStop(Int, TransactionWord)
  }

  /// The device.
  public var device: Device
  /// Its registers.
  public private(set) var registers: RegisterFile
  var queues: PrivateStore<DeviceQueue>
  var arenas: PrivateStore<PrivateArena>
  var segments: ChainSegments
  var pending = Pending.nothing
  var notifications: NotificationCounters
  let mirror: DeviceMirror
  /// Queues that must be looked at whether or not they were notified, one bit each.
  var dirty: UInt32 = 0
  var changeCount: UInt32 = 0
  /// Tells tickets of a queue from those of its predecessor.
  var generation: UInt32 = 0
  /// What is counted about this device.
  public var counters = DeviceCounters()

  /// Prepares a device for slot `index`; `nil` when `arena` cannot hold its queues.
  @inline(never)
  public init?(_ device: consuming Device, index: Int, arena: inout PrivateArena) {
    let identity = RegisterFile.Identity(
      deviceID: device.deviceID, vendorID: 0x4d43, queueCount: device.queueCount,
      maximumQueueSize: device.maximumQueueSize,
      maximumChainLength: device.maximumChainLength,
      configurationSize: device.configurationSize)
    let offered = device.offeredFeatures.union(.transport)
    let bytes = DeviceQueue.privateBytes(
      size: device.maximumQueueSize, maximumChainLength: device.maximumChainLength)
    guard let queues = PrivateStore<DeviceQueue>(count: identity.queueCount, in: &arena),
      var arenas = PrivateStore<PrivateArena>(count: identity.queueCount, in: &arena),
      let segments = ChainSegments(capacity: device.maximumChainLength, arena: &arena)
    else { return nil }
    for queue in 0..<identity.queueCount {
      guard let own = arena.split(bytes) else { return nil }
      arenas.put(own, at: queue)
    }
    registers = RegisterFile(identity: identity, offered: offered)
    self.device = device
    self.queues = queues
    self.arenas = arenas
    self.segments = segments
    notifications = NotificationCounters(slot: index)
    mirror = DeviceMirror(slot: index)
  }

  /// Whether nothing of this device can touch the region any more.
  var isQuiet: Bool { device.inFlightCount == 0 }

  /// Whether queues may be served.
  var isRunning: Bool {
    registers.status.contains(.driverOK)
      && registers.status.isDisjoint(with: .needsReset | .failed) && pending == .nothing
  }

  /// Drops all queues and lets in-flight requests end: the pairing is over.
  @inline(never)
  mutating func abort() {
    for queue in 0..<queues.count where queues.isOccupied(queue) {
      _ = queues.remove(at: queue)
    }
    pending = .nothing
    dirty = 0
    device.stop()
    registers.resetCompleted()
  }

  mutating func withRegisters<Result>(_ body: (inout RegisterFile) -> Result) -> Result {
    body(&registers)
  }

  /// Builds the queue at `index`.
  mutating func enableQueue(
    _ index: Int, _ configuration: QueueConfiguration, region: SharedRegion, access: AccessMap
  ) throws(QueueError) {
    if queues.isOccupied(index) { _ = queues.remove(at: index) }
    arenas[index].reuse()
    generation &+= 1
    let queue = try DeviceQueue(
      configuration, in: region, access: access, arena: &arenas[index], generation: generation)
    queues.put(queue, at: index)
    dirty |= 1 << UInt32(index)
  }
}

/// What is counted about one device; never reset.
public struct DeviceCounters: Equatable, Sendable {
  /// Chains taken.
  public var chains: UInt64 = 0
  /// Notifications sent to the driver.
  public var notificationsSent: UInt64 = 0
  /// Notifications seen from the driver.
  public var notificationsSeen: UInt64 = 0
  /// Transactions executed.
  public var transactions: UInt64 = 0
  /// Transactions refused.
  public var refusals: UInt64 = 0
  /// Queues that broke.
  public var queueErrors: UInt64 = 0
  /// The reason of the last queue error; 0 when none.
  public var lastQueueError: UInt32 = 0
  /// Resets by the driver.
  public var resets: UInt64 = 0

  /// All zero.
  public init() {}
}
