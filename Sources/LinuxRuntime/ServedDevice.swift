import HostResources
public import SharedMemory
import VirtioBlock
import VirtioConsole
public import VirtioDevice
import VirtioEntropy
import VirtioNet
public import Virtqueue

/// A device of any kind that a back-end process serves, so that one link may carry all of them.
///
/// The devices lie in stores of one place: a payload of an enum that cannot be copied can only be
/// moved out, changed and moved back, once a chain.
public struct ServedDevice: DeviceModel, ~Copyable {
  typealias Block = BlockDevice<FileBlockHost>
  typealias Console = ConsoleDevice<LinuxConsoleHost>
  typealias Entropy = EntropyDevice<RandomEntropyHost>
  typealias Network = NetDevice<SwitchPortHost>

  enum Kind {
    case block
    case console
    case entropy
    case network
  }

  let kind: Kind
  var block: PrivateStore<Block>
  var console: PrivateStore<Console>
  var entropy: PrivateStore<Entropy>
  var network: PrivateStore<Network>

  /// An empty place for every kind; ``make(_:wakeDescriptor:log:)`` fills the one of `kind`.
  init(_ kind: Kind, arena: inout PrivateArena) {
    guard let block = PrivateStore<Block>(count: 1, in: &arena),
      let console = PrivateStore<Console>(count: 1, in: &arena),
      let entropy = PrivateStore<Entropy>(count: 1, in: &arena),
      let network = PrivateStore<Network>(count: 1, in: &arena)
    else { preconditionFailure("the arena of a device holds its places") }
    self.kind = kind
    self.block = block
    self.console = console
    self.entropy = entropy
    self.network = network
  }

  // MARK: DeviceModel

  /// The kind's number (VIRTIO 1.4, chapter 5).
  @inline(never)
  public var deviceID: UInt32 {
    switch kind {
    case .block: block[0].deviceID
    case .console: console[0].deviceID
    case .entropy: entropy[0].deviceID
    case .network: network[0].deviceID
    }
  }

  /// Number of queues.
  @inline(never)
  public var queueCount: Int {
    switch kind {
    case .block: block[0].queueCount
    case .console: console[0].queueCount
    case .entropy: entropy[0].queueCount
    case .network: network[0].queueCount
    }
  }

  /// The largest size of every queue.
  @inline(never)
  public var maximumQueueSize: QueueSize {
    switch kind {
    case .block: block[0].maximumQueueSize
    case .console: console[0].maximumQueueSize
    case .entropy: entropy[0].maximumQueueSize
    case .network: network[0].maximumQueueSize
    }
  }

  /// Descriptors one chain may have.
  @inline(never)
  public var maximumChainLength: Int {
    switch kind {
    case .block: block[0].maximumChainLength
    case .console: console[0].maximumChainLength
    case .entropy: entropy[0].maximumChainLength
    case .network: network[0].maximumChainLength
    }
  }

  /// Features on offer.
  @inline(never)
  public var offeredFeatures: FeatureSet {
    switch kind {
    case .block: block[0].offeredFeatures
    case .console: console[0].offeredFeatures
    case .entropy: entropy[0].offeredFeatures
    case .network: network[0].offeredFeatures
    }
  }

  /// Bytes of configuration space.
  @inline(never)
  public var configurationSize: Int {
    switch kind {
    case .block: block[0].configurationSize
    case .console: console[0].configurationSize
    case .entropy: entropy[0].configurationSize
    case .network: network[0].configurationSize
    }
  }

  /// One byte of configuration space.
  @inline(never)
  public func configurationByte(at offset: Int) -> UInt8 {
    switch kind {
    case .block: block[0].configurationByte(at: offset)
    case .console: console[0].configurationByte(at: offset)
    case .entropy: entropy[0].configurationByte(at: offset)
    case .network: network[0].configurationByte(at: offset)
    }
  }

  /// The driver writes configuration space.
  @inline(never)
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    switch kind {
    case .block: block[0].writeConfiguration(at: offset, width: width, value: value)
    case .console: console[0].writeConfiguration(at: offset, width: width, value: value)
    case .entropy: entropy[0].writeConfiguration(at: offset, width: width, value: value)
    case .network: network[0].writeConfiguration(at: offset, width: width, value: value)
    }
  }

  /// DRIVER_OK.
  @inline(never)
  public mutating func start(features: FeatureSet) {
    switch kind {
    case .block: block[0].start(features: features)
    case .console: console[0].start(features: features)
    case .entropy: entropy[0].start(features: features)
    case .network: network[0].start(features: features)
    }
  }

  /// In the place of a back-end that ended; disks and random numbers know of nothing before.
  @inline(never)
  public mutating func resume(features: FeatureSet) {
    switch kind {
    case .console: console[0].resume(features: features)
    case .network: network[0].resume(features: features)
    case .block, .entropy: start(features: features)
    }
  }

  /// Whether another chain of `queue` can be served now.
  @inline(never)
  public func canServe(queue: Int) -> Bool {
    switch kind {
    case .block: block[0].canServe(queue: queue)
    case .console: console[0].canServe(queue: queue)
    case .entropy: entropy[0].canServe(queue: queue)
    case .network: network[0].canServe(queue: queue)
    }
  }

  /// Serves one chain.
  @inline(never)
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    switch kind {
    case .block: block[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .console: console[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .entropy: entropy[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .network: network[0].serve(chain, segments, index: index, on: &queue, in: region)
    }
  }

  /// The next finished request.
  @inline(never)
  public mutating func nextCompletion() -> DeviceCompletion? {
    switch kind {
    case .block: block[0].nextCompletion()
    case .console: console[0].nextCompletion()
    case .entropy: entropy[0].nextCompletion()
    case .network: network[0].nextCompletion()
    }
  }

  /// Requests under way.
  @inline(never)
  public var inFlightCount: Int {
    switch kind {
    case .block: block[0].inFlightCount
    case .console: console[0].inFlightCount
    case .entropy: entropy[0].inFlightCount
    case .network: network[0].inFlightCount
    }
  }

  /// The driver has reset the device.
  @inline(never)
  public mutating func stop() {
    switch kind {
    case .block: block[0].stop()
    case .console: console[0].stop()
    case .entropy: entropy[0].stop()
    case .network: network[0].stop()
    }
  }

  /// The driver has reset one queue.
  @inline(never)
  public mutating func cancel(queue: Int) {
    switch kind {
    case .block: block[0].cancel(queue: queue)
    case .console: console[0].cancel(queue: queue)
    case .entropy: entropy[0].cancel(queue: queue)
    case .network: network[0].cancel(queue: queue)
    }
  }

  /// How large requests may be.
  @inline(never)
  public mutating func adapt(toPool byteCount: Int) {
    switch kind {
    case .block: block[0].adapt(toPool: byteCount)
    case .entropy: entropy[0].adapt(toPool: byteCount)
    case .network: network[0].adapt(toPool: byteCount)
    case .console: console[0].adapt(toPool: byteCount)
    }
  }

  /// Whether the configuration space changed.
  @inline(never)
  public mutating func takeConfigurationChange() -> Bool {
    switch kind {
    case .block: block[0].takeConfigurationChange()
    case .console: console[0].takeConfigurationChange()
    case .entropy: entropy[0].takeConfigurationChange()
    case .network: network[0].takeConfigurationChange()
    }
  }
}
