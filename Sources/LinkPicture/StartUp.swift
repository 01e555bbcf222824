public import DeviceRuntime
public import IVShmem
import SharedMemory
import Simulator
import VirtioBlock
import VirtioTransport
import Virtqueue

/// What happened on a simulated link from its first store to the first sector that was read,
/// played by the production code of both sides.
public struct StartUp: Sendable {
  /// Where everything lies.
  public let plan: LinkPlan
  /// The sections.
  public let geometry: LinkGeometry
  /// What the sides did, in order.
  public let actions: [LinkAction]
  /// The buffer of the sector that was read.
  public let buffer: Range<Int>

  /// Why there is nothing to draw.
  public enum Failure: Error, Equatable, Sendable {
    /// The sizes make no native link.
    case plan(LinkPlanError)
    /// The front-end did not come up.
    case frontend(BlockFrontendError)
    /// The sector was not read.
    case noAnswer
  }

  /// Plays a start-up; the same `seed` gives the same epochs.
  ///
  /// - Parameter depth: requests in flight, a power of two; four ring entries each.
  public init(
    geometry: LinkGeometry, placement: Placement? = nil, depth: UInt32 = 8, seed: UInt64 = 1
  ) throws(Failure) {
    let link = ScheduledLink(geometry: geometry, seed: seed, garbage: true)
    let front = try Self.plan(.frontEnd, geometry, placement)
    let recorder = LinkRecorder(link: link, plan: front)
    let cell = BackendCell(
      NativeLink(
        platform: RecordedPeer(.backEnd, recorder: recorder),
        plan: try Self.plan(.backEnd, geometry, placement)), recorder)
    cell.turn()
    link.onWait = { cell.turn() }
    defer { link.onWait = nil }
    do throws(BlockFrontendError) {
      buffer = try Self.run(recorder, front, depth, &cell.frontArena)
    } catch { throw .frontend(error) }
    guard !buffer.isEmpty else { throw .noAnswer }
    recorder.look(.frontEnd)
    self.geometry = geometry
    plan = front
    actions = recorder.actions
  }

  /// The front-end's cell, up to the answer; where the sector was.
  private static func run(
    _ recorder: LinkRecorder, _ plan: LinkPlan, _ depth: UInt32, _ arena: inout PrivateArena
  ) throws(BlockFrontendError) -> Range<Int> {
    // No spinning: a side that waits sleeps, and what wakes it is in the picture.
    let frontend = Frontend(
      link: NativeLink(platform: RecordedPeer(.frontEnd, recorder: recorder), plan: plan),
      spinCount: 0)
    var client = try BlockFrontend(frontend: frontend, slot: 0, depth: depth, arena: &arena)
    client.frontend.start()
    try client.connect(until: Instant(nanoseconds: 1_000_000_000))
    return try readSector(&client)
  }

  /// Reads sector 0; where its buffer was, or an empty range.
  private static func readSector(
    _ client: inout BlockFrontend<RecordedPeer>
  ) throws(BlockFrontendError) -> Range<Int> {
    guard let segment = client.allocateForReading(512) else { return 0..<0 }
    try client.submit(.read, sector: 0, data: segment, token: 1)
    client.publish()
    for _ in 0..<16 {
      _ = client.step()
      if let done = try client.nextCompletion() {
        return done.status == .ok ? segment.offset..<segment.offset + 512 : 0..<0
      }
      _ = client.sleep(until: Instant(nanoseconds: 0))
    }
    return 0..<0
  }

  private static func plan(
    _ side: LinkSide, _ geometry: LinkGeometry, _ placement: Placement?
  ) throws(Failure) -> LinkPlan {
    do throws(LinkPlanError) {
      return try LinkPlan(
        side: side, own: PeerID(side == .frontEnd ? 1 : 0),
        peer: PeerID(side == .frontEnd ? 0 : 1), geometry: geometry, placement: placement)
    } catch { throw .plan(error) }
  }
}

/// The back-end's cell: it gets the processor when the front-end waits.
private final class BackendCell {
  private var backend: Backend<RecordedPeer, BlockDevice<PictureDisk>>
  private let recorder: LinkRecorder
  private var isAsleep = false
  private var isRunning = false
  var frontArena: PrivateArena

  init(_ link: consuming NativeLink<RecordedPeer>, _ recorder: LinkRecorder) {
    // Both arenas live as long as the program: a picture is drawn once.
    var arena = Self.arena()
    guard let size = QueueSize(64),
      var backend = Backend<RecordedPeer, BlockDevice<PictureDisk>>(link: link, arena: &arena),
      let device = BlockDevice(
        host: PictureDisk(), maximumQueueSize: size, slots: 8, arena: &arena),
      backend.add(device, at: 0, arena: &arena)
    else { preconditionFailure("the arena holds a device") }
    backend.start()
    self.backend = backend
    self.recorder = recorder
    frontArena = Self.arena()
  }

  private static func arena() -> PrivateArena {
    let size = 4 << 20
    let base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    return unsafe PrivateArena(unsafeBase: base, count: size)
  }

  /// Runs until there is nothing to do, then goes to sleep as on a machine.
  func turn() {
    // The hook of a wait is called for both sides' waits.
    guard !isRunning else { return }
    isRunning = true
    defer { isRunning = false }
    if isAsleep {
      _ = backend.endSleep(until: Instant(nanoseconds: 0))
      isAsleep = false
    }
    for _ in 0..<64 {
      let progress = backend.step()
      recorder.look(.backEnd)
      if progress == .idle { break }
    }
    for _ in 0..<64 where !isAsleep {
      isAsleep = backend.prepareToSleep()
      recorder.look(.backEnd)
    }
  }
}
