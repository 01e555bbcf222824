import CWatch
import DeviceRuntime
import HostResources
import IVShmem
public import LinuxSupport
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A hostile back-end, played by bytes, against the production block front-end.
///
/// At each wait of the front-end the back-end has its turn: the production back-end makes a step,
/// so that set-ups get far, and the bytes store what they like wherever a back-end may: its block,
/// its pool, its State. After each run an honest back-end starts, and the same front-end has to
/// read and write again.
@safe
public final class FrontendFuzzer {
  typealias Front = BlockFrontend<ScheduledPeer>

  /// Turns of the hostile back-end, over all runs.
  public var actions: UInt64 { hostile.actions }
  /// Requests that the front-end got through, over all runs.
  public private(set) var completions: UInt64 = 0
  /// Operations of the front-end that ended with an error, over all runs.
  public private(set) var violations: UInt64 = 0
  /// The most accesses one call of the front-end made.
  public private(set) var largestCall: UInt64 = 0
  /// What was played, for people.
  public var summary: String {
    "\(actions) actions, \(completions) completions, \(violations) errors,"
      + " at most \(largestCall) accesses a call"
  }
  /// Whether the front-end reads a byte that is none of its own, to show that it is seen.
  public var strays = false
  private let links: [ScheduledLink]
  private let book: UnsafeMutableRawPointer
  private let hostile: HostileBackend
  /// A set-up is about 30 transactions; each look at the peer is a few loads.
  static var callLimit: UInt64 { 200_000 }

  /// Makes the memory that all runs use.
  ///
  /// - Throws: what the system says about it.
  public init() throws(SystemError) {
    links = [try FuzzLinks.make(.shared), try FuzzLinks.make(.output)]
    unsafe book = FuzzLinks.book(HostileBackend.bookBytes)
    hostile = HostileBackend(links[0], slot: 0)
  }

  /// Plays one input.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws(FuzzFailure) {
    hostile.input = FuzzInput(bytes: bytes)
    let choice = hostile.input.byte()
    let link = links[Int(choice & 1)]
    link.restart(seed: UInt64(choice) + 1)
    if choice & 4 != 0 { link.scramble() }
    hostile.isHonest = false
    hostile.start(on: link)
    link.onWait = { [hostile] in hostile.turn() }
    defer {
      link.onWait = nil
      cw_watch_end()
    }
    #if CELLMATE_WATCH
      link.views[1].watch(side: 1)
    #endif
    var arena = unsafe PrivateArena(unsafeBase: book, count: HostileBackend.bookBytes)
    var front: Front
    do throws(BlockFrontendError) {
      front = try Front(
        frontend: Frontend(link: FuzzLinks.native(.frontEnd, link), spinCount: 1), slot: 0,
        depth: 4, arena: &arena)
    } catch { throw FuzzFailure("the pools hold no front-end: \(error)") }
    guard let out = front.allocateForWriting(512), let into = front.allocateForReading(512) else {
      throw FuzzFailure("the pools hold no buffers")
    }
    front.frontend.start()
    // Bounded, so that an input of any length ends.
    for round in UInt32(0)..<300 where !hostile.input.isAtEnd {
      try work(&front, link, round, out, into)
    }
    hostile.isHonest = true
    try recover(&front, link, out, into)
  }

  /// One look of the front-end's user at everything, whose cost is bounded.
  private func work(
    _ front: inout Front, _ link: ScheduledLink, _ round: UInt32, _ out: BufferSegment,
    _ into: BufferSegment
  ) throws(FuzzFailure) {
    link.time &+= 1000
    let before = cw_accesses(1)
    do throws(BlockFrontendError) {
      if !front.isConnected { try front.connect(until: Instant(nanoseconds: link.time + 500)) }
      if front.inFlightCount < 4 {
        let type: BlockRequestType = [.read, .write, .flush][Int(round % 3)]
        fence(front, out, into)
        defer { unfence(front.frontend.link.region) }
        try front.submit(
          type, sector: 1, data: type == .read ? into : type == .write ? out : .empty,
          token: round)
      }
      front.publish()
      // Not more completions than requests.
      try takeCompletions(&front, out, into)
      _ = front.step()
      _ = front.sleep(until: Instant(nanoseconds: link.time))
    } catch {
      violations += 1
      front.disconnect()
    }
    let cost = cw_accesses(1) - before
    largestCall = max(largestCall, cost)
    guard cost <= Self.callLimit else {
      throw FuzzFailure("one call made \(cost) accesses, at most \(Self.callLimit) are allowed")
    }
  }

  /// Takes what has come back, not more than there are requests.
  private func takeCompletions(
    _ front: inout Front, _ out: BufferSegment, _ into: BufferSegment
  ) throws(BlockFrontendError) {
    fence(front, out, into)
    defer { unfence(front.frontend.link.region) }
    if strays { _ = front.frontend.link.region.load8(front.frontend.link.region.count - 1) }
    for _ in 0..<4 {
      guard try front.nextCompletion() != nil else { break }
      completions += 1
    }
  }

  /// Bans everything that is none of the front-end's: what is not in its rings, its headers, its
  /// status bytes or its buffers.
  private func fence(_ front: borrowing Front, _ out: BufferSegment, _ into: BufferSegment) {
    let region = front.frontend.link.region
    FuzzTargets.fence(
      [out, into].map { $0.offset..<$0.offset + $0.count }, in: region)
    #if CELLMATE_WATCH
      front.allowOwnMemory()
    #endif
  }

  // MARK: Afterwards

  private func recover(
    _ front: inout Front, _ link: ScheduledLink, _ out: BufferSegment, _ into: BufferSegment
  ) throws(FuzzFailure) {
    hostile.start(on: link)
    front.disconnect()
    do throws(BlockFrontendError) {
      try front.connect(until: Instant(nanoseconds: link.time + 1_000_000))
      // What the attack left open ends first.
      for _ in 0..<20 where front.inFlightCount > 0 { try look(&front, link) }
      let region = front.frontend.link.region
      for index in 0..<512 {
        region.store8(UInt8(truncatingIfNeeded: index &* 5), at: out.offset + index)
      }
      for (type, data): (BlockRequestType, BufferSegment) in [(.write, out), (.read, into)] {
        try front.submit(type, sector: 2, data: data, token: 1)
        front.publish()
        for _ in 0..<20 where front.inFlightCount > 0 { try look(&front, link) }
        guard front.inFlightCount == 0 else {
          throw BlockFrontendError.full
        }
      }
      for index in 0..<512
      where region.load8(into.offset + index) != UInt8(truncatingIfNeeded: index &* 5) {
        throw BlockFrontendError.poolTooSmall
      }
    } catch {
      throw FuzzFailure("an honest back-end cannot serve (full: never done, pool: data): \(error)")
    }
  }

  private func look(_ front: inout Front, _ link: ScheduledLink) throws(BlockFrontendError) {
    while try front.nextCompletion() != nil {}
    if front.step() { try front.connect(until: Instant(nanoseconds: link.time + 1_000_000)) }
    front.publish()
    _ = front.sleep(until: Instant(nanoseconds: link.time))
  }
}
