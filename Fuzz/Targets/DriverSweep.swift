import CWatch
import DeviceRuntime
import HostResources
import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import VirtioDevice
import VirtioTransport
import Virtqueue

/// The story of a device that is no disk: a console, random numbers, a network. What may be lost
/// and what not is the talk's.
@safe
final class DriverSweep<Driver: FuzzedDriver & ~Copyable>: CrashStage {
  typealias Front = DriverFront<Driver>

  let talk: SweepTalk<Driver>
  private let books: [UnsafeMutableRawPointer]
  private var bookIndex = 1
  private var backend: Backend<ScheduledPeer, FuzzedDevice>

  init(_ talk: SweepTalk<Driver>) throws(SystemError) {
    self.talk = talk
    unsafe books = [
      FuzzLinks.book(HostileBackend.bookBytes), FuzzLinks.book(HostileBackend.bookBytes),
      FuzzLinks.book(HostileBackend.bookBytes),
    ]
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: HostileBackend.bookBytes)
    backend = BackendFuzzer.backend(
      Self.kinds, try FuzzLinks.make(.shared), FuzzedDevice.Medium.Plan(), HostScript(), arena)
    try super.init()
  }

  /// As many devices as it takes to have the talk's at its slot.
  private static var kinds: [FuzzedDevice.Kind] {
    Array(BackendFuzzer.standard.prefix(Driver.slot + 1))
  }

  override func reset() { talk.reset() }

  // MARK: The back-end

  override func startBackEnd() {
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(
      unsafeBase: books[bookIndex], count: HostileBackend.bookBytes)
    backend = BackendFuzzer.backend(
      Self.kinds, link, FuzzedDevice.Medium.Plan(), talk.script, arena)
    backend.start()
  }

  override func stepBackEnd() -> Progress { backend.step() }
  override var isBackEndQuiet: Bool { backend.isQuiet }
  override func sleepBackEnd() { _ = backend.sleep(until: Instant(nanoseconds: link.time)) }
  override func quiesceBackEnd() { backend.quiesce() }
  override func leaveBackEnd() { backend.leave() }
  override var backEndErrors: UInt64 {
    let counters = backend.slots[Driver.slot].counters
    return backend.link.counters.peerErrors + counters.queueErrors + counters.refusals
  }

  // MARK: The front-end

  override func forgetFrontEnd() { talk.frontEndDied() }

  override func live() throws(Stop) {
    var arena = unsafe PrivateArena(unsafeBase: books[2], count: HostileBackend.bookBytes)
    guard var front = Front(link, &arena) else {
      preconditionFailure("the pools hold a driver")
    }
    try checkAlive()
    while phase < Self.phases {
      switch phase {
      case 1:
        // Only the set-up is taken down: connecting again resets the device.
        front.disconnect()
        try transfer(&front)
      case 2:
        replaceBackEnd()
        try transfer(&front)
      case 3:
        front.leave()
        talk.frontEndDied()
        try checkAlive()
        phase = 4
        return
      default: try transfer(&front)
      }
      if front.peerErrors > 0 { fail("the front-end saw errors of an honest back-end") }
      try checkAlive()
      phase += 1
    }
  }

  private func connect(_ front: inout Front) throws(Stop) {
    // A wait of the scheduled link ends without an event where a real one would go on, so an
    // attempt may fail while the other side comes back.
    for _ in 0..<100 where !front.isConnected {
      do throws(BlockFrontendError) {
        try front.connect(until: Instant(nanoseconds: link.time + 1_000_000))
        talk.sessionStarts()
      } catch {
        try checkAlive()
        pump()
      }
    }
    try checkAlive()
    guard front.isConnected else {
      fail("the front-end does not connect")
      throw .now
    }
  }

  /// What the user does until everything is where it belongs.
  private func transfer(_ front: inout Front) throws(Stop) {
    talk.transferStarts()
    for _ in 0..<400 {
      try connect(&front)
      var isDone = false
      do throws(QueueError) {
        isDone = try talk.look(&front.driver)
      } catch {
        try checkAlive()
        fail("an honest back-end breaks a queue: \(error)")
      }
      // What the dead find does not count.
      try checkAlive()
      if let failure = talk.failure { fail(failure) }
      try checkAlive()
      if isDone { return }
      front.wait(until: link.time)
      try checkAlive()
    }
    fail("the transfer does not end")
    throw .now
  }
}
