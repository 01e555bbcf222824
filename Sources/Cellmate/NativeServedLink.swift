import LinuxRuntime
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioTransport

/// A back-end in the native dialect.
///
/// ``turn()`` never blocks; whoever owns the link decides what to do while it is idle.
struct NativeServedLink: ~Copyable {
  private var backend: Backend<LibraryPlatform, LibraryDevice>
  private let voice: LinkVoice
  private var wasUp = false
  private var isGone = false
  private var stopDeadline: Instant?

  /// How long requests in flight may take to end when the link is stopped, in nanoseconds.
  static var drainNanoseconds: UInt64 { 5_000_000_000 }

  /// Takes a link over; `nil` when `arena` is too small.
  init?(
    _ link: consuming NativeLink<LibraryPlatform>, _ voice: LinkVoice, arena: inout PrivateArena
  ) {
    guard let backend = Backend<LibraryPlatform, LibraryDevice>(link: link, arena: &arena) else {
      return nil
    }
    self.backend = backend
    self.voice = voice
  }

  /// Adds a device to a free slot; `false` when `arena` is too small.
  mutating func add(
    _ device: consuming LibraryDevice, at slot: Int, arena: inout PrivateArena
  ) -> Bool { backend.add(device, at: slot, arena: &arena) }

  func hasDevice(_ slot: Int) -> Bool { backend.slots.isOccupied(slot) }

  /// Takes the devices out, after ``leave()``, before the memory they work on is unmapped.
  mutating func removeDevices() { backend.removeDevices() }

  // MARK: The loop

  mutating func begin() {
    backend.start()
    voice.say("waiting for its front-end")
  }

  /// Looks once at everything; bounded.
  @inline(never)
  mutating func turn() -> LinkTurn {
    if isGone { return .gone }
    if let stopDeadline, backend.isQuiet || backend.link.platform.now() >= stopDeadline {
      leave()
      voice.say("left")
      return .left
    }
    let progress = backend.step()
    if backend.link.isUp != wasUp {
      wasUp = backend.link.isUp
      voice.say(wasUp ? "up" : "down")
    }
    return progress == .busy ? .busy : .idle
  }

  /// Takes no new requests; ``turn()`` ends the link when nothing is in flight, or after
  /// ``drainNanoseconds``.
  mutating func beginStop() {
    guard stopDeadline == nil else { return }
    stopDeadline = backend.link.platform.now().advanced(byNanoseconds: Self.drainNanoseconds)
    backend.quiesce()
  }

  /// Tells the front-end.
  @inline(never)
  mutating func leave() {
    backend.leave()
    wasUp = false
  }

  /// Whether a front-end is there.
  var isUp: Bool { mutating get { backend.link.isUp && !isGone } }
  /// When the link has to be turned even if nothing wakes it.
  var deadline: UInt64? { mutating get { stopDeadline?.nanoseconds } }

  /// Sleeps on the link's own events.
  mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    note(backend.sleep(until: earlier(deadline, stopDeadline)))
  }

  mutating func prepareToSleep() -> Bool { backend.prepareToSleep() }

  mutating func stayAwake() { backend.stayAwake() }

  /// Is awake again after others have waited; takes what came.
  mutating func endSleep() -> WaitOutcome {
    note(backend.endSleep(until: Instant(nanoseconds: 0)))
  }

  /// Looks whether the platform is still there, without sleeping.
  mutating func peek() -> WaitOutcome {
    note(backend.link.platform.wait(until: Instant(nanoseconds: 0)))
  }

  private mutating func note(_ outcome: WaitOutcome) -> WaitOutcome {
    guard outcome == .gone, !isGone else { return outcome }
    isGone = true
    wasUp = false
    voice.say(backend.link.platform.goneText, .error)
    return outcome
  }

  /// Lets `epoll` watch what wakes this link.
  mutating func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    try backend.link.platform.addWaits(to: epoll, tag: tag)
  }

  mutating func removeWaits(from epoll: Int32) { backend.link.platform.removeWaits(from: epoll) }

  // MARK: Numbers

  /// Gives every number with its meaning, always in the same order.
  mutating func giveCounters(_ walk: inout CounterWalk) {
    let link = backend.link.counters
    walk.begin(.link, -1)
    walk.take("up", wasUp ? 1 : 0)
    walk.take("pairings", link.pairings)
    walk.take("losses", link.losses)
    walk.take("doorbells", link.doorbells)
    walk.take("sleeps", link.sleeps)
    walk.take("wakeUps", link.wakeUps)
    walk.take("peerErrors", link.peerErrors)
    for slot in 0..<backend.slots.count where backend.slots.isOccupied(slot) {
      let counters = backend.slots[slot].counters
      walk.begin(.device, slot)
      walk.take("chains", counters.chains)
      walk.take("notificationsSeen", counters.notificationsSeen)
      walk.take("notificationsSent", counters.notificationsSent)
      walk.take("transactions", counters.transactions)
      walk.take("refusals", counters.refusals)
      walk.take("queueErrors", counters.queueErrors)
      walk.take("resets", counters.resets)
      walk.begin(.kind, slot)
      backend.slots[slot].device.giveCounters(&walk)
    }
  }

  /// The queues that the drivers have made ready, with what they wrote into their registers.
  mutating func forEachRing(_ take: (ServedRing) -> Void) {
    for slot in 0..<backend.slots.count where backend.slots.isOccupied(slot) {
      let registers = backend.slots[slot].registers
      for queue in 0..<registers.identity.queueCount {
        let state = registers.queueState(queue)
        guard state.isReady else { continue }
        let place = registers.queueAddresses(queue)
        take(
          ServedRing(
            slot: slot, queue: queue, size: state.size, descriptors: place.descriptors,
            available: place.available, used: place.used))
      }
    }
  }

  /// Number and kind of a device, which is there.
  mutating func kind(_ slot: Int) -> (id: UInt32, name: String) {
    (backend.slots[slot].device.deviceID, backend.slots[slot].device.kindName)
  }
}

/// The earlier of two deadlines that may not be there.
func earlier(_ one: Instant?, _ other: Instant?) -> Instant? {
  guard let one, let other else { return one ?? other }
  return min(one, other)
}
