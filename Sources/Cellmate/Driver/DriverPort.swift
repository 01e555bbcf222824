import SharedMemory
import VirtioBlock
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioNet
import Virtqueue

/// The smallest queue with room for `count` descriptors.
func entries(holding count: Int) -> QueueSize {
  var size: UInt32 = 1
  while size < UInt32(count) { size *= 2 }
  guard let size = QueueSize(size) else { preconditionFailure("a power of two") }
  return size
}

/// One of the four drivers, as ``DriverObject`` sees them: it has queues and knows no transport.
///
/// Exactly one is there. They stay where they are: a value that cannot be copied can only be moved
/// out of an enumeration and back.
struct DriverPort: ~Copyable {
  var block: BlockPort?
  var entropy: EntropyDriver?
  var console: ConsolePort?
  var network: NetworkPort?

  init(_ block: consuming BlockPort) { self.block = block }
  init(_ entropy: consuming EntropyDriver) { self.entropy = entropy }
  init(_ console: consuming ConsolePort) { self.console = console }
  init(_ network: consuming NetworkPort) { self.network = network }

  /// Requests of an entropy driver at once, at most.
  static var entropyDepth: Int { 64 }

  /// What it drives.
  var kind: DeviceKind {
    if block != nil { return BlockPort.kind }
    if entropy != nil { return DeviceKind(id: EntropyFormat.deviceID, name: "an entropy device") }
    return console != nil ? ConsolePort.kind : NetworkPort.kind
  }

  /// Features it uses when they are offered.
  func wanted(_ way: borrowing DeviceWay) -> FeatureSet {
    if block != nil { return BlockPort.wanted(way) }
    if console != nil { return ConsolePort.wanted }
    switch network {
    case .some(let network): return network.wanted
    case nil: return .eventIndex
    }
  }

  /// Entries of each of its queues.
  var queueSize: QueueSize {
    mutating get {
      if block != nil { return entries(holding: BlockPort.entries(block!.depth)) }
      if console != nil { return entries(holding: console!.driver.layout.queueSize) }
      if network != nil { return entries(holding: network!.driver.layout.queueSize) }
      return entries(holding: Self.entropyDepth)
    }
  }

  /// The queues it uses of a device with these features and this configuration, one bit each.
  mutating func queues(
    _ features: FeatureSet, _ configuration: InlineArray<64, UInt8>
  ) throws(FaceError) -> UInt32 {
    if console != nil { return try console!.queues(features, configuration) }
    if network != nil { return try network!.queues(features, configuration) }
    return 1
  }

  /// Takes a fresh queue.
  mutating func take(
    _ queue: consuming DriverQueue, at index: Int, _ features: FeatureSet,
    _ configuration: InlineArray<64, UInt8>
  ) {
    if block != nil {
      do throws(BlockDriverError) {
        try block!.driver.attach(
          queue: queue, configuration: BlockPort.configuration(configuration, features),
          features: features)
      } catch { preconditionFailure("the ring holds every request") }
    } else if console != nil {
      console!.driver.attach(queue, at: index)
    } else if network != nil {
      network!.take(queue, at: index)
    } else {
      entropy!.attach(queue: queue)
    }
  }

  /// The device runs.
  mutating func begin(_ features: FeatureSet) {
    if console != nil { return console!.driver.begin(features: features) }
    if network != nil { return network!.driver.begin(features: features) }
    if entropy != nil { entropy!.ask() }
  }

  /// The device has gone.
  mutating func end() {
    if block != nil { return block!.driver.detachQueue() }
    if console != nil { return console!.driver.detach() }
    if network != nil { return network!.driver.detach() }
    entropy!.detachQueue()
  }

  /// The configuration space was read again.
  mutating func update(_ features: FeatureSet, _ configuration: InlineArray<64, UInt8>) {
    guard block != nil else { return }
    block!.driver.update(configuration: BlockPort.configuration(configuration, features))
  }

  /// Shows the device everything new; the queues that want to be notified, one bit each.
  mutating func publish() -> UInt32 {
    if block != nil { return block!.driver.publish() ? 1 : 0 }
    if console != nil { return console!.driver.publish() }
    if network != nil { return network!.publish() }
    return entropy!.publish() ? 1 : 0
  }

  /// Whether the device has returned something that was not yet taken.
  var hasCompletion: Bool {
    mutating get {
      if block != nil { return block!.driver.hasCompletion }
      if console != nil { return console!.driver.hasCompletion }
      if network != nil { return network!.driver.hasCompletion }
      return entropy!.hasCompletion
    }
  }

  /// Asks the device for notifications.
  mutating func arm() {
    if block != nil { return block!.driver.armNotifications() }
    if console != nil { return console!.driver.armNotifications() }
    if network != nil { return network!.driver.armNotifications() }
    entropy!.armNotifications()
  }

  /// Asks the device to stay quiet.
  mutating func suppress() {
    if block != nil { return block!.driver.suppressNotifications() }
    if console != nil { return console!.driver.suppressNotifications() }
    if network != nil { return network!.driver.suppressNotifications() }
    entropy!.suppressNotifications()
  }
}
