public import IVShmem
import SharedMemory
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

extension BlockFrontend where P: ~Copyable {
  /// Features this driver uses when the device offers them.
  static var wanted: FeatureSet {
    FeatureSet.version1.union(.accessPlatform).union(.orderPlatform)
      .union(.ringReset).union(.indirectDescriptors).union(.eventIndex)
      .union(.blockSizeMax).union(.blockSegmentMax).union(.blockReadOnly)
      .union(.blockBlockSize).union(.blockFlush).union(.blockTopology)
      .union(.blockConfigWriteback).union(.blockMultiQueue).union(.blockDiscard)
      .union(.blockWriteZeroes)
  }

  /// Waits for the back-end, sets the device up and submits everything that was in flight, until
  /// it works or `deadline` passes. May be called in any state.
  public mutating func connect(until deadline: Instant) throws(BlockFrontendError) {
    disconnect()
    while true {
      do throws(FrontendError) {
        try frontend.waitForLink(until: deadline)
        try setUp()
        break
      } catch {
        // A back-end that is restarted in the middle of the set-up is waited for again.
        guard case .linkLost = error, frontend.link.platform.now() < deadline else {
          throw .frontend(error)
        }
      }
    }
    counters.connections += 1
    resubmit()
    publish()
  }

  private mutating func setUp() throws(FrontendError) {
    features = try frontend.negotiate(
      slot: slot, deviceID: BlockFormat.deviceID, wanted: Self.wanted)
    changeCount = frontend.changeCount(slot: slot)
    try readConfiguration()
    let limit = try frontend.maximumQueueSize(slot: slot, queue: 0)
    guard limit >= UInt32(size.rawValue) else {
      throw .refused(limit, register: MMIORegister.queueSizeMax.rawValue)
    }
    var ringFeatures = QueueFeatures()
    if features.contains(.indirectDescriptors) { ringFeatures.insert(.indirectDescriptors) }
    if features.contains(.eventIndex) { ringFeatures.insert(.eventIndex) }
    let ring = QueueConfiguration(
      size: size, descriptorTable: access.address(ofOffset: rings[0].offset),
      availableRing: access.address(ofOffset: rings[1].offset),
      usedRing: access.address(ofOffset: rings[2].offset), features: ringFeatures,
      maximumChainLength: 4)
    queueArena.reuse()
    let made: DriverQueue
    do throws(QueueError) {
      made = try DriverQueue(
        ring, in: frontend.link.region, access: access, arena: &queueArena,
        indirectTables: nil)
    } catch { preconditionFailure("the rings were allocated in our own pools") }
    try frontend.enableQueue(slot: slot, queue: 0, ring)
    try frontend.startDevice(slot: slot)
    queue.put(made, at: 0)
  }

  private mutating func readConfiguration() throws(FrontendError) {
    var bytes = InlineArray<64, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    try frontend.configuration(slot: slot, into: &span)
    var reader = CopiedConfiguration(bytes: bytes)
    configuration = BlockConfiguration(reading: &reader, features: features)
  }

  /// Looks whether the device has announced something: a new configuration is read, a device that
  /// wants a reset is let go (VIRTIO 1.4, 2.1.1 and 5.2.6.1).
  mutating func lookAtDevice() {
    let count = frontend.changeCount(slot: slot)
    guard count != changeCount else { return }
    if frontend.needsReset(slot: slot) { return disconnect() }
    do throws(FrontendError) {
      try readConfiguration()
      changeCount = count
    } catch {
      // It is changing right now: the next look tries again.
    }
  }

  /// Puts every open request into the new queue, in the order of submission: a flush stays behind
  /// the writes it covers.
  private mutating func resubmit() {
    var last: UInt64?
    for _ in 0..<openCount {
      var next: Int?
      for index in 0..<requests.count where requests[index].isOpen {
        if let last, requests[index].order <= last { continue }
        if let found = next, requests[found].order < requests[index].order { continue }
        next = index
      }
      guard let next else { return }
      last = requests[next].order
      counters.resubmitted += 1
      add(next)
    }
  }
}

/// The mirror's bytes, of which only the fields of agreed features are looked at (VIRTIO 1.4,
/// 2.5.1).
private struct CopiedConfiguration: ConfigurationReader {
  let bytes: InlineArray<64, UInt8>

  mutating func readConfiguration(at offset: Int, width: Int) throws(Never) -> UInt64 {
    var value: UInt64 = 0
    for index in (offset..<offset + width).reversed() { value = value << 8 | UInt64(bytes[index]) }
    return value
  }
}
