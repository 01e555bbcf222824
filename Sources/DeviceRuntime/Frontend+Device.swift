import IVShmem
import SharedMemory
public import VirtioDevice
import VirtioTransport
public import Virtqueue

extension Frontend where P: ~Copyable {
  /// Brings the device in `slot` to FEATURES_OK (VIRTIO 1.4, 3.1.1, steps 1 to 6): reset,
  /// ACKNOWLEDGE, DRIVER, feature negotiation. Returns what was agreed. A device that does not
  /// offer or accept what is needed is left with FAILED.
  ///
  /// - Parameters:
  ///   - deviceID: the VIRTIO device type the caller drives.
  ///   - wanted: features used when offered; ``FeatureSet/required`` is always demanded.
  public mutating func negotiate(
    slot: Int, deviceID: UInt32, wanted: FeatureSet
  ) throws(FrontendError) -> FeatureSet {
    try identify(slot, deviceID)
    do throws(FrontendError) {
      try write(slot: slot, .status, 0)
    } catch {
      guard case .deadline = error else { throw error }
      throw .deadline(.reset)
    }
    // The reset is over when the status says so (VIRTIO 1.4, 2.4.2).
    guard try read(slot: slot, .status) == 0 else { throw .deadline(.reset) }
    do throws(FrontendError) {
      return try agree(slot, wanted)
    } catch {
      // Giving up is said, where there is still somebody to hear it; the next attempt resets.
      switch error {
      case .refused, .missingFeatures, .featuresRefused:
        let status: DeviceStatus = .acknowledge | .driver | .failed
        // The caller hears the first error, whatever the device makes of this one.
        do throws(FrontendError) { try write(slot: slot, .status, UInt32(status.rawValue)) } catch {
        }
      case .deadline, .linkLost, .notVirtio, .wrongDevice, .queueResetIncomplete, .interrupted,
        .platformGone:
        break
      }
      throw error
    }
  }

  /// What the device in `slot` offers; nothing is set up, and what is set up stays.
  public mutating func offeredFeatures(
    slot: Int, deviceID: UInt32
  ) throws(FrontendError) -> FeatureSet {
    try identify(slot, deviceID)
    return try readOffer(slot)
  }

  /// A window that is no virtio-mmio of version 2 is left alone (VIRTIO 1.4, 4.2.3.1.1).
  private mutating func identify(_ slot: Int, _ deviceID: UInt32) throws(FrontendError) {
    let magic = try read(slot: slot, .magicValue)
    let version = try read(slot: slot, .version)
    guard magic == MMIORegister.magic, version == 2 else {
      throw .notVirtio(magic: magic, version: version)
    }
    let found = try read(slot: slot, .deviceID)
    guard found == deviceID else { throw .wrongDevice(found: found, expected: deviceID) }
  }

  private mutating func readOffer(_ slot: Int) throws(FrontendError) -> FeatureSet {
    try write(slot: slot, .deviceFeaturesSelector, 0)
    let low = try read(slot: slot, .deviceFeatures)
    try write(slot: slot, .deviceFeaturesSelector, 1)
    let high = try read(slot: slot, .deviceFeatures)
    return FeatureSet(rawValue: UInt64(high) << 32 | UInt64(low))
  }

  /// Steps 2 to 6: from ACKNOWLEDGE to FEATURES_OK.
  private mutating func agree(
    _ slot: Int, _ wanted: FeatureSet
  ) throws(FrontendError) -> FeatureSet {
    var status: DeviceStatus = .acknowledge
    try write(slot: slot, .status, UInt32(status.rawValue))
    status.insert(.driver)
    try write(slot: slot, .status, UInt32(status.rawValue))
    let offered = try readOffer(slot)
    guard FeatureSet.required.isSubset(of: offered) else {
      throw .missingFeatures(FeatureSet.required.subtracting(offered))
    }
    let agreed = offered.intersection(wanted).union(.required)
    try write(slot: slot, .driverFeaturesSelector, 0)
    try write(slot: slot, .driverFeatures, UInt32(truncatingIfNeeded: agreed.rawValue))
    try write(slot: slot, .driverFeaturesSelector, 1)
    try write(slot: slot, .driverFeatures, UInt32(truncatingIfNeeded: agreed.rawValue >> 32))
    status.insert(.featuresOK)
    try write(slot: slot, .status, UInt32(status.rawValue))
    let shown = DeviceStatus(
      rawValue: UInt8(truncatingIfNeeded: try read(slot: slot, .status)))
    guard shown.contains(.featuresOK) else { throw .featuresRefused(wanted: agreed) }
    return agreed
  }

  /// The largest size of a queue; 0 when the device has no such queue.
  public mutating func maximumQueueSize(
    slot: Int, queue: Int
  ) throws(FrontendError) -> UInt32 {
    try write(slot: slot, .queueSelector, UInt32(queue))
    return try read(slot: slot, .queueSizeMax)
  }

  /// Gives a queue its size and addresses and makes it ready.
  public mutating func enableQueue(
    slot: Int, queue: Int, _ configuration: QueueConfiguration
  ) throws(FrontendError) {
    try write(slot: slot, .queueSelector, UInt32(queue))
    try write(slot: slot, .queueSize, UInt32(configuration.size.rawValue))
    let parts: InlineArray<3, (low: MMIORegister, high: MMIORegister, address: UInt64)> = [
      (.queueDescriptorLow, .queueDescriptorHigh, configuration.descriptorTable),
      (.queueDriverLow, .queueDriverHigh, configuration.availableRing),
      (.queueDeviceLow, .queueDeviceHigh, configuration.usedRing),
    ]
    for index in parts.indices {
      let part = parts[index]
      try write(slot: slot, part.low, UInt32(truncatingIfNeeded: part.address))
      try write(slot: slot, part.high, UInt32(truncatingIfNeeded: part.address >> 32))
    }
    try write(slot: slot, .queueReady, 1)
  }

  /// Resets one queue (VIRTIO 1.4, 2.6.1); when it returns the device touches neither its rings
  /// nor its buffers.
  public mutating func resetQueue(slot: Int, queue: Int) throws(FrontendError) {
    try write(slot: slot, .queueSelector, UInt32(queue))
    try write(slot: slot, .queueReset, 1)
    // The driver believes in a queue reset only when it has read it back (VIRTIO 1.4, 2.6.1.1.2).
    guard try read(slot: slot, .queueReset) == 0 else { throw .queueResetIncomplete }
  }

  /// Sets DRIVER_OK: the device is live.
  public mutating func startDevice(slot: Int) throws(FrontendError) {
    let status: DeviceStatus = .acknowledge | .driver | .featuresOK | .driverOK
    try write(slot: slot, .status, UInt32(status.rawValue))
  }

  /// Counts what the device in `slot` changed by itself: its configuration, or its status when it
  /// wants a reset. Look at it before reading either.
  public func changeCount(slot: Int) -> UInt32 {
    let base = link.plan.peerBlock + BlockLayout.deviceSlot(slot)
    // Pairs with the device's release: what the count announces is visible.
    return link.region.load32Acquiring(
      base + BlockLayout.DeviceSlot.configurationCounter.rawValue)
  }

  /// Whether the device in `slot` has met an error that only a reset mends (VIRTIO 1.4, 2.1.2):
  /// none of its requests can be counted on.
  @inline(never)
  public func needsReset(slot: Int) -> Bool {
    let registers =
      link.plan.peerBlock + BlockLayout.deviceSlot(slot)
      + BlockLayout.DeviceSlot.registers.rawValue
    let status = link.region.load32(registers + MMIORegister.status.rawValue)
    return DeviceStatus(rawValue: UInt8(truncatingIfNeeded: status)).contains(.needsReset)
  }

  /// Copies configuration bytes from the mirror under its sequence lock, without a transaction.
  ///
  /// - Throws: ``FrontendError/deadline(_:)`` when the generation does not come to rest.
  public func configuration(
    slot: Int, into bytes: inout MutableSpan<UInt8>
  ) throws(FrontendError) {
    let base = link.plan.peerBlock + BlockLayout.deviceSlot(slot)
    let lock =
      base + BlockLayout.DeviceSlot.registers.rawValue
      + MMIORegister.configurationGeneration.rawValue
    let start = base + BlockLayout.DeviceSlot.configuration.rawValue
    let count = min(bytes.count, MMIORegister.configurationLimit)
    // Bounded: a device that changes its configuration a thousand times meanwhile is broken.
    for _ in 0..<1000 {
      // Pairs with the device's release of the even generation.
      let before = link.region.load32Acquiring(lock)
      if before & 1 == 0 {
        for offset in 0..<count { bytes[offset] = link.region.load8(start + offset) }
        // Pairs with the device's release fence behind the odd generation.
        Ordering.acquireFence()
        if link.region.load32(lock) == before { return }
      }
      Ordering.spinHint()
    }
    throw .deadline(.configuration)
  }
}
