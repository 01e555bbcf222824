import HostResources
import SharedMemory
import VirtioBlock
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioNet
import Virtqueue

/// A device of one of four kinds. While it works on a chain, AddressSanitizer refuses everything
/// in the shared memory but that chain and the ring it goes back to; while it looks at its host,
/// everything but the chains that it holds.
struct FuzzedDevice: DeviceModel, ~Copyable {
  typealias Medium = FaultyBlockHost<FuzzedMedium>
  typealias Block = BlockDevice<StrayingBlockHost<Medium>>
  typealias Console = ConsoleDevice<EchoConsoleHost>
  typealias Entropy = EntropyDevice<CountingHost>
  typealias Network = NetDevice<EchoNetHost>
  enum Kind { case block, console, entropy, network }

  let kind: Kind
  private let script: HostScript
  private var held = HeldChains()
  var block: PrivateStore<Block>
  var console: PrivateStore<Console>
  var entropy: PrivateStore<Entropy>
  var network: PrivateStore<Network>

  static var mediumBytes: Int { 64 << 10 }

  @inline(never)
  init(
    _ kind: Kind, plan: Medium.Plan, script: HostScript, arena: inout PrivateArena
  ) {
    guard let size = QueueSize(16), let block = PrivateStore<Block>(count: 1, in: &arena),
      let console = PrivateStore<Console>(count: 1, in: &arena),
      let entropy = PrivateStore<Entropy>(count: 1, in: &arena),
      let network = PrivateStore<Network>(count: 1, in: &arena)
    else { preconditionFailure("the books hold a device") }
    self.kind = kind
    self.script = script
    self.block = block
    self.console = console
    self.entropy = entropy
    self.network = network
    switch kind {
    case .block:
      let medium = Medium(
        FuzzedMedium(byteCount: Self.mediumBytes, file: script.file, arena: &arena), plan: plan)
      guard
        let made = Block(
          host: StrayingBlockHost(base: medium, script: script), queueCount: 2,
          maximumQueueSize: size, slots: 8,
          arena: &arena)
      else { preconditionFailure("the books hold a device") }
      self.block.put(made, at: 0)
    case .console:
      guard
        let made = Console(
          host: EchoConsoleHost(script: script), maximumQueueSize: size, arena: &arena)
      else { preconditionFailure("the books hold a device") }
      self.console.put(made, at: 0)
    case .entropy:
      self.entropy.put(Entropy(host: CountingHost(script: script), maximumQueueSize: size), at: 0)
    case .network:
      guard
        let made = Network(
          host: EchoNetHost(script: script), pairs: 1, maximumQueueSize: size, arena: &arena)
      else { preconditionFailure("the books hold a device") }
      self.network.put(made, at: 0)
    }
  }

  var deviceID: UInt32 {
    switch kind {
    case .block: block[0].deviceID
    case .console: console[0].deviceID
    case .entropy: entropy[0].deviceID
    case .network: network[0].deviceID
    }
  }

  var queueCount: Int {
    switch kind {
    case .block: block[0].queueCount
    case .console: console[0].queueCount
    case .entropy: entropy[0].queueCount
    case .network: network[0].queueCount
    }
  }

  var maximumQueueSize: QueueSize {
    switch kind {
    case .block: block[0].maximumQueueSize
    case .console: console[0].maximumQueueSize
    case .entropy: entropy[0].maximumQueueSize
    case .network: network[0].maximumQueueSize
    }
  }

  var maximumChainLength: Int {
    switch kind {
    case .block: block[0].maximumChainLength
    case .console: console[0].maximumChainLength
    case .entropy: entropy[0].maximumChainLength
    case .network: network[0].maximumChainLength
    }
  }

  var offeredFeatures: FeatureSet {
    switch kind {
    case .block: block[0].offeredFeatures
    case .console: console[0].offeredFeatures
    case .entropy: entropy[0].offeredFeatures
    case .network: network[0].offeredFeatures
    }
  }

  var configurationSize: Int {
    switch kind {
    case .block: block[0].configurationSize
    case .console: console[0].configurationSize
    case .entropy: entropy[0].configurationSize
    case .network: network[0].configurationSize
    }
  }

  func configurationByte(at offset: Int) -> UInt8 {
    switch kind {
    case .block: block[0].configurationByte(at: offset)
    case .console: console[0].configurationByte(at: offset)
    case .entropy: entropy[0].configurationByte(at: offset)
    case .network: network[0].configurationByte(at: offset)
    }
  }

  mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    switch kind {
    case .block: block[0].writeConfiguration(at: offset, width: width, value: value)
    case .console: console[0].writeConfiguration(at: offset, width: width, value: value)
    case .entropy: entropy[0].writeConfiguration(at: offset, width: width, value: value)
    case .network: network[0].writeConfiguration(at: offset, width: width, value: value)
    }
  }

  mutating func start(features: FeatureSet) {
    switch kind {
    case .block: block[0].start(features: features)
    case .console: console[0].start(features: features)
    case .entropy: entropy[0].start(features: features)
    case .network: network[0].start(features: features)
    }
  }

  func canServe(queue: Int) -> Bool {
    switch kind {
    case .block: block[0].canServe(queue: queue)
    case .console: console[0].canServe(queue: queue)
    case .entropy: entropy[0].canServe(queue: queue)
    case .network: network[0].canServe(queue: queue)
    }
  }

  mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    let own = ranges(segments)
    fence(own, in: region)
    #if CELLMATE_WATCH
      queue.allowUsedRing()
      let ticket = chain.ticket
    #endif
    if script.strays, kind == .network { _ = region.load8(region.count - 1) }
    switch kind {
    case .block: block[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .console: console[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .entropy: entropy[0].serve(chain, segments, index: index, on: &queue, in: region)
    case .network:
      // The last buffer of a frame goes back together with the first, whose header is finished then.
      #if CELLMATE_WATCH
        network[0].allowMark(in: region)
      #endif
      network[0].serve(chain, segments, index: index, on: &queue, in: region)
    }
    unfence(region)
    #if CELLMATE_WATCH
      held.note(ticket, own, index: index, on: queue, in: region)
    #endif
  }

  /// Looks at the host, with nothing of the memory but the chains that the device holds.
  mutating func nextCompletion() -> DeviceCompletion? {
    held.fence(strays: script.straysLate == kind)
    defer { held.unfence() }
    let completion =
      switch kind {
      case .block: block[0].nextCompletion()
      case .console: console[0].nextCompletion()
      case .entropy: entropy[0].nextCompletion()
      case .network: network[0].nextCompletion()
      }
    if let completion { held.remove(completion.queue, completion.ticket) }
    if inFlightCount == 0 { held.removeAll() }
    return completion
  }

  var inFlightCount: Int {
    switch kind {
    case .block: block[0].inFlightCount
    case .console: console[0].inFlightCount
    case .entropy: entropy[0].inFlightCount
    case .network: network[0].inFlightCount
    }
  }

  mutating func stop() {
    held.fence(strays: false)
    defer { held.unfence() }
    switch kind {
    case .block: block[0].stop()
    case .console: console[0].stop()
    case .entropy: entropy[0].stop()
    case .network: network[0].stop()
    }
  }

  mutating func cancel(queue: Int) {
    held.fence(strays: false)
    defer { held.unfence() }
    switch kind {
    case .block: block[0].cancel(queue: queue)
    case .console: console[0].cancel(queue: queue)
    case .entropy: entropy[0].cancel(queue: queue)
    case .network: network[0].cancel(queue: queue)
    }
  }

  mutating func takeConfigurationChange() -> Bool {
    switch kind {
    case .block: block[0].takeConfigurationChange()
    case .console: console[0].takeConfigurationChange()
    case .entropy: entropy[0].takeConfigurationChange()
    case .network: network[0].takeConfigurationChange()
    }
  }
}
