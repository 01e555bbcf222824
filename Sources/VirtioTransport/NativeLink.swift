public import IVShmem
public import SharedMemory

/// What changed when a side looked at its peer.
public enum LinkEvent: Equatable, Sendable {
  /// Nothing.
  case none
  /// The peer has started (again): nothing of an earlier pairing is valid any more. The owner
  /// stops what is open, then calls ``NativeLink/answer()``.
  case peerStarted
  /// Both sides know each other: the link is up.
  case up
  /// The peer is gone (state 0): the owner stops what is open.
  case down
}

/// What a side counts about its link; never reset.
public struct LinkCounters: Equatable, Sendable {
  /// Times the link came up.
  public var pairings: UInt64 = 0
  /// Times the peer went to state 0 or came back with another epoch while the link was up.
  public var losses: UInt64 = 0
  /// Doorbells rung.
  public var doorbells: UInt64 = 0
  /// Times this side went to sleep.
  public var sleeps: UInt64 = 0
  /// Waits that an event ended.
  public var wakeUps: UInt64 = 0
  /// Violations of the protocol by the peer.
  public var peerErrors: UInt64 = 0
}

/// One side of a native link: the start-up handshake, extended status, doorbells and sleep.
///
/// It knows neither transactions nor queues. One thread owns it. The states are those of
/// docs/protocol.md, "Start": alone, answering, up. The orderings are those of `Models/`.
public struct NativeLink<P: Platform & ~Copyable>: ~Copyable {
  /// What maps, rings and waits.
  public var platform: P
  /// Who is who and where.
  public let plan: LinkPlan
  /// The shared memory.
  public let region: SharedRegion
  /// This start of this side.
  public private(set) var epoch: Epoch
  /// The peer's start that this side answers to, if any.
  public private(set) var peerEpoch: Epoch?
  /// Whether both sides know each other.
  public private(set) var isUp = false
  /// The last thing the peer did wrong.
  public private(set) var reason = LinkReason.none
  /// What was counted.
  public var counters = LinkCounters()
  private var hasAnswered = false
  private var isRewritten = false
  private var status: ExtendedStatus = .present
  /// The peer's subtracted translation base, as read when the link came up.
  public private(set) var translationBase: UInt64 = 0
  private let ownTranslationBase: UInt64

  /// Takes the platform over. Nothing is written before ``start()``.
  @inline(never)
  public init(platform: consuming P, plan: LinkPlan, translationBase: UInt64 = 0) {
    region = platform.region
    self.plan = plan
    ownTranslationBase = translationBase
    epoch = Epoch(truncating: 1) ?? Self.unreachable()
    self.platform = platform
  }

  private static func unreachable() -> Epoch {
    preconditionFailure("an epoch of 1 is valid")
  }

  private var ownHello: Int { plan.ownBlock + BlockLayout.Header.hello.rawValue }
  private var peerHello: Int { plan.peerBlock + BlockLayout.Header.hello.rawValue }

  /// Gives the platform back.
  public consuming func release() -> P { platform }

  // MARK: Start

  /// Starts this side: State 0, a fresh epoch, the whole block, then State.
  ///
  /// The block is written while State is 0 and stays as good as unwritten for a peer that looks
  /// too early: only the epoch makes it this life's (docs/protocol.md, "Start").
  #if CELLMATE_SMALL
    @inline(never)
  #endif
  public mutating func start(_ fillSlots: (SharedRegion, Int) -> Void = { _, _ in }) {
    platform.writeState(0)
    chooseEpoch()
    peerEpoch = nil
    isUp = false
    hasAnswered = false
    status = .present
    reason = .none
    region.fill(region.ownRange(plan.ownBlock..<plan.ownBlock + plan.ownBlockSize), with: 0)
    writeHeader()
    fillSlots(region, plan.ownBlock)
    region.store64Releasing(Hello(own: epoch, echo: nil).rawValue, at: ownHello)
    // Otherwise the peer could see the state of this life and the memory of the one before.
    Ordering.fullFence()
    platform.writeState(plan.side.stateValue)
  }

  private mutating func chooseEpoch() {
    let visible = Hello(rawValue: region.load64(ownHello))
    let peers = Hello(rawValue: region.load64(peerHello))
    // Bounded: 64 random numbers that all are 0, the last own or an echoed one do not happen by
    // chance; a platform without randomness is our bug.
    for _ in 0..<64 {
      if let fresh = Epoch(truncating: platform.randomNumber()), fresh != visible.own,
        fresh != peers.echo, fresh != epoch
      {
        epoch = fresh
        return
      }
    }
    preconditionFailure("the platform's random numbers repeat")
  }

  private func store(_ value: UInt32, _ field: BlockLayout.Header) {
    region.store32(value, at: plan.ownBlock + field.rawValue)
  }

  private func writeHeader() {
    let pool = plan.side == .frontEnd ? plan.driverPool : plan.devicePool
    store(BlockLayout.magic, .magic)
    store(BlockLayout.version, .version)
    store(plan.side.rawValue, .kind)
    store(plan.placement.rawValue, .placement)
    store(0, .mustUnderstand)
    store(0, .mayIgnore)
    store(UInt32(BlockLayout.slotCount), .slotCount)
    store(1, .generation)
    let block = plan.ownBlock
    region.store64(
      UInt64(pool.lowerBound), at: block + BlockLayout.Header.poolOffset.rawValue)
    region.store64(UInt64(pool.count), at: block + BlockLayout.Header.poolSize.rawValue)
    region.store64(
      ownTranslationBase, at: block + BlockLayout.Header.translationBase.rawValue)
    store(status.rawValue, .extendedStatus)
    store(reason.rawValue, .reason)
  }

  // MARK: Looking

  /// Looks at the peer's state and hello word once; at most one thing changes a call.
  public mutating func look() -> LinkEvent {
    let state = region.state(of: plan.peer, in: platform.geometry)
    guard state == plan.side.peer.stateValue else {
      guard peerEpoch != nil else { return .none }
      if isUp { counters.losses += 1 }
      peerEpoch = nil
      hasAnswered = false
      isUp = false
      return .down
    }
    // Pairs with the peer's release store of its hello: its block is initialised.
    let hello = Hello(rawValue: region.load64Acquiring(peerHello))
    guard let theirs = hello.own else { return .none }
    if theirs != peerEpoch {
      if isUp { counters.losses += 1 }
      peerEpoch = theirs
      hasAnswered = false
      isUp = false
      return .peerStarted
    }
    if !isUp, hasAnswered, hello.echo == epoch, checkHeader() {
      isUp = true
      counters.pairings += 1
      return .up
    }
    return .none
  }

  /// Whether the owner still owes the peer an answer.
  public var owesAnswer: Bool { peerEpoch != nil && !hasAnswered }

  /// Rewrites the whole block but the hello word: zeroes, then the header. The owner fills its
  /// slots and then calls ``answer(_:)``.
  ///
  /// The peer's start may have thrown this side's stores away, or written over them (ivshmem-v2
  /// hazard H16): what is not rewritten may hold anything.
  public mutating func rewriteBlock() {
    let end = plan.ownBlock + plan.ownBlockSize
    region.fill(region.ownRange(plan.ownBlock..<ownHello), with: 0)
    region.fill(region.ownRange(ownHello + 8..<end), with: 0)
    writeHeader()
    isRewritten = true
  }

  /// Tells the peer that this side knows its start. The owner has stopped everything that
  /// belonged to an earlier pairing; the block is rewritten here unless the owner has just done
  /// so, and ``fillSlots`` may fill the slots.
  #if CELLMATE_SMALL
    @inline(never)
  #endif
  public mutating func answer(_ fillSlots: (SharedRegion, Int) -> Void = { _, _ in }) {
    guard let peerEpoch, !hasAnswered else { return }
    if !isRewritten { rewriteBlock() }
    isRewritten = false
    fillSlots(region, plan.ownBlock)
    // Release: what was withdrawn is gone before the echo shows.
    region.store64Releasing(Hello(own: epoch, echo: peerEpoch).rawValue, at: ownHello)
    hasAnswered = true
    wakePeer()
  }

  /// Checks the peer's header, each field read once; a bad one keeps the link down.
  private mutating func checkHeader() -> Bool {
    let block = plan.peerBlock
    func word(_ field: BlockLayout.Header) -> UInt32 { region.load32(block + field.rawValue) }
    let pool = plan.side == .frontEnd ? plan.devicePool : plan.driverPool
    let poolOffset = region.load64(block + BlockLayout.Header.poolOffset.rawValue)
    let poolSize = region.load64(block + BlockLayout.Header.poolSize.rawValue)
    let found: LinkReason =
      if word(.magic) != BlockLayout.magic {
        .badMagic
      } else if word(.version) != BlockLayout.version {
        .badVersion
      } else if word(.kind) != plan.side.peer.rawValue {
        .badKind
      } else if word(.placement) != plan.placement.rawValue {
        .badPlacement
      } else if word(.mustUnderstand) != 0 {
        .unknownFeatures
      } else if word(.slotCount) != UInt32(BlockLayout.slotCount) {
        .badSlotCount
      } else if poolOffset != UInt64(pool.lowerBound) || poolSize != UInt64(pool.count) {
        .badPool
      } else { .none }
    translationBase = region.load64(block + BlockLayout.Header.translationBase.rawValue)
    guard found == .none else {
      if reason != found { report(found) }
      return false
    }
    return true
  }

  /// Notes a violation by the peer and shows it in the block.
  public mutating func report(_ reason: LinkReason) {
    counters.peerErrors += 1
    self.reason = reason
    store(reason.rawValue, .reason)
    setStatus(status.union(.error))
  }

  /// Forgets a noted violation, after a reset or at a new pairing.
  public mutating func clearError() {
    guard status.contains(.error) else { return }
    reason = .none
    store(0, .reason)
    setStatus(status.subtracting(.error))
  }

  // MARK: Extended status and doorbells

  /// What the peer says of itself now.
  public var peerStatus: ExtendedStatus {
    ExtendedStatus(
      rawValue: region.load32Acquiring(
        plan.peerBlock + BlockLayout.Header.extendedStatus.rawValue))
  }

  /// Publishes this side's extended status.
  @inline(never)
  public mutating func setStatus(_ newStatus: ExtendedStatus) {
    status = newStatus
    region.store32Releasing(
      newStatus.rawValue, at: plan.ownBlock + BlockLayout.Header.extendedStatus.rawValue)
  }

  /// This side's extended status.
  public var ownStatus: ExtendedStatus { status }

  /// Rings the peer if it sleeps. Called after every published request, acknowledgement, counter
  /// or hello.
  @inline(never)
  public mutating func wakePeer(_ vector: Vector = .zero) {
    // Pairs with the fence in `prepareToSleep`: either the peer sees what was published when it
    // looks for the last time, or this side sees BLOCKED. Otherwise a wake-up is lost.
    Ordering.fullFence()
    guard peerStatus.contains(.blocked) else { return }
    counters.doorbells += 1
    platform.ringDoorbell(vector, at: plan.peer)
  }

  // MARK: Sleep

  /// Sets BLOCKED and arms the interrupt; one full fence. The owner then looks at everything it
  /// waits for, and calls ``sleep(until:)`` only if it found nothing, else ``stayAwake()``.
  ///
  /// The local event was consumed by the wait that ended before; it is never cleared here, after
  /// arming (design: decision 4).
  @inline(never)
  public mutating func prepareToSleep() {
    setStatus(status.union(.blocked))
    platform.setInterruptsEnabled(true)
    if platform.capabilities.contains(.postedRegisterWrites) {
      _ = platform.interruptsEnabled()
    }
    // Pairs with the fence in `wakePeer`. Otherwise the last look could miss what was published
    // before the peer saw BLOCKED.
    Ordering.fullFence()
  }

  /// Leaves the preparation without sleeping.
  @inline(never)
  public mutating func stayAwake() {
    setStatus(status.subtracting(.blocked))
    platform.setInterruptsEnabled(false)
  }

  /// Sleeps after ``prepareToSleep()``.
  @inline(never)
  public mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    counters.sleeps += 1
    let outcome = platform.wait(until: deadline)
    if outcome == .event { counters.wakeUps += 1 }
    setStatus(status.subtracting(.blocked))
    if outcome != .event || !platform.capabilities.contains(.oneShotInterrupts) {
      platform.setInterruptsEnabled(false)
    }
    return outcome
  }

  /// Leaves on purpose: tells the peer, then State 0.
  @inline(never)
  public mutating func leave() {
    setStatus(.present | .goingAway)
    wakePeer()
    platform.writeState(0)
    platform.setInterruptsEnabled(false)
    peerEpoch = nil
    hasAnswered = false
    isUp = false
  }
}
