import CWatch
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// The story of a disk: the sides pair again, every request is completed exactly once, what was
/// acknowledged is on the disk.
///
/// A transfer is writes, a flush and reads; the second front-end reads everything.
@safe
final class BlockSweep: CrashStage {
  typealias Back = Backend<ScheduledPeer, BlockDevice<SweepHost>>

  private let books: [UnsafeMutableRawPointer]
  private var bookIndex = 1
  private var backend: Back
  var medium = SweepMedium()
  /// Uses a disk that forgets what it acknowledged: every case has to fail.
  var hasForgetfulDisk = false
  /// For each sector the newest number that was submitted, and the newest one acknowledged.
  var submitted = [UInt64](repeating: 0, count: SweepMedium.sectors)
  var acknowledged = [UInt64](repeating: 0, count: SweepMedium.sectors)
  /// Tokens of the current front-end life that are open.
  var open: Set<UInt32> = []
  var nextToken: UInt32 = 0

  private static var bookBytes: Int { 1 << 20 }

  override init() throws(SystemError) {
    unsafe books = [
      FuzzLinks.book(Self.bookBytes), FuzzLinks.book(Self.bookBytes),
      FuzzLinks.book(Self.bookBytes),
    ]
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: Self.bookBytes)
    backend = Self.make(try FuzzLinks.make(.shared), medium, arena)
    try super.init()
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

  override func reset() {
    medium = SweepMedium()
    medium.forgets = hasForgetfulDisk
    submitted = [UInt64](repeating: 0, count: SweepMedium.sectors)
    acknowledged = submitted
    open = []
  }

  override func checkEnd() {
    if medium.lateMoves > 0 {
      fail("\(medium.lateMoves) requests moved bytes after the reset that waits for them")
    }
  }

  // MARK: The back-end

  override func startBackEnd() {
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(unsafeBase: books[bookIndex], count: Self.bookBytes)
    backend = Self.make(link, medium, arena)
    backend.start()
  }

  override func stepBackEnd() -> Progress { backend.step() }
  override var isBackEndQuiet: Bool { backend.isQuiet }
  override func sleepBackEnd() { _ = backend.sleep(until: Instant(nanoseconds: link.time)) }
  override func quiesceBackEnd() { backend.quiesce() }
  override func leaveBackEnd() { backend.leave() }
  override var backEndErrors: UInt64 { backend.link.counters.peerErrors }

  // MARK: The front-end

  /// What was open died with the front-end; whoever asked for it asks again.
  override func forgetFrontEnd() { open = [] }

  override func live() throws(Stop) {
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
