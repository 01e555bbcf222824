public import IVShmem
public import SharedMemory
public import VirtioDevice
import Virtqueue

/// Where a back-end of the Siemens dialect stands towards its front-end.
public enum SiemensPhase: UInt32, Equatable, Sendable {
  /// State 0: the header is not valid. A front-end that is ready anyway belongs to an earlier
  /// back-end and has to leave first.
  case withdrawn = 0
  /// State 1, no front-end.
  case offered = 1
  /// State 1, a front-end is ready.
  case serving = 2
}

/// The back-end of one link in the Siemens dialect: one device, the header, and a drain loop that
/// puts write transactions before everything else.
///
/// A guest's processor spins until its transaction is cleared, so the loop looks for one between
/// any two chains and any two completions, and nothing here waits for the host; the one exception
/// is a reset, which must not end while a request can still touch the section. The front-end is
/// not trusted: each of its fields is read once, at its own transaction, into private memory.
public struct SiemensBackend<P: Platform & ~Copyable, Device: DeviceModel & ~Copyable>: ~Copyable {
  /// What the open transaction waits for: the device to stop touching the section.
  enum Pending: Equatable {
    case nothing
    case reset
    case queueStop(Int)
  }

  /// The device. The first property: its host ends what it does before the platform goes, which is
  /// the memory it does it on.
  public var device: Device
  /// What maps, rings and waits.
  public var platform: P
  /// Who is who and where.
  public let plan: SiemensPlan
  /// Its registers.
  public internal(set) var registers: RegisterFile
  /// Where this side stands.
  public internal(set) var phase = SiemensPhase.withdrawn
  /// What was counted.
  public internal(set) var counters = SiemensCounters()
  let words: SiemensWords
  let access: AccessMap
  var queues: PrivateStore<DeviceQueue>
  var arenas: PrivateStore<PrivateArena>
  var segments: ChainSegments
  var returned: ReturnedChains
  /// The configuration space as it was shown last, to find what the front-end changed.
  let shown: PrivateTable<UInt8>
  var pending = Pending.nothing
  /// What the driver has written about each queue.
  let banks: PrivateTable<SiemensBank>
  var selectedQueue: UInt32 = 0
  /// Whether a configuration interrupt was raised when the driver could not hear it.
  var hasMissedEvent = false
  /// Tells tickets of a queue from those of its predecessor.
  var generation: UInt32 = 0
  /// Queues whose last doorbell was not yet repeated, one bit each.
  var unconfirmed: UInt32 = 0
  /// When doorbells have to be repeated, or the header looked after, while it is slept.
  public private(set) var repetition: Instant?
  /// What is written down for the next back-end, if somebody keeps it.
  var book: SiemensBook?
  var order: UInt64 = 1
  /// Chains of an earlier back-end that are to be taken again, by queue.
  let resumeHeads: PrivateTable<UInt16>
  var resumeCounts = InlineArray<32, UInt16>(repeating: 0)
  var resumed = InlineArray<32, UInt16>(repeating: 0)
  private var isLeaving = false

  /// Takes a platform and a device over; nothing is written before ``start()``. `nil` when `arena`
  /// is too small (``privateBytes(queues:size:)``).
  ///
  /// - Parameter features: what the rings may use beside the mandatory features; INDIRECT_DESC and
  ///   EVENT_IDX have not been seen with the Linux driver of this dialect.
  @inline(never)
  public init?(
    platform: consuming P, plan: SiemensPlan, device: consuming Device,
    ringFeatures features: FeatureSet = FeatureSet(), arena: inout PrivateArena
  ) {
    precondition(plan.configurationSize == device.configurationSize)
    let count = device.queueCount
    let size = plan.queueSize(upTo: device.maximumQueueSize, queues: count)
    let entries = Int(size.rawValue)
    let bytes = DeviceQueue.privateBytes(
      size: size, maximumChainLength: device.maximumChainLength)
    guard let queues = PrivateStore<DeviceQueue>(count: count, in: &arena),
      var arenas = PrivateStore<PrivateArena>(count: count, in: &arena),
      let segments = ChainSegments(capacity: device.maximumChainLength, arena: &arena),
      let returned = ReturnedChains(queues: count, size: entries, arena: &arena),
      let banks = arena.table(of: count, initial: SiemensBank(size: size.rawValue)),
      let shown = arena.table(of: plan.configurationSize, initial: UInt8(0)),
      let resumeHeads = arena.table(of: count * entries, initial: UInt16(0))
    else { return nil }
    for queue in 0..<count {
      guard let own = arena.split(bytes) else { return nil }
      arenas.put(own, at: queue)
    }
    device.adapt(toPool: plan.pool.count)
    let offered = device.offeredFeatures.union(FeatureSet.required).union(.orderPlatform)
      .union(features)
    registers = RegisterFile(
      identity: RegisterFile.Identity(
        deviceID: device.deviceID, vendorID: 0x4d43, queueCount: count, maximumQueueSize: size,
        maximumChainLength: device.maximumChainLength,
        configurationSize: device.configurationSize),
      offered: offered)
    words = SiemensWords(region: platform.region, base: plan.section.lowerBound)
    access = plan.access(in: platform.region)
    self.plan = plan
    self.queues = queues
    self.arenas = arenas
    self.segments = segments
    self.returned = returned
    self.shown = shown
    self.banks = banks
    self.resumeHeads = resumeHeads
    self.device = device
    self.platform = platform
  }

  /// Private memory a back-end needs, in bytes.
  public static func privateBytes(queues: Int, size: Int) -> Int {
    queues * (size * 16 + 2048) + (64 << 10)
  }

  /// Starts: State 0. The header is offered by ``step()`` once no front-end of an earlier back-end
  /// is left.
  public mutating func start() {
    book?.begin(registers.identity, plan)
    abort()
    withdraw()
  }

  func peerIsReady() -> Bool {
    platform.region.state(of: plan.peer, in: platform.geometry) == SiemensHeader.ready
  }

  /// Whether a front-end of an earlier back-end is in the way: only its driver, or its cell, can
  /// let go.
  public var waitsForFrontEndToLeave: Bool { phase == .withdrawn && peerIsReady() }

  /// Whether nothing of the device can touch the section any more.
  public var isQuiet: Bool { device.inFlightCount == 0 }

  // MARK: One step

  /// Looks once at the transaction, the peer, the completions and the queues; bounded, and never
  /// blocks. Returns whether anything moved.
  public mutating func step() -> Bool {
    var moved = lookAtTransaction()
    if takeCompletions() { moved = true }
    if finishPending() { moved = true }
    if drainQueues() { moved = true }
    if phase != .withdrawn, device.takeConfigurationChange() {
      publishConfiguration()
      raiseConfigurationEvent()
      moved = true
    }
    return moved
  }

  /// The transaction first, then the peer's state: a front-end becomes ready before its first
  /// transaction, so that a transaction beside another state belongs to one that leaves.
  mutating func lookAtTransaction() -> Bool {
    // Pairs with the front-end's barrier in front of this word: the field it names is whole.
    let offset = words.transaction
    let moved = lookAtPeer()
    guard offset != 0, phase != .withdrawn, pending == .nothing else { return moved }
    guard phase == .serving else {
      // The driver unregisters its device after its State has gone to 0, and spins. Its buffers
      // are used again as soon as it goes on.
      guard isQuiet else { return moved }
      counters.orphanedTransactions &+= 1
      endTransaction()
      return true
    }
    counters.transactions &+= 1
    execute(offset)
    return true
  }

  private mutating func lookAtPeer() -> Bool {
    let isReady = peerIsReady()
    switch phase {
    case .withdrawn:
      guard !isReady, isQuiet else { return false }
      offer()
    case .offered:
      guard isReady else { return repairHeader() }
      phase = .serving
      counters.pairings &+= 1
      saveState()
    case .serving:
      guard !isReady else { return false }
      counters.losses &+= 1
      abort()
      phase = .offered
      // In place, not through State 0: a front-end that comes back at once would find no
      // back-end and never ask again. Its first transaction is a reset, which is not cleared
      // while a request of its earlier life is in flight.
      publishHeader()
    }
    return true
  }

  /// Drops the queues; requests in flight end by themselves.
  mutating func abort() {
    for queue in 0..<queues.count where queues.isOccupied(queue) { dropQueue(queue) }
    pending = .nothing
    unconfirmed = 0
    device.stop()
    registers.resetCompleted()
    forgetDriver()
    saveState()
  }

  mutating func forgetDriver() {
    let size = registers.identity.maximumQueueSize.rawValue
    for queue in 0..<banks.count { banks[queue] = SiemensBank(size: size) }
    selectedQueue = 0
    hasMissedEvent = false
  }

  @inline(never)
  mutating func dropQueue(_ queue: Int) {
    _ = queues.remove(at: queue)
    returned.clear(queue)
    resumeCounts[queue] = 0
    resumed[queue] = 0
    book?.clear(queue: queue)
  }

  // MARK: Sleep

  /// Sleeps until something moves, a local completion arrives or `deadline` passes; returns at
  /// once when the last look finds anything.
  public mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    guard prepareToSleep() else { return .event }
    return endSleep(until: deadline)
  }

  /// Asks everyone for a wake-up and looks for the last time; whether it may be slept now. After
  /// `true` comes ``endSleep(until:)`` or ``stayAwake()``: a thread with several links prepares all
  /// of them, waits for any until the earliest ``repetition``, and ends the sleep of each.
  public mutating func prepareToSleep() -> Bool {
    for queue in 0..<queues.count where queues.isOccupied(queue) {
      queues[queue].armNotifications()
    }
    platform.setInterruptsEnabled(true)
    if platform.capabilities.contains(.postedRegisterWrites) { _ = platform.interruptsEnabled() }
    // Pairs with the driver's barrier between its store (index, transaction) and its look at the
    // ring's flags or its doorbell: either it rings an armed peer, or the look below sees it.
    Ordering.fullFence()
    guard !hasWork() else {
      stayAwake()
      return false
    }
    repetition = nil
    if unconfirmed != 0 || phase == .offered {
      let patience =
        unconfirmed != 0 ? SiemensLimits.secondDoorbell : SiemensLimits.headerCheck
      repetition = platform.now().advanced(byNanoseconds: patience)
    }
    return true
  }

  /// Takes ``prepareToSleep()`` back.
  public mutating func stayAwake() {
    platform.setInterruptsEnabled(false)
    suppressQueues()
  }

  /// Waits, after ``prepareToSleep()``, until an event or `deadline`, and is awake again.
  @inline(never)
  public mutating func endSleep(until deadline: Instant?) -> WaitOutcome {
    let outcome = wait(until: deadline)
    suppressQueues()
    return outcome
  }

  private mutating func suppressQueues() {
    for queue in 0..<queues.count where queues.isOccupied(queue) {
      queues[queue].suppressNotifications()
    }
  }

  /// Waits, at most until there is something to repeat (doorbells) or to look after (the header).
  private mutating func wait(until deadline: Instant?) -> WaitOutcome {
    counters.sleeps &+= 1
    guard let repetition else { return waitDisarming(until: deadline) }
    let isEarlier = deadline.map { repetition < $0 } ?? true
    let outcome = waitDisarming(until: isEarlier ? repetition : deadline)
    guard outcome == .deadline, isEarlier || platform.now() >= repetition else { return outcome }
    if unconfirmed != 0 { repeatDoorbells() }
    return .event
  }

  private mutating func waitDisarming(until deadline: Instant?) -> WaitOutcome {
    let outcome = platform.wait(until: deadline)
    if outcome != .event || !platform.capabilities.contains(.oneShotInterrupts) {
      platform.setInterruptsEnabled(false)
    }
    return outcome
  }

  private mutating func hasWork() -> Bool {
    if step() { return true }
    guard isRunning else { return false }
    for queue in 0..<queues.count where queues.isOccupied(queue) {
      if device.canServe(queue: queue),
        resumed[queue] < resumeCounts[queue] || queues[queue].hasPending()
      {
        return true
      }
    }
    return false
  }

  // MARK: Leaving

  /// Stops taking new chains; in-flight requests finish. Call ``step()`` until ``isQuiet``.
  public mutating func quiesce() { isLeaving = true }

  /// State 0, last: the driver marks its device broken, for good.
  public mutating func leave() {
    abort()
    withdraw()
    platform.setInterruptsEnabled(false)
  }

  /// Whether chains may be taken.
  var isRunning: Bool {
    phase == .serving && !isLeaving && pending == .nothing
      && registers.status.contains(.driverOK)
      && registers.status.isDisjoint(with: .needsReset | .failed)
  }
}
