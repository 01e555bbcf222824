public import IVShmem
import SharedMemory
public import VirtioDevice
public import VirtioTransport

/// The front-end of one link: its link owner, and the virtio-mmio register accessors that an
/// existing driver needs.
///
/// Every wait has a deadline and ends at once when the back-end goes away or starts anew.
public struct Frontend<P: Platform & ~Copyable>: ~Copyable {
  /// The link.
  public var link: NativeLink<P>
  /// How long one control operation may take, in nanoseconds.
  public var controlTimeout: UInt64
  /// Looks before a control wait sleeps.
  public var spinCount: Int
  var transactions = DriverTransactions()
  var notifications: InlineArray<8, NotificationCounters>

  /// Takes a link over; nothing is written before ``start()``.
  @inline(never)
  public init(
    link: consuming NativeLink<P>, controlTimeoutNanoseconds: UInt64 = 5_000_000_000,
    spinCount: Int = 2000
  ) {
    precondition(link.plan.side == .frontEnd)
    self.link = link
    controlTimeout = controlTimeoutNanoseconds
    self.spinCount = spinCount
    notifications = InlineArray { NotificationCounters(slot: $0) }
  }

  /// Starts this side with a fresh epoch.
  public mutating func start() {
    transactions.begin()
    link.start()
  }

  /// Looks at the peer once and answers a new start of it. After `.peerStarted` and `.down`
  /// every queue and every open request is void.
  @inline(never)
  public mutating func step() -> LinkEvent {
    let event = link.look()
    switch event {
    case .none: break
    case .peerStarted, .down: transactions.begin()
    case .up:
      for slot in 0..<BlockLayout.slotCount {
        notifications[slot] = NotificationCounters(slot: slot)
        notifications[slot].begin(on: link)
      }
    }
    // Requests and counters of the earlier pairing go with the rest of the block.
    if link.owesAnswer { link.answer() }
    return event
  }

  /// Waits until both sides know each other.
  @inline(never)
  public mutating func waitForLink(until deadline: Instant) throws(FrontendError) {
    while !link.isUp {
      if step() != .none { continue }
      link.prepareToSleep()
      if step() != .none {
        link.stayAwake()
        continue
      }
      switch link.sleep(until: deadline) {
      case .event: continue
      case .deadline: throw .deadline(.linkUp)
      case .interrupted: throw .interrupted
      case .gone: throw .platformGone
      }
    }
  }

  // MARK: Transactions

  /// Reads a register or up to 8 configuration bytes through a transaction.
  public mutating func read(
    slot: Int, offset: Int, width: UInt8 = 4
  ) throws(FrontendError) -> UInt64 {
    try transact(.read, slot, offset, width, 0)
  }

  /// Writes a register or configuration bytes; returns when the back-end has acted on it.
  public mutating func write(
    slot: Int, offset: Int, width: UInt8 = 4, _ value: UInt64
  ) throws(FrontendError) {
    _ = try transact(.write, slot, offset, width, value)
  }

  /// Writes a register by name.
  public mutating func write(
    slot: Int, _ register: MMIORegister, _ value: UInt32
  ) throws(FrontendError) {
    try write(slot: slot, offset: register.rawValue, UInt64(value))
  }

  /// Reads a register by name.
  public mutating func read(
    slot: Int, _ register: MMIORegister
  ) throws(FrontendError) -> UInt32 {
    UInt32(truncatingIfNeeded: try read(slot: slot, offset: register.rawValue))
  }

  @inline(never)
  private mutating func transact(
    _ operation: TransactionOperation, _ slot: Int, _ offset: Int, _ width: UInt8,
    _ value: UInt64
  ) throws(FrontendError) -> UInt64 {
    let stage = FrontendStage.transaction(offset: offset)
    let deadline = link.platform.now().advanced(byNanoseconds: controlTimeout)
    guard link.isUp else { throw .linkLost(stage) }
    if transactions.isOpen(slot: slot) {
      // An earlier request missed its deadline; its answer ends the quarantine.
      _ = try awaitAnswer(slot, stage, deadline)
    }
    transactions.request(
      operation, slot: slot, offset: offset, width: width, value: value, on: &link)
    let answer = try awaitAnswer(slot, stage, deadline)
    guard answer.result == 0 else { throw .refused(answer.result, register: offset) }
    return answer.value
  }

  private mutating func awaitAnswer(
    _ slot: Int, _ stage: FrontendStage, _ deadline: Instant
  ) throws(FrontendError) -> TransactionAnswer {
    while true {
      for _ in 0..<max(1, spinCount) {
        if let answer = transactions.answer(slot: slot, on: &link) { return answer }
        Ordering.spinHint()
      }
      if step() == .down || !link.isUp { throw .linkLost(stage) }
      link.prepareToSleep()
      if let answer = transactions.answer(slot: slot, on: &link) {
        link.stayAwake()
        return answer
      }
      if step() != .none || !link.isUp {
        link.stayAwake()
        throw .linkLost(stage)
      }
      switch link.sleep(until: deadline) {
      case .event: continue
      case .deadline:
        guard let answer = transactions.answer(slot: slot, on: &link) else {
          throw .deadline(stage)
        }
        return answer
      case .interrupted: throw .interrupted
      case .gone: throw .platformGone
      }
    }
  }

  // MARK: Queues

  /// Tells the back-end that `queue` of `slot` moved; called when `DriverQueue.publish` says so.
  public mutating func notify(slot: Int, queue: Int) {
    notifications[slot].notify(queue: queue, on: &link)
  }

  /// Leaves on purpose.
  public mutating func leave() {
    transactions.begin()
    link.leave()
  }
}
