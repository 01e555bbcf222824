import SharedMemory
public import IVShmem
public import VirtioDevice

/// The back-end's read-only view of its registers and configuration in the device block, so that
/// a tool can look without disturbing and the front-end can read configuration without a
/// transaction.
public struct DeviceMirror: Sendable {
  private let slot: Int

  /// The mirror of one slot.
  public init(slot: Int) { self.slot = slot }

  private func base<P: Platform & ~Copyable>(_ link: borrowing NativeLink<P>) -> Int {
    link.plan.ownBlock + BlockLayout.deviceSlot(slot)
  }

  /// Writes the directory entry of a device.
  public func publishDirectory<P: Platform & ~Copyable>(
    _ identity: RegisterFile.Identity, on link: borrowing NativeLink<P>
  ) {
    let base = base(link)
    link.region.store32(
      UInt32(identity.queueCount), at: base + BlockLayout.DeviceSlot.queueCount.rawValue)
    link.region.store32(
      UInt32(identity.configurationSize),
      at: base + BlockLayout.DeviceSlot.configurationSize.rawValue)
    link.region.store32(identity.deviceID, at: base + BlockLayout.DeviceSlot.deviceID.rawValue)
  }

  /// Writes every readable register.
  public func publishRegisters<P: Platform & ~Copyable>(
    _ registers: borrowing RegisterFile, on link: borrowing NativeLink<P>
  ) {
    let window = base(link) + BlockLayout.DeviceSlot.registers.rawValue
    let shown: InlineArray<9, MMIORegister> = [
      .magicValue, .version, .deviceID, .vendorID, .deviceFeatures, .queueSizeMax, .queueReady,
      .queueReset, .status,
    ]
    for index in shown.indices {
      let register = shown[index]
      guard let value = registers.read(register.rawValue) else { continue }
      link.region.store32(value, at: window + register.rawValue)
    }
  }

  /// Writes the configuration space under its sequence lock: ConfigGeneration is odd meanwhile.
  public func publishConfiguration<P: Platform & ~Copyable, D: DeviceModel & ~Copyable>(
    of device: borrowing D, generation: UInt32, on link: borrowing NativeLink<P>
  ) {
    let base = base(link)
    let lock =
      base + BlockLayout.DeviceSlot.registers.rawValue
      + MMIORegister.configurationGeneration.rawValue
    link.region.store32((generation &- 1) | 1, at: lock)
    // Pairs with the reader's acquire fence before it loads the generation again: who sees new
    // bytes sees the odd generation. Otherwise a torn configuration could pass as whole.
    Ordering.releaseFence()
    let start = base + BlockLayout.DeviceSlot.configuration.rawValue
    for offset in 0..<device.configurationSize {
      link.region.store8(device.configurationByte(at: offset), at: start + offset)
    }
    // Release: the even generation follows every byte.
    link.region.store32Releasing(generation & ~1, at: lock)
  }

  /// Tells the front-end that configuration or status changed without its asking.
  public func announceChange<P: Platform & ~Copyable>(
    count: UInt32, on link: inout NativeLink<P>
  ) {
    link.region.store32Releasing(
      count, at: base(link) + BlockLayout.DeviceSlot.configurationCounter.rawValue)
    link.wakePeer()
  }
}
