import CLinux
public import CommandOptions
public import IVShmem
import LinuxSupport
import SharedMemory
public import SiemensDialect
import VirtioDevice
import VirtioTransport
import Virtqueue

/// One link in the Siemens dialect, with its one device.
struct SiemensServedLink: ~Copyable {
  private var backend: SiemensBackend<HostPlatform, ServedDevice>
  private let wake: LocalWake
  private let options: BackendOptions
  private let subject: String
  private let path: String
  private var shown: SiemensPhase?
  private var isWaitShown = false
  private var isGone = false
  private var stopDeadline: Instant?
  private var transactions: UInt64 = 0
  private var attentionEnd: UInt64 = 0
  private var looks: UInt32 = 0
  /// The book, when somebody keeps it for the next process.
  private let kept: KeptMemory?
  /// Declared last: what lies in it goes first.
  private let memory: PrivateBlocks

  /// How long the loop keeps looking after a transaction, in nanoseconds: a driver makes them one
  /// after the other and spins for each, which a sleep would let wait for a wake-up.
  private static var attention: UInt64 { 300_000 }
  /// Private memory of a back-end with a device of 32 queues.
  private static var arenaBytes: Int { 4 << 20 }

  /// Opens the device on a link that was joined, with its private memory.
  ///
  /// - Parameter isAdopted: whether an earlier process has joined it, and may have left a book.
  static func open(
    _ platform: consuming HostPlatform, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification], _ options: BackendOptions, memory: PrivateBlocks,
    isAdopted: Bool
  ) throws(UsageError) -> SiemensServedLink {
    let link = specification.name
    guard let first = devices.first, devices.count == 1 else {
      throw UsageError(
        "link \(link): \(devices.count) devices, the Siemens dialect carries one a link")
    }
    let wake = platform.localWake
    var books = memory.arena(2 << 20)
    let device = try ServedDevice.make(
      first, wakeDescriptor: wake.descriptor, arena: &books,
      log: options.resourceLog("link \(link)"))
    if let type = Dialect.deviceType(platform.deviceClass), type != device.deviceID {
      throw UsageError(
        "link \(link): its class is for a device of type \(type), the given one is of type"
          + " \(device.deviceID); the driver would not find it")
    }
    let plan = try planSiemens(
      link, own: platform.peerID, platform.geometry,
      configurationSize: device.configurationSize)
    var arena = memory.arena(arenaBytes)
    let connection = platform.connection
    guard
      var backend = SiemensBackend<HostPlatform, ServedDevice>(
        platform: platform, plan: plan, device: device, arena: &arena)
    else { preconditionFailure("4 MiB hold a device's queues") }
    let kept = keepMemory(
      specification, connection, backend.bookByteCount, isAdopted: isAdopted, options)
    if let kept { precondition(backend.keepBook(in: kept.region), "the book has its size") }
    return SiemensServedLink(backend, wake, specification, options, kept, memory)
  }

  private init(
    _ backend: consuming SiemensBackend<HostPlatform, ServedDevice>, _ wake: LocalWake,
    _ specification: LinkSpecification, _ options: BackendOptions, _ kept: KeptMemory?,
    _ memory: PrivateBlocks
  ) {
    self.backend = backend
    self.wake = wake
    self.options = options
    self.kept = kept
    self.memory = memory
    path = specification.name
    subject = BackendOptions.Face.link(specification).subject
  }

  /// The event that ends a sleep.
  var wakeDescriptor: Int32 { wake.descriptor }

  private func say(_ text: String, _ level: LogRecord.Level = .info) {
    options.note(level, subject, text)
  }

  // MARK: The loop

  mutating func begin() {
    if let kept, kept.isOld {
      if backend.resume() { return say("goes on where an earlier back-end stopped") }
      say("the kept book is of no use; starting anew", .warning)
    }
    backend.start()
  }

  /// Looks once at everything; bounded.
  mutating func turn() -> LinkTurn {
    if isGone { return .ended }
    if let stopDeadline, backend.isQuiet || backend.platform.now() >= stopDeadline {
      // The next process goes on: State stays as it is, and the guest does not notice.
      // What is still in flight is in the book.
      if kept != nil, cl_stop_requested() != 0 {
        say("stopped; its descriptors are kept")
        return .ended
      }
      backend.leave()
      if kept != nil {
        for kind in ["link", "book"] { DescriptorStore.forget(DescriptorStore.name(kind, path)) }
      }
      say("left")
      return .ended
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
  mutating func beginStop() {
    guard stopDeadline == nil else { return }
    stopDeadline = backend.platform.now().advanced(
      byNanoseconds: BackendLink.drainNanoseconds)
    backend.quiesce()
  }

  /// Whether a front-end is there, and when the link has to be turned even if nothing wakes it.
  mutating func tellState(_ body: (Bool, UInt64?) -> Void) {
    let repetition = backend.repetition?.nanoseconds
    let stop = stopDeadline?.nanoseconds
    body(backend.phase == .serving, repetition.map { min($0, stop ?? .max) } ?? stop)
  }

  /// Sleeps on the link's own events.
  mutating func sleep() {
    if backend.waitsForFrontEndToLeave { sayWait() }
    note(backend.sleep(until: stopDeadline))
  }

  mutating func prepareToSleep() -> Bool {
    if backend.waitsForFrontEndToLeave { sayWait() }
    return backend.prepareToSleep()
  }

  mutating func stayAwake() { backend.stayAwake() }

  /// Is awake again after others have waited; takes what came.
  mutating func endSleep() { note(backend.endSleep(until: Instant(nanoseconds: 0))) }

  /// Looks whether the platform is still there, without sleeping.
  mutating func peek() { note(backend.platform.wait(until: Instant(nanoseconds: 0))) }

  private mutating func note(_ outcome: WaitOutcome) {
    guard outcome == .gone, !isGone else { return }
    isGone = true
    say(backend.platform.goneText, .error)
  }

  /// Lets `epoll` watch what wakes this link.
  func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    try backend.platform.addWaits(to: epoll, tag: tag)
  }

  func removeWaits(from epoll: Int32) { backend.platform.removeWaits(from: epoll) }

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
  mutating func forEachCounter(_ body: (Counter, UInt64) -> Void) {
    let count = backend.counters
    func say(_ name: String, _ value: UInt64, slot: Int = -1) {
      body(Counter(scope: slot < 0 ? .link : .device, slot: slot, name: name), value)
    }
    say("up", backend.phase == .serving && !isGone ? 1 : 0)
    say("pairings", count.pairings)
    say("losses", count.losses)
    say("doorbells", count.doorbells)
    say("secondDoorbells", count.secondDoorbells)
    say("sleeps", count.sleeps)
    say("strayTransactions", count.strayTransactions)
    say("orphanedTransactions", count.orphanedTransactions)
    say("abandonments", count.abandonments)
    say("headerRepairs", count.repairs)
    say("chains", count.chains, slot: 0)
    say("transactions", count.transactions, slot: 0)
    say("refusals", count.refusals, slot: 0)
    say("queueErrors", count.queueErrors, slot: 0)
    say("resets", count.resets, slot: 0)
    backend.device.forEachCounter(slot: 0, body)
  }

  /// The kind of the device.
  var kinds: [String] { [backend.device.kindName] }
}

/// The book of a link: the one that an earlier process left, or a new one that is given to the
/// service manager together with the connection; `nil` when nobody keeps it.
private func keepMemory(
  _ specification: LinkSpecification, _ connection: Int32, _ count: Int,
  isAdopted: Bool, _ options: BackendOptions
) -> KeptMemory? {
  let path = specification.name
  let link = DescriptorStore.name("link", path)
  let book = DescriptorStore.name("book", path)
  do throws(SystemError) {
    if isAdopted, let old = DescriptorStore.take(book) {
      return try KeptMemory(adopting: old, count)
    }
    guard DescriptorStore.isThere else { return nil }
    // A book and a connection belong together: none of an earlier pair stays.
    for name in [link, book] { DescriptorStore.forget(name) }
    let new = try KeptMemory(count)
    try DescriptorStore.keep(new.number, book)
    try DescriptorStore.keep(connection, link)
    return new
  } catch {
    options.note(
      .warning, BackendOptions.Face.link(specification).subject,
      "nothing is kept for the next back-end: \(error.text)")
    return nil
  }
}

/// Where header and pool lie, or one line with the way out.
public func planSiemens(
  _ link: String, own: PeerID, _ geometry: LinkGeometry, configurationSize: Int
) throws(UsageError) -> SiemensPlan {
  do throws(SiemensPlanError) {
    return try SiemensPlan(own: own, geometry: geometry, configurationSize: configurationSize)
  } catch {
    switch error {
    case .peers(let own, let count):
      throw UsageError(
        "link \(link): the Siemens dialect needs exactly 2 peers, 0 and 1; this is peer"
          + " \(own.rawValue) of \(count)")
    case .sectionTooSmall(let have, let need):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes, the Siemens dialect needs at"
          + " least \(need); output sections do not help")
    case .sectionTooLarge(let have):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes; the driver of the Siemens dialect"
          + " fails from 2 GiB on")
    }
  }
}

/// The dialect of a link that was joined: as asked for, or as it shows itself.
func chooseDialect(
  _ platform: borrowing HostPlatform, _ specification: LinkSpecification, _ side: LinkSide
) throws(UsageError) -> Dialect {
  if let asked = specification.dialect { return asked }
  let partner = specification.partner(side, own: platform.peerID)
  let isThere = UInt32(partner.rawValue) < platform.geometry.maxPeers
  let state = isThere ? platform.region.state(of: partner, in: platform.geometry) : 0
  return try Dialect.recognise(
    Dialect.Signs(deviceClass: platform.deviceClass, peerState: state), side: side,
    link: specification.name)
}
