import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import LinuxSupport
import SharedMemory
import SiemensDialect
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A back-end in the Siemens dialect, with its one device.
struct SiemensServedLink: ~Copyable {
  private var backend: SiemensBackend<LibraryPlatform, LibraryDevice>
  private let voice: LinkVoice
  private let path: String
  private var shown: SiemensPhase?
  private var isWaitShown = false
  private var isGone = false
  private var stopDeadline: Instant?
  /// Whether the next process goes on where this one stops.
  private var hasSuccessor = false
  private var transactions: UInt64 = 0
  private var attentionEnd: UInt64 = 0
  private var looks: UInt32 = 0
  /// The book, when somebody keeps it for the next process.
  private let kept: KeptMemory?

  /// How long the loop keeps looking after a transaction, in nanoseconds: a driver makes them one
  /// after the other and spins for each, which a sleep would let wait for a wake-up.
  private static var attention: UInt64 { 300_000 }
  /// Private memory of a back-end with a device of 32 queues.
  static var arenaBytes: Int { 4 << 20 }

  /// Where everything lies on a link, for a device.
  ///
  /// - Throws: one line that says what does not fit, before anything is used up.
  static func plan(
    _ facts: LinkFacts, _ device: borrowing LibraryDevice, path: String
  ) throws(UsageError) -> SiemensPlan {
    if let type = Dialect.deviceType(facts.deviceClass), type != device.deviceID {
      throw UsageError(
        "link \(path): its class is for a device of type \(type), the given one is of type"
          + " \(device.deviceID); the driver would not find it")
    }
    return try planSiemens(
      path, own: facts.peerID, facts.geometry, configurationSize: device.configurationSize)
  }

  /// Puts the device on a link that was joined.
  ///
  /// - Parameters:
  ///   - path: the link's name.
  ///   - arena: at least ``arenaBytes``.
  ///   - isAdopted: whether an earlier process has joined it, and may have left a book.
  static func open(
    _ platform: consuming LibraryPlatform, _ device: consuming LibraryDevice, _ plan: SiemensPlan,
    path: String, _ voice: LinkVoice, arena: inout PrivateArena, isAdopted: Bool
  ) -> SiemensServedLink {
    let connection = platform.connection
    guard
      var backend = SiemensBackend<LibraryPlatform, LibraryDevice>(
        platform: platform, plan: plan, device: device, arena: &arena)
    else { preconditionFailure("4 MiB hold a device's queues") }
    let kept = keepMemory(path, connection, backend.bookByteCount, isAdopted: isAdopted, voice)
    if let kept { precondition(backend.keepBook(in: kept.region), "the book has its size") }
    return SiemensServedLink(backend, path, voice, kept)
  }

  private init(
    _ backend: consuming SiemensBackend<LibraryPlatform, LibraryDevice>, _ path: String,
    _ voice: LinkVoice, _ kept: KeptMemory?
  ) {
    self.backend = backend
    self.path = path
    self.voice = voice
    self.kept = kept
  }

  private func say(_ text: String, _ note: LinkNote = .info) { voice.say(text, note) }

  // MARK: The loop

  mutating func begin() {
    if let kept, kept.isOld {
      if backend.resume() { return say("goes on where an earlier back-end stopped") }
      say("the kept book is of no use; starting anew", .warning)
    }
    backend.start()
  }

  /// Looks once at everything; bounded.
  @inline(never)
  mutating func turn() -> LinkTurn {
    if isGone { return .gone }
    if let stopDeadline, backend.isQuiet || backend.platform.now() >= stopDeadline {
      // The next process goes on: State stays as it is, and the guest does not notice.
      // What is still in flight is in the book.
      if kept != nil, hasSuccessor {
        say("stopped; its descriptors are kept")
        return .left
      }
      leave()
      say("left")
      return .left
    }
    let isBusy = backend.step()
    if backend.phase != shown { show() }
    if backend.counters.transactions != transactions {
      transactions = backend.counters.transactions
      attentionEnd = backend.platform.now().nanoseconds + Self.attention
    }
    return isBusy || isAttentive() ? .busy : .idle
  }

  private mutating func isAttentive() -> Bool {
    guard attentionEnd != 0 else { return false }
    Ordering.spinHint()
    // The clock costs as much as a look: read it now and then.
    looks &+= 1
    if looks & 15 == 0, backend.platform.now().nanoseconds >= attentionEnd { attentionEnd = 0 }
    return attentionEnd != 0
  }

  /// Takes no new requests; ``turn()`` ends the link when nothing is in flight.
  mutating func beginStop(hasSuccessor: Bool) {
    self.hasSuccessor = hasSuccessor
    guard stopDeadline == nil else { return }
    stopDeadline = backend.platform.now().advanced(
      byNanoseconds: NativeServedLink.drainNanoseconds)
    backend.quiesce()
  }

  /// Tells the front-end; nothing is for the next process.
  @inline(never)
  mutating func leave() {
    backend.leave()
    guard kept != nil else { return }
    for kind in ["link", "book"] { KeptDescriptor.forget(KeptDescriptor.name(kind, path)) }
  }

  /// Whether a front-end is there.
  var isUp: Bool { mutating get { backend.phase == .serving && !isGone } }
  /// When the link has to be turned even if nothing wakes it.
  var deadline: UInt64? { mutating get { earlier(backend.repetition, stopDeadline)?.nanoseconds } }

  /// Sleeps on the link's own events.
  mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    if backend.waitsForFrontEndToLeave { sayWait() }
    return note(backend.sleep(until: earlier(deadline, stopDeadline)))
  }

  mutating func prepareToSleep() -> Bool {
    if backend.waitsForFrontEndToLeave { sayWait() }
    return backend.prepareToSleep()
  }

  mutating func stayAwake() { backend.stayAwake() }

  /// Is awake again after others have waited; takes what came.
  mutating func endSleep() -> WaitOutcome {
    note(backend.endSleep(until: Instant(nanoseconds: 0)))
  }

  /// Looks whether the platform is still there, without sleeping.
  mutating func peek() -> WaitOutcome {
    note(backend.platform.wait(until: Instant(nanoseconds: 0)))
  }

  private mutating func note(_ outcome: WaitOutcome) -> WaitOutcome {
    guard outcome == .gone, !isGone else { return outcome }
    isGone = true
    say(backend.platform.goneText, .error)
    return outcome
  }

  /// Lets `epoll` watch what wakes this link.
  mutating func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    try backend.platform.addWaits(to: epoll, tag: tag)
  }

  mutating func removeWaits(from epoll: Int32) { backend.platform.removeWaits(from: epoll) }

  private mutating func show() {
    shown = backend.phase
    switch backend.phase {
    case .withdrawn: break
    case .offered: say("Siemens dialect, waiting for its front-end")
    case .serving: say("up (Siemens dialect)")
    }
  }

  private mutating func sayWait() {
    guard !isWaitShown else { return }
    isWaitShown = true
    say(
      "its front-end belongs to an earlier back-end and cannot be taken over;"
        + " bind its driver again or restart its cell", .warning)
  }

  // MARK: Numbers

  /// Gives every number with its meaning, always in the same order.
  mutating func giveCounters(_ walk: inout CounterWalk) {
    let count = backend.counters
    walk.begin(.link, -1)
    walk.take("up", isUp ? 1 : 0)
    walk.take("pairings", count.pairings)
    walk.take("losses", count.losses)
    walk.take("doorbells", count.doorbells)
    walk.take("secondDoorbells", count.secondDoorbells)
    walk.take("sleeps", count.sleeps)
    walk.take("strayTransactions", count.strayTransactions)
    walk.take("orphanedTransactions", count.orphanedTransactions)
    walk.take("abandonments", count.abandonments)
    walk.take("headerRepairs", count.repairs)
    walk.begin(.device, 0)
    walk.take("chains", count.chains)
    walk.take("transactions", count.transactions)
    walk.take("refusals", count.refusals)
    walk.take("queueErrors", count.queueErrors)
    walk.take("resets", count.resets)
    walk.begin(.kind, 0)
    backend.device.giveCounters(&walk)
  }

  /// Number and kind of the device.
  var kind: (id: UInt32, name: String) {
    mutating get { (backend.device.deviceID, backend.device.kindName) }
  }
}

/// The book of a link: the one that an earlier process left, or a new one that is given to whoever
/// keeps descriptors together with the connection; `nil` when nobody does.
private func keepMemory(
  _ path: String, _ connection: Int32, _ count: Int, isAdopted: Bool, _ voice: LinkVoice
) -> KeptMemory? {
  let link = KeptDescriptor.name("link", path)
  let book = KeptDescriptor.name("book", path)
  do throws(SystemError) {
    if isAdopted, let old = KeptDescriptor.take(book) {
      return try KeptMemory(adopting: old, count)
    }
    guard KeptDescriptor.isThere, connection >= 0 else { return nil }
    // A book and a connection belong together: none of an earlier pair stays.
    for name in [link, book] { KeptDescriptor.forget(name) }
    let new = try KeptMemory(count)
    try KeptDescriptor.keep(new.number, book)
    try KeptDescriptor.keep(connection, link)
    return new
  } catch {
    voice.say("nothing is kept for the next back-end: \(error.text)", .warning)
    return nil
  }
}
