import CWatch
import DeviceRuntime
import IVShmem
public import LinuxSupport
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A front-end and a back-end in one thread, of which one dies before a given step: a store to
/// shared memory or a register write (CWatch). It comes back, and everything has to come right:
/// the sides pair again, every request is completed exactly once, what was acknowledged is on the
/// disk.
///
/// The story: start-up, writes, flush, reads; a reset of the device and the same again; the
/// back-end leaves in good order, another one takes over, and the same again; the front-end leaves,
/// another one starts and reads everything.
@safe
public final class CrashSweep {
  /// Ends what the current life of the front-end does.
  enum Stop: Error {
    /// It is dead, or a promise is broken.
    case now
  }

  typealias Back = Backend<ScheduledPeer, BlockDevice<SweepHost>>

  private let links: [ScheduledLink]
  private let books: [UnsafeMutableRawPointer]
  private var bookIndex = 1
  private var backend: Back
  var link: ScheduledLink
  var medium = SweepMedium()
  /// Uses a disk that forgets what it acknowledged: every case has to fail.
  public var hasForgetfulDisk = false
  private var plan = CrashCase(.output, .backEnd, step: 0)
  private var isPumping = false
  private var deaths = 0
  private var phase = 0
  /// What broke.
  var failure: String?
  /// For each sector the newest number that was submitted, and the newest one acknowledged.
  var submitted = [UInt64](repeating: 0, count: SweepMedium.sectors)
  var acknowledged = [UInt64](repeating: 0, count: SweepMedium.sectors)
  /// Tokens of the current front-end life that are open.
  var open: Set<UInt32> = []
  var nextToken: UInt32 = 0

  private static var bookBytes: Int { 1 << 20 }
  static var phases: Int { 5 }

  /// Makes the memory that all cases use.
  ///
  /// - Throws: what the system says about it.
  public init() throws(SystemError) {
    links = [try FuzzLinks.make(.shared), try FuzzLinks.make(.output)]
    unsafe books = [
      FuzzLinks.book(Self.bookBytes), FuzzLinks.book(Self.bookBytes),
      FuzzLinks.book(Self.bookBytes),
    ]
    link = links[0]
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: Self.bookBytes)
    backend = Self.make(links[0], medium, arena)
  }

  @inline(never)
  private static func make(
    _ link: ScheduledLink, _ medium: SweepMedium, _ books: consuming PrivateArena
  ) -> Back {
    var arena = books
    let native = FuzzLinks.native(.backEnd, link)
    guard var backend = Back(link: native, arena: &arena) else {
      preconditionFailure("the books hold a back-end")
    }
    guard let size = QueueSize(16),
      let device = BlockDevice(
        host: SweepHost(medium), maximumQueueSize: size, slots: 8, arena: &arena)
    else { preconditionFailure("the books hold a device") }
    guard backend.add(device, at: 0, arena: &arena) else {
      preconditionFailure("the books hold a slot")
    }
    return backend
  }

  // MARK: The story

  /// Tells the story with one case; returns how many steps each side made.
  ///
  /// - Throws: the promise that was broken.
  @discardableResult
  public func run(_ plan: CrashCase) throws(FuzzFailure) -> (backEnd: UInt64, frontEnd: UInt64) {
    begin(plan)
    link.onWait = { [unowned self] in pump() }
    defer {
      link.onWait = nil
      cw_watch_end()
    }
    // Two deaths and the two lives that the story itself has, with a margin.
    for _ in 0..<8 where phase < Self.phases && failure == nil {
      do throws(Stop) {
        try live()
      } catch {
        if failure != nil { break }
      }
      if cw_is_dead(1) != 0 { reviveFrontEnd() }
    }
    if failure == nil { checkEnd() }
    if let failure { throw FuzzFailure("\(plan): \(failure)") }
    return (cw_steps(0), cw_steps(1))
  }

  private func begin(_ plan: CrashCase) {
    self.plan = plan
    link = links[plan.placement == .shared ? 0 : 1]
    link.restart(seed: 7)
    link.scramble()
    medium = SweepMedium()
    medium.forgets = hasForgetfulDisk
    isPumping = false
    deaths = 0
    phase = 0
    failure = nil
    submitted = [UInt64](repeating: 0, count: SweepMedium.sectors)
    acknowledged = submitted
    open = []
    #if CELLMATE_WATCH
      link.views[0].watch(side: 0, dyingBefore: plan.side == .backEnd ? plan.step : 0)
      link.views[1].watch(side: 1, dyingBefore: plan.side == .frontEnd ? plan.step : 0)
    #endif
    startBackEnd()
  }

  private func checkEnd() {
    if phase < Self.phases { return fail("the story does not end: phase \(phase)") }
    let counters = backend.link.counters
    if counters.peerErrors > 0 {
      return fail("the back-end saw \(counters.peerErrors) errors of an honest front-end")
    }
    if medium.lateMoves > 0 {
      return fail("\(medium.lateMoves) requests moved bytes after the reset that waits for them")
    }
    if plan.step > 0, deaths == 0 { fail("nobody died: the story has fewer steps") }
  }

  func fail(_ text: String) {
    if failure == nil { failure = "phase \(phase): \(text)" }
  }

  /// Whether the front-end still is, and nothing is broken.
  func checkAlive() throws(Stop) {
    if failure != nil || cw_is_dead(1) != 0 { throw .now }
  }

  // MARK: Life and death

  private func startBackEnd() {
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(unsafeBase: books[bookIndex], count: Self.bookBytes)
    backend = Self.make(link, medium, arena)
    backend.start()
  }

  /// A side died: what its hypervisor does, and the next death.
  private func bury(_ side: UInt32) {
    deaths += 1
    if !plan.isHidden { link.bury(PeerID(UInt16(side))) }
    let native = FuzzLinks.native(side == 0 ? .backEnd : .frontEnd, link)
    if plan.findsGarbage {
      let block = native.plan.ownBlock
      link.overwrite(block..<block + native.plan.ownBlockSize, count: native.plan.ownBlockSize)
    }
    cw_set_last(side, 0)
    guard plan.nextStep > 0, deaths == 1 else { return }
    let next: UInt32 = plan.nextSide == .backEnd ? 0 : 1
    cw_set_last(next, cw_steps(next) + plan.nextStep)
  }

  private func reviveFrontEnd() {
    bury(1)
    // What was open died with the front-end; whoever asked for it asks again.
    open = []
  }

  private func checkBackEnd() {
    // As often as it may die.
    for _ in 0..<3 where cw_is_dead(0) != 0 {
      bury(0)
      startBackEnd()
    }
  }

  /// The back-end's turn, until nothing moves.
  func pump() {
    guard !isPumping else { return }
    isPumping = true
    defer { isPumping = false }
    link.time &+= 1000
    for _ in 0..<40 {
      let progress = backend.step()
      if cw_is_dead(0) != 0 {
        checkBackEnd()
      } else if progress == .idle, backend.isQuiet {
        break
      }
    }
    _ = backend.sleep(until: Instant(nanoseconds: link.time))
    checkBackEnd()
  }

  /// The back-end leaves as its program does, and another one takes over.
  private func replaceBackEnd() {
    backend.quiesce()
    for _ in 0..<40 where cw_is_dead(0) == 0 {
      if backend.step() == .idle, backend.isQuiet { break }
    }
    backend.leave()
    if cw_is_dead(0) != 0 {
      checkBackEnd()
    } else {
      startBackEnd()
      checkBackEnd()
    }
  }

  /// One life of the front-end, from its start to the end of the story or its death.
  private func live() throws(Stop) {
    var arena = unsafe PrivateArena(unsafeBase: books[2], count: Self.bookBytes)
    var front: BlockFrontend<ScheduledPeer>
    do throws(BlockFrontendError) {
      front = try BlockFrontend(
        frontend: Frontend(link: FuzzLinks.native(.frontEnd, link), spinCount: 1), slot: 0,
        depth: 4, arena: &arena)
    } catch { preconditionFailure("the pools hold a front-end") }
    front.frontend.start()
    try checkAlive()
    while phase < Self.phases {
      switch phase {
      case 0: try transfer(&front)
      case 1:
        // Only the set-up is taken down: connecting again resets the device.
        front.disconnect()
        try transfer(&front)
      case 2:
        replaceBackEnd()
        try transfer(&front)
      case 3:
        front.frontend.leave()
        try checkAlive()
        phase = 4
        return
      default: try readAll(&front)
      }
      if front.frontend.link.counters.peerErrors > 0 {
        fail("the front-end saw errors of an honest back-end")
      }
      try checkAlive()
      phase += 1
    }
  }
}
