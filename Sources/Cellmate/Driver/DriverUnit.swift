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
struct DriverUnit: ~Copyable {
  var block = Slot<BlockUnit>()
  var entropy = Slot<EntropyDriver>()
  var console = Slot<ConsoleUnit>()
  var network = Slot<NetworkUnit>()

  init(_ block: consuming BlockUnit) { self.block = Slot(block) }
  init(_ entropy: consuming EntropyDriver) { self.entropy = Slot(entropy) }
  init(_ console: consuming ConsoleUnit) { self.console = Slot(console) }
  init(_ network: consuming NetworkUnit) { self.network = Slot(network) }

  /// Requests of an entropy driver at once, at most.
  static var entropyDepth: Int { 64 }

  /// What it drives.
  var kind: DeviceKind {
    if block.isThere { return BlockUnit.kind }
    if entropy.isThere { return DeviceKind(id: EntropyFormat.deviceID, name: "an entropy device") }
    return console.isThere ? ConsoleUnit.kind : NetworkUnit.kind
  }

  /// Features it uses when they are offered.
  func wanted(_ way: borrowing DeviceWay) -> FeatureSet {
    if block.isThere { return BlockUnit.wanted(way) }
    if console.isThere { return ConsoleUnit.wanted }
    return network.isThere ? network.value.wanted : .eventIndex
  }

  /// Bytes of the configuration space that are read.
  var configurationSize: Int { block.isThere ? BlockConfiguration.size : 64 }

  /// Entries of each of its queues.
  var queueSize: QueueSize {
    if block.isThere { return entries(holding: BlockUnit.entries(block.value.depth)) }
    if console.isThere { return entries(holding: console.value.driver.layout.queueSize) }
    if network.isThere { return entries(holding: network.value.driver.layout.queueSize) }
    return entries(holding: Self.entropyDepth)
  }

  /// The queues it uses of a device with these features and this configuration, one bit each.
  mutating func queues(
    _ features: FeatureSet, _ configuration: InlineArray<64, UInt8>
  ) throws(FaceError) -> UInt32 {
    if console.isThere { return try console.value.queues(features, configuration) }
    if network.isThere { return try network.value.queues(features, configuration) }
    return 1
  }

  /// Takes a fresh queue.
  mutating func take(
    _ queue: consuming DriverQueue, at index: Int, _ features: FeatureSet,
    _ configuration: InlineArray<64, UInt8>
  ) {
    if block.isThere {
      do throws(BlockDriverError) {
        try block.value.driver.attach(
          queue: queue, configuration: BlockUnit.configuration(configuration, features),
          features: features)
      } catch { preconditionFailure("the ring holds every request") }
    } else if console.isThere {
      console.value.driver.attach(queue, at: index)
    } else if network.isThere {
      network.value.take(queue, at: index)
    } else {
      entropy.value.attach(queue: queue)
    }
  }

  /// The device runs.
  mutating func begin(_ features: FeatureSet) {
    if console.isThere { return console.value.driver.begin(features: features) }
    if network.isThere { return network.value.driver.begin(features: features) }
    if entropy.isThere { entropy.value.ask() }
  }

  /// The device has gone.
  mutating func end() {
    if block.isThere { return block.value.driver.detachQueue() }
    if console.isThere { return console.value.driver.detach() }
    if network.isThere { return network.value.driver.detach() }
    entropy.value.detachQueue()
  }

  /// The configuration space was read again.
  mutating func update(_ features: FeatureSet, _ configuration: InlineArray<64, UInt8>) {
    guard block.isThere else { return }
    block.value.driver.update(configuration: BlockUnit.configuration(configuration, features))
  }

  /// Shows the device everything new; the queues that want to be notified, one bit each.
  mutating func publish() -> UInt32 {
    if block.isThere { return block.value.driver.publish() ? 1 : 0 }
    if console.isThere { return console.value.driver.publish() }
    if network.isThere { return network.value.publish() }
    return entropy.value.publish() ? 1 : 0
  }

  /// Whether the device has returned something that was not yet taken.
  var hasCompletion: Bool {
    if block.isThere { return block.value.driver.hasCompletion }
    if console.isThere { return console.value.driver.hasCompletion }
    if network.isThere { return network.value.driver.hasCompletion }
    return entropy.value.hasCompletion
  }

  /// Asks the device for notifications.
  @inline(never)
  mutating func arm() {
    if block.isThere { return block.value.driver.armNotifications() }
    if console.isThere { return console.value.driver.armNotifications() }
    if network.isThere { return network.value.driver.armNotifications() }
    entropy.value.armNotifications()
  }

  /// Asks the device to stay quiet.
  mutating func suppress() {
    if block.isThere { return block.value.driver.suppressNotifications() }
    if console.isThere { return console.value.driver.suppressNotifications() }
    if network.isThere { return network.value.driver.suppressNotifications() }
    entropy.value.suppressNotifications()
  }
}
