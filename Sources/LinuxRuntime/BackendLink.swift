import CommandOptions
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioTransport

/// What one turn of a link's loop found.
enum LinkTurn {
  case busy
  case idle
  /// The link serves no more.
  case ended
}

/// One link of a back-end process: everything is opened by `init`, so that nothing is half-started
/// when something is wrong.
///
/// ``turn()`` never blocks; whoever owns the link decides what to do while it is idle.
struct BackendLink: ~Copyable {
  private var backend: Backend<HostPlatform, ServedDevice>
  private let wake: LocalWake
  private let options: BackendOptions
  private let subject: String
  private let deviceCount: Int
  private var wasUp = false
  private var isGone = false
  private var stopDeadline: Instant?
  /// Declared last: what lies in it goes first.
  private let memory: PrivateBlocks

  /// How long requests in flight may take to end when the link is stopped, in nanoseconds.
  static var drainNanoseconds: UInt64 { 5_000_000_000 }

  /// Takes over a link that was joined and opens its devices, with their private memory.
  init(
    _ platform: consuming HostPlatform, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification], _ options: BackendOptions, memory: PrivateBlocks
  ) throws(UsageError) {
    subject = BackendOptions.Face.link(specification).subject
    backend = try Self.open(platform, specification, devices, options, memory)
    wake = backend.link.platform.localWake
    deviceCount = devices.count
    self.options = options
    self.memory = memory
  }

  private static func open(
    _ platform: consuming HostPlatform, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification], _ options: BackendOptions, _ memory: PrivateBlocks
  ) throws(UsageError) -> Backend<HostPlatform, ServedDevice> {
    guard devices.count <= BlockLayout.slotCount else {
      throw UsageError(
        "link \(specification.name): \(devices.count) devices, a link carries at"
          + " most \(BlockLayout.slotCount)")
    }
    let link = try makeNativeLink(platform, specification, side: .backEnd)
    let wake = link.platform.localWake
    var arena = memory.arena(4 << 20)
    guard var backend = Backend<HostPlatform, ServedDevice>(link: link, arena: &arena) else {
      preconditionFailure("4 MiB hold a link")
    }
    for (index, device) in devices.enumerated() {
      var books = memory.arena(2 << 20)
      let device = try ServedDevice.make(
        device, wakeDescriptor: wake.descriptor, arena: &books,
        log: options.resourceLog("link \(specification.name)"))
      var own = memory.arena(2 << 20)
      guard backend.add(device, at: index, arena: &own) else {
        preconditionFailure("2 MiB hold a device's queues")
      }
    }
    return backend
  }

  /// The event that ends a sleep.
  var wakeDescriptor: Int32 { wake.descriptor }

  // MARK: The loop

  mutating func begin() {
    backend.start()
    options.note(.info, subject, "waiting for its front-end")
  }

  /// Looks once at everything; bounded.
  mutating func turn() -> LinkTurn {
    if isGone { return .ended }
    if let stopDeadline, backend.isQuiet || backend.link.platform.now() >= stopDeadline {
      backend.leave()
      wasUp = false
      options.note(.info, subject, "left")
      return .ended
    }
    let progress = backend.step()
    if backend.link.isUp != wasUp {
      wasUp = backend.link.isUp
      options.note(.info, subject, wasUp ? "up" : "down")
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

  /// Whether a front-end is there, and when the link has to be turned even if nothing wakes it.
  mutating func tellState(_ body: (Bool, UInt64?) -> Void) {
    body(wasUp, stopDeadline?.nanoseconds)
  }

  /// Sleeps on the link's own events.
  mutating func sleep() { note(backend.sleep(until: stopDeadline)) }

  mutating func prepareToSleep() -> Bool { backend.prepareToSleep() }

  mutating func stayAwake() { backend.stayAwake() }

  /// Is awake again after others have waited; takes what came.
  mutating func endSleep() { note(backend.endSleep(until: Instant(nanoseconds: 0))) }

  /// Looks whether the platform is still there, without sleeping.
  mutating func peek() { note(backend.link.platform.wait(until: Instant(nanoseconds: 0))) }

  private mutating func note(_ outcome: WaitOutcome) {
    guard outcome == .gone, !isGone else { return }
    isGone = true
    wasUp = false
    options.note(.error, subject, backend.link.platform.goneText)
  }

  /// Lets `epoll` watch what wakes this link.
  func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    try backend.link.platform.addWaits(to: epoll, tag: tag)
  }

  func removeWaits(from epoll: Int32) { backend.link.platform.removeWaits(from: epoll) }

  // MARK: Numbers

  /// Gives every number with its meaning, always in the same order.
  mutating func forEachCounter(_ body: (Counter, UInt64) -> Void) {
    let link = backend.link.counters
    func say(_ name: String, _ value: UInt64) {
      body(Counter(scope: .link, slot: -1, name: name), value)
    }
    say("up", wasUp ? 1 : 0)
    say("pairings", link.pairings)
    say("losses", link.losses)
    say("doorbells", link.doorbells)
    say("sleeps", link.sleeps)
    say("wakeUps", link.wakeUps)
    say("peerErrors", link.peerErrors)
    for slot in 0..<deviceCount {
      let counters = backend.slots[slot].counters
      func say(_ name: String, _ value: UInt64) {
        body(Counter(scope: .device, slot: slot, name: name), value)
      }
      say("chains", counters.chains)
      say("notificationsSeen", counters.notificationsSeen)
      say("notificationsSent", counters.notificationsSent)
      say("transactions", counters.transactions)
      say("refusals", counters.refusals)
      say("queueErrors", counters.queueErrors)
      say("resets", counters.resets)
      backend.slots[slot].device.forEachCounter(slot: slot, body)
    }
  }

  /// The queues that the drivers have made ready, with what they wrote into their registers.
  mutating func forEachRing(_ body: (RingPlace) -> Void) {
    for slot in 0..<deviceCount {
      let registers = backend.slots[slot].registers
      for queue in 0..<registers.identity.queueCount {
        let state = registers.queueState(queue)
        guard state.isReady else { continue }
        let place = registers.queueAddresses(queue)
        body(
          RingPlace(
            slot: slot, queue: queue, size: state.size, descriptors: place.descriptors,
            available: place.available, used: place.used))
      }
    }
  }

  /// The kind of each device.
  var kinds: [String] {
    (0..<deviceCount).map { backend.slots[$0].device.kindName }
  }
}
