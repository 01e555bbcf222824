import SharedMemory
public import Virtqueue

/// The virtio-mmio registers of one device as a pure state machine (VIRTIO 1.4, 2.1, 3.1 and
/// 4.2.2).
///
/// It holds no shared memory and does no I/O: a read returns a value, a write returns an
/// ``RegisterAction`` that the caller carries out and then confirms. The native transport feeds
/// it transactions; the exit handler of a hypervisor that traps can call the very same methods.
/// No value a driver writes can trap.
public struct RegisterFile: Sendable {
  /// What one queue's registers hold.
  struct QueueRegisters: Sendable {
    var descriptorTable: UInt64 = 0
    var availableRing: UInt64 = 0
    var usedRing: UInt64 = 0
    var size: UInt32 = 0
    // Words, so that the structure has no gap: 32 of them are then cleared in one piece.
    private var ready: UInt16 = 0
    private var resetting: UInt16 = 0

    var isReady: Bool {
      get { ready != 0 }
      set { ready = newValue ? 1 : 0 }
    }

    var isResetting: Bool {
      get { resetting != 0 }
      set { resetting = newValue ? 1 : 0 }
    }

    init(size: UInt32 = 0) { self.size = size }
  }

  /// What never changes about the device.
  public struct Identity: Equatable, Sendable {
    /// VIRTIO device type.
    public let deviceID: UInt32
    /// Vendor of the implementation.
    public let vendorID: UInt32
    /// Number of queues, at most ``DeviceLimits/queues``.
    public let queueCount: Int
    /// The largest size of every queue.
    public let maximumQueueSize: QueueSize
    /// Descriptors one chain may have.
    public let maximumChainLength: Int
    /// Bytes of configuration space.
    public let configurationSize: Int

    /// States what the device is; a count beyond the limits is our bug.
    public init(
      deviceID: UInt32, vendorID: UInt32, queueCount: Int, maximumQueueSize: QueueSize,
      maximumChainLength: Int, configurationSize: Int
    ) {
      precondition(queueCount > 0 && queueCount <= DeviceLimits.queues)
      precondition(
        configurationSize >= 0 && configurationSize <= MMIORegister.configurationLimit)
      self.deviceID = deviceID
      self.vendorID = vendorID
      self.queueCount = queueCount
      self.maximumQueueSize = maximumQueueSize
      self.maximumChainLength = maximumChainLength
      self.configurationSize = configurationSize
    }
  }

  /// What the device is.
  public let identity: Identity
  /// What it offers.
  public let offered: FeatureSet
  /// What a driver has to accept.
  public let required: FeatureSet
  /// The device status as the device shows it.
  public private(set) var status = DeviceStatus()
  /// Features the driver has asked for; agreed once ``status`` holds FEATURES_OK.
  public private(set) var driverFeatures = FeatureSet()
  /// Whether the driver has accepted a feature above bit 63, where nothing is offered: a trapping
  /// caller cannot refuse the write, so FEATURES_OK is refused.
  private var hasForeignFeatures = false
  /// Changes with every change of the configuration space.
  public var configurationGeneration: UInt32 = 0
  /// Bit 0: used buffers, bit 1: configuration change. Local to whoever plays the register page.
  public private(set) var interruptStatus: UInt32 = 0
  private var deviceFeaturesSelector: UInt32 = 0
  private var driverFeaturesSelector: UInt32 = 0
  private var queueSelector: UInt32 = 0
  private var queues: InlineArray<32, QueueRegisters>

  /// A device after reset.
  public init(
    identity: Identity, offered: FeatureSet, required: FeatureSet = FeatureSet.required
  ) {
    self.identity = identity
    self.offered = offered
    self.required = required
    // Zeros first: another value would be written out 32 times.
    queues = InlineArray(repeating: QueueRegisters())
    let size = UInt32(identity.maximumQueueSize.rawValue)
    for index in 0..<identity.queueCount { queues[index].size = size }
  }

  // MARK: Reading

  /// Reads the 32-bit register at `offset`; `nil` when there is no readable register.
  ///
  /// Configuration space is the device's: this file answers only up to `configurationStart`.
  public func read(_ offset: Int) -> UInt32? {
    guard let register = MMIORegister(rawValue: offset) else { return nil }
    switch register {
    case .magicValue: return MMIORegister.magic
    case .version: return 2
    case .deviceID: return identity.deviceID
    case .vendorID: return identity.vendorID
    case .deviceFeatures: return Self.word(offered, deviceFeaturesSelector)
    case .queueSizeMax:
      return selectedQueue == nil ? 0 : UInt32(identity.maximumQueueSize.rawValue)
    case .queueReady: return selectedQueue.map { queues[$0].isReady ? 1 : 0 } ?? 0
    case .queueReset: return selectedQueue.map { queues[$0].isResetting ? 1 : 0 } ?? 0
    case .interruptStatus: return interruptStatus
    case .status: return UInt32(status.rawValue)
    // A length of all ones says that there is no such region (VIRTIO 1.4, 4.2.2).
    case .sharedMemoryLengthLow, .sharedMemoryLengthHigh, .sharedMemoryBaseLow,
      .sharedMemoryBaseHigh:
      return .max
    case .configurationGeneration: return configurationGeneration
    case .deviceFeaturesSelector, .driverFeatures, .driverFeaturesSelector, .queueSelector,
      .queueSize, .queueNotify, .interruptAcknowledge, .queueDescriptorLow, .queueDescriptorHigh,
      .queueDriverLow, .queueDriverHigh, .queueDeviceLow, .queueDeviceHigh, .sharedMemorySelector:
      return nil
    }
  }

  /// The size and addresses of queue `index` as the driver has written them, for tools.
  public func queueState(_ index: Int) -> (size: UInt32, isReady: Bool) {
    precondition(index >= 0 && index < identity.queueCount)
    return (queues[index].size, queues[index].isReady)
  }

  /// The addresses of queue `index` as the driver has written them, for tools: nothing is checked.
  public func queueAddresses(
    _ index: Int
  ) -> (descriptors: UInt64, available: UInt64, used: UInt64) {
    precondition(index >= 0 && index < identity.queueCount)
    let queue = queues[index]
    return (queue.descriptorTable, queue.availableRing, queue.usedRing)
  }

  // MARK: Writing

  /// The driver writes the 32-bit register at `offset`. The caller carries the action out.
  public mutating func write(_ offset: Int, _ value: UInt32) -> RegisterAction {
    guard let register = MMIORegister(rawValue: offset) else {
      return .refuse(.noSuchRegister)
    }
    switch register {
    case .deviceFeaturesSelector: deviceFeaturesSelector = value
    case .driverFeaturesSelector: driverFeaturesSelector = value
    case .driverFeatures: return writeDriverFeatures(value)
    case .queueSelector: queueSelector = value
    case .queueSize: return writeQueue { $0.size = value }
    case .queueDescriptorLow: return writeQueue { Self.setLow(&$0.descriptorTable, value) }
    case .queueDescriptorHigh: return writeQueue { Self.setHigh(&$0.descriptorTable, value) }
    case .queueDriverLow: return writeQueue { Self.setLow(&$0.availableRing, value) }
    case .queueDriverHigh: return writeQueue { Self.setHigh(&$0.availableRing, value) }
    case .queueDeviceLow: return writeQueue { Self.setLow(&$0.usedRing, value) }
    case .queueDeviceHigh: return writeQueue { Self.setHigh(&$0.usedRing, value) }
    case .queueReady: return writeQueueReady(value)
    case .queueReset: return writeQueueReset(value)
    case .queueNotify: return notify(value)
    case .interruptAcknowledge: interruptStatus &= ~value
    case .status: return writeStatus(value)
    case .sharedMemorySelector: break
    case .magicValue, .version, .deviceID, .vendorID, .deviceFeatures, .queueSizeMax,
      .interruptStatus, .sharedMemoryLengthLow, .sharedMemoryLengthHigh, .sharedMemoryBaseLow,
      .sharedMemoryBaseHigh, .configurationGeneration:
      return .refuse(.readOnlyRegister)
    }
    return .none
  }

  // MARK: Confirmations

  /// The device has stopped touching the region: the reset is complete.
  @inline(never)
  public mutating func resetCompleted() {
    let generation = configurationGeneration
    self = RegisterFile(identity: identity, offered: offered, required: required)
    configurationGeneration = generation
  }

  /// The queue at `index` exists now.
  public mutating func queueEnabled(_ index: Int) { queues[index].isReady = true }

  /// The queue at `index` is gone: its reset is complete and its registers are initial again.
  public mutating func queueStopped(_ index: Int) {
    queues[index] = QueueRegisters(size: UInt32(identity.maximumQueueSize.rawValue))
  }

  /// The device has met an error that only a reset mends (VIRTIO 1.4, 2.1.2).
  public mutating func demandReset() { status.insert(.needsReset) }

  /// The device used buffers or changed its configuration.
  public mutating func raise(interrupt bits: UInt32) { interruptStatus |= bits }
}

// MARK: - Single registers

extension RegisterFile {
  @inline(never)
  private var selectedQueue: Int? {
    queueSelector < UInt32(identity.queueCount) ? Int(queueSelector) : nil
  }

  private static func word(_ features: FeatureSet, _ selector: UInt32) -> UInt32 {
    switch selector {
    case 0: UInt32(truncatingIfNeeded: features.rawValue)
    case 1: UInt32(truncatingIfNeeded: features.rawValue >> 32)
    default: 0
    }
  }

  private static func setLow(_ address: inout UInt64, _ value: UInt32) {
    address = address & ~0xffff_ffff | UInt64(value)
  }

  private static func setHigh(_ address: inout UInt64, _ value: UInt32) {
    address = address & 0xffff_ffff | UInt64(value) << 32
  }

  private mutating func writeDriverFeatures(_ value: UInt32) -> RegisterAction {
    // The driver must not change its mind after FEATURES_OK (VIRTIO 1.4, 3.1.1).
    if status.contains(.featuresOK) { return .refuse(.featuresAreSettled) }
    var bits = driverFeatures.rawValue
    switch driverFeaturesSelector {
    case 0: Self.setLow(&bits, value)
    case 1: Self.setHigh(&bits, value)
    default:
      // Words that no device here offers: only zero is acceptable.
      guard value != 0 else { return .none }
      hasForeignFeatures = true
      return .refuse(.featureNotOffered)
    }
    driverFeatures = FeatureSet(rawValue: bits)
    return .none
  }

  @inline(never)
  private mutating func writeQueue(
    _ change: (inout QueueRegisters) -> Void
  ) -> RegisterAction {
    guard let index = selectedQueue else { return .refuse(.noSuchQueue) }
    if queues[index].isReady { return .refuse(.queueIsReady) }
    change(&queues[index])
    return .none
  }

  private mutating func writeQueueReady(_ value: UInt32) -> RegisterAction {
    guard let index = selectedQueue else { return .refuse(.noSuchQueue) }
    switch (value, queues[index].isReady) {
    case (0, false), (1, true): return .none
    case (0, true): return stopQueue(index)
    case (1, false): break
    default: return .refuse(.badValue)
    }
    guard status.contains(.featuresOK) else { return .refuse(.featuresAreOpen) }
    let registers = queues[index]
    guard let size = QueueSize(registers.size), size.rawValue <= identity.maximumQueueSize.rawValue
    else { return .refuse(.badQueueSize) }
    var features = QueueFeatures()
    if driverFeatures.contains(.indirectDescriptors) { features.insert(.indirectDescriptors) }
    if driverFeatures.contains(.eventIndex) { features.insert(.eventIndex) }
    if driverFeatures.contains(.inOrder) { features.insert(.inOrder) }
    return .enableQueue(
      index,
      QueueConfiguration(
        size: size, descriptorTable: registers.descriptorTable,
        availableRing: registers.availableRing, usedRing: registers.usedRing,
        features: features, maximumChainLength: identity.maximumChainLength))
  }

  private mutating func writeQueueReset(_ value: UInt32) -> RegisterAction {
    guard let index = selectedQueue else { return .refuse(.noSuchQueue) }
    guard status.contains(.featuresOK), driverFeatures.contains(.ringReset) else {
      return .refuse(.featureNotOffered)
    }
    guard value == 1 else { return .refuse(.badValue) }
    return queues[index].isReady ? stopQueue(index) : .none
  }

  private mutating func stopQueue(_ index: Int) -> RegisterAction {
    queues[index].isResetting = true
    return .stopQueue(index)
  }

  private func notify(_ value: UInt32) -> RegisterAction {
    guard value < UInt32(identity.queueCount) else { return .refuse(.noSuchQueue) }
    return .notify(Int(value))
  }

  private mutating func writeStatus(_ value: UInt32) -> RegisterAction {
    guard value <= 0xff else { return .refuse(.badValue) }
    let wanted = DeviceStatus(rawValue: UInt8(truncatingIfNeeded: value))
    if wanted.isEmpty { return .reset }
    // Bits are cumulative: a driver may set several at once, but only a reset clears any
    // (VIRTIO 1.4, 2.1.1). NEEDS_RESET is the device's own.
    let known: DeviceStatus = .acknowledge | .driver | .driverOK | .featuresOK | .failed
    guard wanted.subtracting(.needsReset).isSubset(of: known) else { return .refuse(.badValue) }
    guard status.subtracting(.needsReset).isSubset(of: wanted) else {
      return .refuse(.statusWentDown)
    }
    let added = wanted.subtracting(status).subtracting(.needsReset)
    if added.contains(.failed) {
      status.insert(added)
      return .stop
    }
    if added.contains(.featuresOK) {
      guard !hasForeignFeatures, driverFeatures.isSubset(of: offered),
        required.isSubset(of: driverFeatures)
      else {
        // The refusal is visible: every bit but FEATURES_OK is taken (VIRTIO 1.4, 3.1.1).
        status.insert(added.subtracting(.featuresOK | .driverOK))
        return .refuse(.featuresRefused)
      }
    }
    if added.contains(.driverOK), !status.union(added).contains(.featuresOK) {
      return .refuse(.featuresAreOpen)
    }
    status.insert(added)
    return added.contains(.driverOK) ? .start(driverFeatures) : .none
  }
}
