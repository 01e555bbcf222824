public import IVShmem
public import SharedMemory
public import VirtioDevice
public import VirtioTransport
import Virtqueue

/// What one look at everything found.
public enum Progress: Equatable, Sendable {
  /// There was something to do: look again before sleeping.
  case busy
  /// Nothing moved.
  case idle
}

/// The back-end of one link: the link owner and the one drain loop.
///
/// ``step()`` looks at everything once and never blocks; ``sleep(until:)`` follows the sleeping
/// rule of docs/protocol.md. Composition is by the generic parameter: an enum of devices where a
/// link carries several types.
public struct Backend<P: Platform & ~Copyable, Device: DeviceModel & ~Copyable>: ~Copyable {
  /// The devices, by slot. Before the link: members go in this order, and a device that waits for
  /// its threads has to go before the memory they work on.
  public internal(set) var slots: PrivateStore<DeviceSlot<Device>>
  /// The link.
  public var link: NativeLink<P>
  var transactions = DeviceTransactions()
  private var isLeaving = false

  /// Takes a link over; devices are added before ``start()``. `nil` when `arena` is too small.
  @inline(never)
  public init?(link: consuming NativeLink<P>, arena: inout PrivateArena) {
    precondition(link.plan.side == .backEnd)
    guard
      let slots = PrivateStore<DeviceSlot<Device>>(
        count: BlockLayout.slotCount, in: &arena)
    else { return nil }
    self.link = link
    self.slots = slots
  }

  /// Adds a device in the free slot `index`, before ``start()``; `false` when `arena` is too
  /// small.
  public mutating func add(
    _ device: consuming Device, at index: Int, arena: inout PrivateArena
  ) -> Bool {
    guard let slot = DeviceSlot(device, index: index, arena: &arena) else { return false }
    slots.put(slot, at: index)
    return true
  }

  /// Starts the link. May be called again after the platform came back.
  public mutating func start() {
    transactions.begin()
    for index in 0..<slots.count where slots.isOccupied(index) { slots[index].abort() }
    link.start()
    publishSlots()
  }

  // MARK: One step

  /// Looks once at the link, the transactions, the completions and the queues; bounded.
  public mutating func step() -> Progress {
    var progress = stepLink()
    guard link.isUp || link.owesAnswer else {
      drainCompletions()
      return progress
    }
    for index in 0..<slots.count {
      let slot = slots.isOccupied(index) ? stepSlot(index) : stepEmptySlot(index)
      if slot == .busy { progress = .busy }
    }
    return progress
  }

  /// A front-end that asks for a device that is not there gets an answer, not a time-out.
  private mutating func stepEmptySlot(_ index: Int) -> Progress {
    guard let transaction = transactions.next(slot: index, on: &link) else { return .idle }
    transactions.acknowledge(
      transaction.word, slot: index, result: RegisterRefusal.noSuchDevice.rawValue, value: 0,
      on: &link)
    return .busy
  }

  @inline(never)
  private mutating func stepLink() -> Progress {
    var progress = Progress.idle
    for _ in 0..<RuntimeLimits.linkEvents {
      switch link.look() {
      case .none:
        // A new pairing is answered only when nothing of the old one can touch the region:
        // otherwise a late read would land in a buffer of the peer's next life.
        guard link.owesAnswer, isQuiet else { return progress }
        answer()
        progress = .busy
      case .peerStarted, .down:
        progress = .busy
        transactions.begin()
        for index in 0..<slots.count where slots.isOccupied(index) { slots[index].abort() }
      case .up:
        progress = .busy
        beginPairing()
      }
    }
    return progress
  }

  /// Whether no device has a request in flight.
  public var isQuiet: Bool {
    for index in 0..<slots.count where slots.isOccupied(index) {
      if !slots[index].isQuiet { return false }
    }
    return true
  }

  private mutating func answer() {
    link.clearError()
    // Acknowledgements and counters of the earlier pairing go with the rest of the block.
    link.rewriteBlock()
    publishSlots()
    link.answer()
  }

  private mutating func beginPairing() {
    for index in 0..<slots.count where slots.isOccupied(index) {
      slots[index].notifications = NotificationCounters(slot: index)
      slots[index].notifications.begin(on: link)
      slots[index].dirty = .max
    }
  }

  private mutating func publishSlots() {
    for index in 0..<slots.count where slots.isOccupied(index) {
      let mirror = slots[index].mirror
      mirror.publishDirectory(slots[index].registers.identity, on: link)
      mirror.publishRegisters(slots[index].registers, on: link)
      publishConfiguration(index)
    }
  }

  private mutating func publishConfiguration(_ index: Int) {
    let generation = slots[index].withRegisters { registers in
      registers.configurationGeneration &+= 2
      return registers.configurationGeneration
    }
    slots[index].mirror.publishConfiguration(
      of: slots[index].device, generation: generation, on: link)
  }

  private mutating func stepSlot(_ index: Int) -> Progress {
    var progress = Progress.idle
    if stepTransactions(index) { progress = .busy }
    if takeCompletions(index) { progress = .busy }
    if finishPending(index) { progress = .busy }
    if !isLeaving, drainQueues(index) { progress = .busy }
    if slots[index].device.takeConfigurationChange() {
      publishConfiguration(index)
      announce(index)
      progress = .busy
    }
    return progress
  }

  mutating func announce(_ index: Int) {
    slots[index].changeCount &+= 1
    slots[index].mirror.announceChange(count: slots[index].changeCount, on: &link)
  }

  // MARK: Completions and queues

  private mutating func drainCompletions() {
    for index in 0..<slots.count where slots.isOccupied(index) { _ = takeCompletions(index) }
  }

  /// Returns finished requests of a device to their queues; those of a queue that is gone are
  /// dropped.
  private mutating func takeCompletions(_ index: Int) -> Bool {
    var found = false
    for _ in 0..<RuntimeLimits.completionsPerDevice {
      guard let completion = slots[index].device.nextCompletion() else { break }
      found = true
      let queue = completion.queue
      guard slots[index].queues.isOccupied(queue) else { continue }
      let isLive = slots[index].queues[queue].complete(
        completion.ticket, written: completion.written)
      guard isLive else { continue }
      slots[index].dirty |= 1 << UInt32(queue)
    }
    return found
  }

  private mutating func drainQueues(_ index: Int) -> Bool {
    guard slots[index].isRunning else { return false }
    var found = false
    for queue in 0..<slots[index].queues.count where slots[index].queues.isOccupied(queue) {
      if slots[index].notifications.takeNotification(queue: queue, on: link) {
        slots[index].counters.notificationsSeen &+= 1
      }
      if drain(index, queue) { found = true }
    }
    return found
  }

  /// Takes, serves and publishes up to a budget of chains of one queue.
  private mutating func drain(_ index: Int, _ queue: Int) -> Bool {
    slots[index].dirty &= ~(1 << UInt32(queue))
    let (taken, error) = slots[index].serveQueue(queue, region: link.region)
    if slots[index].queues[queue].publish() {
      slots[index].counters.notificationsSent &+= 1
      slots[index].notifications.notify(queue: queue, on: &link)
    }
    if let error { breakQueue(index, error) }
    return taken > 0 || error != nil
  }

  private mutating func breakQueue(_ index: Int, _ error: QueueError) {
    slots[index].counters.queueErrors &+= 1
    slots[index].counters.lastQueueError = error.reason
    slots[index].withRegisters { $0.demandReset() }
    slots[index].mirror.publishRegisters(slots[index].registers, on: link)
    link.report(.brokenQueue)
    announce(index)
  }

  // MARK: Sleep

  /// Sleeps until something moves, a local completion arrives or `deadline` passes; returns at
  /// once when the last look finds anything.
  @inline(never)
  public mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    guard prepareToSleep() else { return .event }
    return endSleep(until: deadline)
  }

  /// Asks everyone for a wake-up and looks for the last time; whether it may be slept now. After
  /// `true` comes ``endSleep(until:)`` or ``stayAwake()``.
  ///
  /// Apart from ``sleep(until:)`` it serves a thread with several links: it prepares all of them,
  /// waits for any, and ends the sleep of each with a deadline that has passed.
  @inline(never)
  public mutating func prepareToSleep() -> Bool {
    armQueues()
    link.prepareToSleep()
    guard hasWork() else { return true }
    stayAwake()
    return false
  }

  /// Takes ``prepareToSleep()`` back.
  public mutating func stayAwake() {
    link.stayAwake()
    suppressQueues()
  }

  /// Waits, after ``prepareToSleep()``, until an event or `deadline`, and is awake again.
  public mutating func endSleep(until deadline: Instant?) -> WaitOutcome {
    let outcome = link.sleep(until: deadline)
    suppressQueues()
    return outcome
  }

  private mutating func armQueues() {
    forEachQueue { $0.armNotifications() }
  }

  private mutating func suppressQueues() {
    forEachQueue { $0.suppressNotifications() }
  }

  private mutating func forEachQueue(_ body: (inout DeviceQueue) -> Void) {
    for index in 0..<slots.count where slots.isOccupied(index) && slots[index].isRunning {
      for queue in 0..<slots[index].queues.count where slots[index].queues.isOccupied(queue) {
        body(&slots[index].queues[queue])
      }
    }
  }

  /// The last look before sleep: everything anyone waits for. Completions of the device are not
  /// in it: they end the wait through the platform's local wake-up, which latches.
  private mutating func hasWork() -> Bool {
    if step() == .busy { return true }
    // What a leaving back-end does not take is no work: it sleeps until what it has is done.
    guard !isLeaving else { return false }
    for index in 0..<slots.count where slots.isOccupied(index) && slots[index].isRunning {
      for queue in 0..<slots[index].queues.count where slots[index].queues.isOccupied(queue) {
        if slots[index].queues[queue].hasPending(), slots[index].device.canServe(queue: queue) {
          return true
        }
      }
    }
    return false
  }

  // MARK: Leaving

  /// Stops taking new chains; in-flight requests finish. Call ``step()`` until ``isQuiet``.
  public mutating func quiesce() {
    isLeaving = true
    link.setStatus(link.ownStatus.union(.quiescing))
    link.wakePeer()
  }

  /// Takes the devices out, after ``leave()``: their hosts end what they do before the platform,
  /// which is the memory they do it on, may go.
  @inline(never)
  public mutating func removeDevices() {
    for index in 0..<slots.count where slots.isOccupied(index) { _ = slots.remove(at: index) }
  }

  /// Tells the front-end and sets State 0.
  public mutating func leave() {
    for index in 0..<slots.count where slots.isOccupied(index) { slots[index].abort() }
    link.leave()
  }
}

extension DeviceSlot where Device: ~Copyable {
  /// Takes and serves chains of one queue, up to the budget.
  mutating func serveQueue(
    _ queue: Int, region: SharedRegion
  ) -> (taken: Int, error: QueueError?) {
    var taken = 0
    do throws(QueueError) {
      while taken < RuntimeLimits.chainsPerQueue, device.canServe(queue: queue) {
        guard let chain = try queues[queue].takeChain(into: &segments) else { break }
        taken += 1
        device.serve(chain, segments, index: queue, on: &queues[queue], in: region)
      }
    } catch {
      counters.chains &+= UInt64(taken)
      return (taken, error)
    }
    counters.chains &+= UInt64(taken)
    return (taken, nil)
  }
}
