public import IVShmem
import SharedMemory
public import VirtioDevice
public import Virtqueue

/// Why a front-end of the Siemens dialect cannot go on.
public enum SiemensFrontendError: Error, Equatable, Sendable {
  /// No back-end was ready in time.
  case noBackend
  /// The back-end did not clear the transaction that names this offset.
  case deadline(offset: Int)
  /// The back-end's State is not READY any more: nothing it was given comes back.
  case backendLost
  /// What lies at the start of the section is no header that can be worked with.
  case badHeader(revision: UInt32, size: UInt32)
  /// The back-end does not offer what this driver needs.
  case missingFeatures(FeatureSet)
  /// The back-end took FEATURES_OK back.
  case featuresRefused(wanted: FeatureSet)
  /// The back-end has no such queue, or none as large as asked for.
  case noSuchQueue(Int, maximum: UInt16)
  /// The back-end shows the queue as not enabled, or demands a reset.
  case queueRefused(Int)
  /// The configuration did not come to rest.
  case configurationUnstable
  /// The process was asked to stop.
  case interrupted
  /// The platform is gone.
  case platformGone
}

/// The front-end of one link in the Siemens dialect, for drivers of ours against any back-end that
/// speaks it.
///
/// Unlike the Linux driver it waits for a back-end, waits for every transaction, with a deadline,
/// and reads back what the back-end made of it.
public struct SiemensFrontend<P: Platform & ~Copyable>: ~Copyable {
  /// What maps, rings and waits.
  public var platform: P
  /// Who is who and where; the header takes a page at most.
  public let plan: SiemensPlan
  /// How long one transaction may take, in nanoseconds.
  public var transactionTimeout: UInt64 = 5_000_000_000
  /// Doorbells rung.
  public private(set) var doorbells: UInt64 = 0
  private let words: SiemensWords
  private var deviceVectors = InlineArray<32, UInt16>(repeating: 0)
  /// Looks before a wait sleeps.
  private let spinCount: Int

  /// The plan of a front-end, which learns only later how large the header is.
  public static func plan(
    own: PeerID, geometry: LinkGeometry
  ) throws(SiemensPlanError) -> SiemensPlan {
    try SiemensPlan(
      own: own, geometry: geometry, configurationSize: 4096 - SiemensHeader.configuration)
  }

  /// Takes a platform over; nothing is written before ``attach(until:)``.
  @inline(never)
  public init(platform: consuming P, plan: SiemensPlan, spinCount: Int = 4000) {
    self.spinCount = spinCount
    words = SiemensWords(region: platform.region, base: plan.section.lowerBound)
    self.plan = plan
    self.platform = platform
  }

  /// Whether a back-end is ready.
  public var hasBackend: Bool {
    platform.region.state(of: plan.peer, in: platform.geometry) == SiemensHeader.ready
  }

  // MARK: Life

  /// Leaves an earlier back-end, waits for one that is ready, and becomes ready.
  public mutating func attach(until deadline: Instant) throws(SiemensFrontendError) {
    platform.writeState(0)
    while !hasBackend {
      platform.setInterruptsEnabled(true)
      // Pairs with the back-end's State, which interrupts an armed peer.
      Ordering.fullFence()
      if hasBackend { break }
      switch platform.wait(until: deadline) {
      case .event: continue
      case .deadline:
        if !hasBackend, platform.now() >= deadline { throw .noBackend }
      case .interrupted: throw .interrupted
      case .gone: throw .platformGone
      }
    }
    let revision = words.load32(.revision)
    let size = words.load32(.size)
    guard revision >= SiemensHeader.revision, size >= UInt32(SiemensHeader.configuration),
      size <= UInt32(plan.headerSize)
    else { throw .badHeader(revision: revision, size: size) }
    platform.writeState(SiemensHeader.ready)
  }

  /// Resets the device, so that it lets go of everything, then State 0.
  public mutating func leave() {
    do throws(SiemensFrontendError) {
      try write(.deviceStatus, 0)
    } catch {
      // Nobody is there to let go of anything.
    }
    platform.writeState(0)
    platform.setInterruptsEnabled(false)
  }

  // MARK: Transactions

  /// Writes a field of up to 32 bits, as many as it has; returns when the back-end has acted on it.
  @inline(never)
  public mutating func write(
    _ field: SiemensHeader.Field, _ value: UInt32
  ) throws(SiemensFrontendError) {
    switch field {
    case .queueSize, .queueDriverVector, .queueEnable, .queueDeviceVector:
      words.store16(UInt16(truncatingIfNeeded: value), field)
    default: words.store32(value, field)
    }
    try transact(field.rawValue)
  }

  /// Writes an address field.
  private mutating func writeAddress(
    _ field: SiemensHeader.Field, _ value: UInt64
  ) throws(SiemensFrontendError) {
    words.store64(value, field)
    try transact(field.rawValue)
  }

  /// Writes `width` bytes (1, 2, 4, 8) of configuration space.
  public mutating func writeConfiguration(
    at offset: Int, width: Int, _ value: UInt64
  ) throws(SiemensFrontendError) {
    for index in 0..<width {
      words.storeConfiguration(
        UInt8(truncatingIfNeeded: value >> UInt64(8 * index)), offset + index)
    }
    try transact(SiemensHeader.configuration + offset)
  }

  private mutating func transact(_ offset: Int) throws(SiemensFrontendError) {
    // Release: the back-end sees the field once it sees its offset.
    platform.region.store32Releasing(
      UInt32(truncatingIfNeeded: offset), at: words.offset(.writeTransaction))
    // Pairs with the back-end's fence between arming and its last look.
    Ordering.fullFence()
    ring(0)
    let deadline = platform.now().advanced(byNanoseconds: transactionTimeout)
    while true {
      for _ in 0..<spinCount {
        if words.transaction == 0 { return }
        Ordering.spinHint()
      }
      guard hasBackend else { throw .backendLost }
      let now = platform.now()
      guard now < deadline else { throw .deadline(offset: offset) }
      // No interrupt answers a transaction.
      if platform.wait(until: now.advanced(byNanoseconds: 50_000)) == .gone {
        throw .platformGone
      }
    }
  }

  @inline(never)
  private mutating func ring(_ vector: UInt16) {
    doorbells &+= 1
    platform.ringDoorbell(Vector(vector), at: plan.peer)
  }

  // MARK: The device

  /// Resets the device and agrees with it about features, up to FEATURES_OK.
  ///
  /// - Parameter wanted: features used when offered; ``FeatureSet/required`` is demanded.
  public mutating func negotiate(
    wanted: FeatureSet
  ) throws(SiemensFrontendError) -> FeatureSet {
    try write(.deviceStatus, 0)
    var status: DeviceStatus = .acknowledge
    try write(.deviceStatus, UInt32(status.rawValue))
    status.insert(.driver)
    try write(.deviceStatus, UInt32(status.rawValue))
    let offered = try offeredFeatures()
    guard FeatureSet.required.isSubset(of: offered) else {
      try write(.deviceStatus, UInt32(status.union(.failed).rawValue))
      throw .missingFeatures(FeatureSet.required.subtracting(offered))
    }
    let agreed = offered.intersection(wanted).union(.required)
    try write(.driverFeaturesSelector, 1)
    try write(.driverFeatures, UInt32(truncatingIfNeeded: agreed.rawValue >> 32))
    try write(.driverFeaturesSelector, 0)
    try write(.driverFeatures, UInt32(truncatingIfNeeded: agreed.rawValue))
    status.insert(.featuresOK)
    try write(.deviceStatus, UInt32(status.rawValue))
    guard self.status.contains(.featuresOK) else { throw .featuresRefused(wanted: agreed) }
    return agreed
  }

  /// What the device offers; nothing is set up, and what is set up stays.
  public mutating func offeredFeatures() throws(SiemensFrontendError) -> FeatureSet {
    try write(.deviceFeaturesSelector, 1)
    let high = words.load32(.deviceFeatures)
    try write(.deviceFeaturesSelector, 0)
    return FeatureSet(rawValue: UInt64(high) << 32 | UInt64(words.load32(.deviceFeatures)))
  }

  /// The status as the back-end shows it.
  public var status: DeviceStatus {
    DeviceStatus(rawValue: UInt8(truncatingIfNeeded: words.load32(.deviceStatus)))
  }

  /// The largest size of a queue; 0 when there is none.
  public mutating func maximumQueueSize(_ queue: Int) throws(SiemensFrontendError) -> UInt16 {
    try write(.queueSelector, UInt32(queue))
    return words.load16(.queueSize)
  }

  /// Gives a queue its size, vector and addresses, and enables it.
  public mutating func enableQueue(
    _ queue: Int, _ configuration: QueueConfiguration
  ) throws(SiemensFrontendError) {
    let maximum = try maximumQueueSize(queue)
    guard queue < deviceVectors.count, configuration.size.rawValue <= maximum else {
      throw .noSuchQueue(queue, maximum: maximum)
    }
    deviceVectors[queue] = words.load16(.queueDeviceVector)
    let vectors = platform.vectorCount
    let vector = vectors > 1 ? min(queue + 1, Int(vectors) - 1) : 0
    try write(.queueSize, UInt32(configuration.size.rawValue))
    try write(.queueDriverVector, UInt32(vector))
    try writeAddress(.queueDescriptors, configuration.descriptorTable)
    try writeAddress(.queueDriver, configuration.availableRing)
    try writeAddress(.queueDevice, configuration.usedRing)
    try write(.queueEnable, 1)
    guard words.load16(.queueEnable) == 1, !status.contains(.needsReset) else {
      throw .queueRefused(queue)
    }
  }

  /// Sets DRIVER_OK: the device is live.
  public mutating func startDevice() throws(SiemensFrontendError) {
    try write(.deviceStatus, UInt32(status.union(.driverOK).rawValue))
    guard hasBackend else { throw .backendLost }
  }

  /// Rings for a queue.
  public mutating func notify(_ queue: Int) { ring(deviceVectors[queue]) }

  /// Whether the configuration or the status changed since the last call.
  public mutating func takeConfigurationEvent() -> Bool {
    guard platform.region.load8(words.offset(.configurationEvent)) & 1 != 0 else { return false }
    words.store8(0, .configurationEvent)
    return true
  }

  /// Copies the configuration space from its start, under its generation.
  public func configuration(
    into bytes: inout MutableSpan<UInt8>
  ) throws(SiemensFrontendError) {
    let size = min(Int(words.load32(.size)), plan.headerSize) - SiemensHeader.configuration
    let generation = words.offset(.configurationGeneration)
    // Bounded: a configuration that changes a thousand times meanwhile is broken.
    for _ in 0..<1000 {
      // Pairs with the back-end's release of the even generation.
      let before = platform.region.load32Acquiring(generation)
      if before & 1 == 0 {
        for index in 0..<bytes.count {
          bytes[index] = index < size ? words.configurationByte(index) : 0
        }
        // Pairs with the back-end's fence behind the odd generation.
        Ordering.acquireFence()
        if platform.region.load32(generation) == before { return }
      }
      Ordering.spinHint()
    }
    throw .configurationUnstable
  }

  // MARK: Sleep

  /// Arms the interrupt; one full fence. The caller, who has armed its queues, then looks at them
  /// and at ``hasBackend``, and sleeps only if it found nothing.
  public mutating func prepareToSleep() {
    platform.setInterruptsEnabled(true)
    if platform.capabilities.contains(.postedRegisterWrites) { _ = platform.interruptsEnabled() }
    // Pairs with the back-end's fence between what it publishes and its doorbell.
    Ordering.fullFence()
  }

  /// Sleeps after ``prepareToSleep()`` until the back-end rings or changes its State.
  public mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    let outcome = platform.wait(until: deadline)
    words.store8(0, .queueEvent)
    return outcome
  }
}
