import CWatch
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import VirtioTransport

/// The life and death of a front-end and a back-end in one thread, of which one dies before a given
/// step: a store to shared memory or a register write (CWatch). It comes back, and everything has
/// to come right. What the story is about is a subclass.
///
/// The story: start-up and a transfer; a reset of the device and the same again; the back-end
/// leaves in good order, another one takes over, and the same again; the front-end leaves, another
/// one starts and looks.
class CrashStage {
  /// Ends what the current life of the front-end does.
  enum Stop: Error {
    /// It is dead, or a promise is broken.
    case now
  }

  private let links: [ScheduledLink]
  private(set) var link: ScheduledLink
  private(set) var plan = CrashCase(.output, .backEnd, step: 0)
  private var isPumping = false
  private var deaths = 0
  /// Which part of the story is told.
  var phase = 0
  /// What broke.
  var failure: String?
  static var phases: Int { 5 }

  init() throws(SystemError) {
    links = [try FuzzLinks.make(.shared), try FuzzLinks.make(.output)]
    link = links[0]
  }

  // MARK: What a subclass knows

  /// A new story: nothing has happened.
  func reset() {}
  /// A new back-end starts.
  func startBackEnd() {}
  func stepBackEnd() -> Progress { .idle }
  var isBackEndQuiet: Bool { true }
  func sleepBackEnd() {}
  func quiesceBackEnd() {}
  func leaveBackEnd() {}
  /// Rules that the back-end says were broken.
  var backEndErrors: UInt64 { 0 }
  /// One life of the front-end, from its start to the end of the story or its death.
  func live() throws(Stop) {}
  /// The front-end died, and what it had open with it.
  func forgetFrontEnd() {}
  /// What has to hold when the story is over.
  func checkEnd() {}

  // MARK: The story

  /// Tells the story with one case; returns how many steps each side made.
  ///
  /// - Throws: the promise that was broken.
  func run(_ plan: CrashCase) throws(FuzzFailure) -> (backEnd: UInt64, frontEnd: UInt64) {
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
      if cw_is_dead(1) != 0 {
        bury(1)
        forgetFrontEnd()
      }
    }
    if failure == nil { checkPromises() }
    if let failure { throw FuzzFailure("\(plan): \(failure)") }
    return (cw_steps(0), cw_steps(1))
  }

  private func begin(_ plan: CrashCase) {
    self.plan = plan
    link = links[plan.placement == .shared ? 0 : 1]
    link.restart(seed: 7)
    link.scramble()
    isPumping = false
    deaths = 0
    phase = 0
    failure = nil
    reset()
    #if CELLMATE_WATCH
      link.views[0].watch(side: 0, dyingBefore: plan.side == .backEnd ? plan.step : 0)
      link.views[1].watch(side: 1, dyingBefore: plan.side == .frontEnd ? plan.step : 0)
    #endif
    startBackEnd()
  }

  private func checkPromises() {
    if phase < Self.phases { return fail("the story does not end: phase \(phase)") }
    let errors = backEndErrors
    if errors > 0 { return fail("the back-end saw \(errors) errors of an honest front-end") }
    checkEnd()
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
    // The dead wait for nothing.
    link.time &+= cw_is_dead(1) != 0 ? 1_000_000 : 1000
    for _ in 0..<40 {
      let progress = stepBackEnd()
      if cw_is_dead(0) != 0 {
        checkBackEnd()
      } else if progress == .idle, isBackEndQuiet {
        break
      }
    }
    sleepBackEnd()
    checkBackEnd()
  }

  /// The back-end leaves as its program does, and another one takes over.
  func replaceBackEnd() {
    quiesceBackEnd()
    for _ in 0..<40 where cw_is_dead(0) == 0 {
      if stepBackEnd() == .idle, isBackEndQuiet { break }
    }
    leaveBackEnd()
    if cw_is_dead(0) != 0 {
      checkBackEnd()
    } else {
      startBackEnd()
      checkBackEnd()
    }
  }
}
