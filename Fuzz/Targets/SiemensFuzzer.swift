import CWatch
import HostResources
import IVShmem
public import LinuxSupport
import SharedMemory
import SiemensDialect
import Simulator
import VirtioDevice
import Virtqueue

/// A hostile front-end of the Siemens dialect, played by bytes, against a back-end with a block
/// device, a console or an entropy device; now and then the back-end dies and the next one goes on
/// from its book, into which the bytes may have written.
///
/// The first byte chooses device, contents and book. After each run an honest front-end has to be
/// served.
@safe
public final class SiemensFuzzer {
  typealias Served = SiemensBackend<ScheduledPeer, FuzzedDevice>

  /// Calls that were played, over all runs.
  public private(set) var actions: UInt64 = 0
  /// Chains that the devices took, over all runs.
  public private(set) var chains: UInt64 = 0
  /// Back-ends that went on from a book, over all runs.
  public private(set) var resumptions: UInt64 = 0
  /// The most accesses one step of the back-end made.
  public private(set) var largestStep: UInt64 = 0
  /// What was played, for people.
  public var summary: String {
    "\(actions) actions, \(chains) chains, \(resumptions) resumptions,"
      + " at most \(largestStep) accesses a step"
  }

  let link: ScheduledLink
  var backend: Served
  private let books: [UnsafeMutableRawPointer]
  private let kept: SharedRegion
  private var bookIndex = 1
  var script = HostScript()
  private var kind = FuzzedDevice.Kind.block
  private var plan = FuzzedDevice.Medium.Plan()
  private var peer: ScheduledPeer
  private var hasBook = false

  private static var bookBytes: Int { 2 << 20 }
  private static var stepLimit: UInt64 { 600_000 }
  /// Where the hostile rings lie, from the start of the section: a page for each queue.
  private static func ring(_ queue: Int) -> Int { 0x1000 + queue * 0x400 }

  /// Makes the memory that all runs use.
  ///
  /// - Throws: what the system says about it.
  public init() throws(SystemError) {
    link = try Self.makeLink()
    unsafe books = [FuzzLinks.book(Self.bookBytes), FuzzLinks.book(Self.bookBytes)]
    kept = unsafe SharedRegion(unsafeBase: FuzzLinks.book(Self.bookBytes), count: Self.bookBytes)
    peer = ScheduledPeer(link: link, peerID: PeerID(1))
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: Self.bookBytes)
    backend = Self.make(.block, link, FuzzedDevice.Medium.Plan(), HostScript(), arena)
  }

  private static func makeLink() throws(SystemError) -> ScheduledLink {
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: 2, stateTableSize: 4096, readWriteSize: 0x18000, outputSize: 0)
    } catch { preconditionFailure("a geometry of whole pages") }
    return try ScheduledLink(guarding: geometry, seed: 1)
  }

  @inline(never)
  private static func make(
    _ kind: FuzzedDevice.Kind, _ link: ScheduledLink, _ plan: FuzzedDevice.Medium.Plan,
    _ script: HostScript, _ books: consuming PrivateArena
  ) -> Served {
    var arena = books
    let device = FuzzedDevice(kind, plan: plan, script: script, arena: &arena)
    let layout: SiemensPlan
    do throws(SiemensPlanError) {
      layout = try SiemensPlan(
        own: PeerID(0), geometry: link.geometry, configurationSize: device.configurationSize)
    } catch { preconditionFailure("the section holds header and pool") }
    guard
      let made = Served(
        platform: ScheduledPeer(link: link, peerID: PeerID(0)), plan: layout, device: device,
        ringFeatures: .indirectDescriptors | .eventIndex, arena: &arena)
    else { preconditionFailure("the books hold a back-end") }
    return made
  }

  private var base: Int { link.geometry.readWrite.lowerBound }

  // MARK: A run

  /// Plays one input.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws(FuzzFailure) {
    var input = FuzzInput(bytes: bytes)
    begin(input.byte())
    // Bounded, so that an input of any length ends.
    for _ in 0..<2000 where !input.isAtEnd { try act(&input) }
    chains += backend.counters.chains
    try recover()
    #if CELLMATE_WATCH
      cw_watch_end()
    #endif
  }

  private func begin(_ choice: UInt8) {
    link.restart(seed: UInt64(choice) + 1)
    if choice & 4 != 0 { link.scramble() }
    kind = [.block, .console, .entropy, .block][Int(choice & 3)]
    plan = FuzzedDevice.Medium.Plan()
    plan.delayChance = choice & 8 != 0 ? 64 : 0
    plan.delayLimit = 3
    plan.errorChance = choice & 16 != 0 ? 8 : 0
    hasBook = choice & 32 != 0
    script = HostScript()
    peer = ScheduledPeer(link: link, peerID: PeerID(1))
    renew(resuming: false)
    #if CELLMATE_WATCH
      link.views[0].watch(side: 0)
    #endif
  }

  /// Another back-end in place of the present one, which is dropped as it is.
  private func renew(resuming: Bool) {
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(unsafeBase: books[bookIndex], count: Self.bookBytes)
    backend = Self.make(kind, link, plan, script, arena)
    if hasBook { precondition(backend.keepBook(in: kept)) }
    if resuming, backend.resume() {
      resumptions += 1
    } else {
      backend.start()
    }
  }

  /// One step of the back-end, whose cost is bounded.
  @discardableResult
  func step() throws(FuzzFailure) -> Bool {
    let before = cw_accesses(0)
    let moved = backend.step()
    let cost = cw_accesses(0) - before
    largestStep = max(largestStep, cost)
    guard cost <= Self.stepLimit else {
      throw FuzzFailure("one step made \(cost) accesses, at most \(Self.stepLimit) are allowed")
    }
    return moved
  }

  // MARK: What the bytes say

  private func act(_ input: inout FuzzInput) throws(FuzzFailure) {
    actions += 1
    let choice = input.byte()
    switch choice & 15 {
    case 0: try step()
    case 1: _ = backend.sleep(until: Instant(nanoseconds: 0))
    case 2: try bringUp(choice & 16 == 0 ? 0 : input.byte())
    case 3, 4: offer(&input)
    case 5: try write(Int(input.byte()) % 0x90, value(&input), choice >> 4)
    case 6: try write(Self.fields[Int(input.byte()) % Self.fields.count], value(&input), 15)
    case 7: store(Int(input.half()) % 0x100, value(&input), Int(choice >> 4))
    case 8:
      for _ in 0..<Int(choice >> 4) { store(Int(input.half()), UInt64(input.byte()), 1) }
    case 9: peer.writeState([0, 1, 1, 1, 2, input.word()][Int(choice >> 4) % 6])
    case 10: if choice >> 4 == 0 { link.bury(PeerID(1)) } else { try step() }
    case 11: renew(resuming: true)
    case 12:
      guard hasBook else { return }
      let offset = Int(input.half()) % 0x800 & ~3
      kept.store32(UInt32(truncatingIfNeeded: value(&input)), at: offset)
    case 13: moveHosts(&input)
    case 14: peer.ringDoorbell(Vector(UInt16(choice >> 4)), at: PeerID(0))
    default: for _ in 0..<8 { try step() }
    }
    if choice & 128 == 0 { try step() }
  }

  private static var fields: [Int] {
    [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24, 0x26, 0x28, 0x30, 0x38, 0x44, 0x44, 0x4c, 0x50, 0x6c]
  }

  /// Small numbers, addresses in and near the pool, and anything.
  private func value(_ input: inout FuzzInput) -> UInt64 {
    let choice = input.byte()
    return switch choice & 3 {
    case 0: UInt64(choice >> 2)
    case 1: UInt64(input.byte()) << 6
    case 2: UInt64(input.half()) << 1
    default: input.long()
    }
  }

  private func store(_ offset: Int, _ value: UInt64, _ width: Int) {
    for byte in 0..<max(1, width & 7) where offset + byte < link.geometry.readWriteSize {
      link.region.store8(UInt8(value >> UInt64(8 * byte) & 0xff), at: base + offset + byte)
    }
  }

  /// A write transaction; what must not wait for a device is cleared at once.
  private func write(_ offset: Int, _ value: UInt64, _ width: UInt8) throws(FuzzFailure) {
    let pending = link.region.load32(base + 8)
    store(offset, value, Int(width == 15 ? 4 : width))
    link.region.store32(UInt32(offset), at: base + 8)
    peer.ringDoorbell(.zero, at: PeerID(0))
    try step()
    let isStop = offset == 0x26 || offset == 0x44
    guard pending == 0, !isStop, backend.phase == .serving else { return }
    guard link.region.load32(base + 8) == 0 else {
      throw FuzzFailure("the transaction of \(offset) waits")
    }
  }

  private func offer(_ input: inout FuzzInput) {
    let choice = input.byte()
    let ring = base + Self.ring(Int(choice & 1))
    let entry = Int(choice >> 1 & 15)
    let region = link.region
    let spot = UInt64(input.byte()) << 6
    region.store64(choice & 0x20 == 0 ? 0x2000 + spot : value(&input), at: ring + 16 * entry)
    region.store32(UInt32(input.byte()) << 2 | 1, at: ring + 16 * entry + 8)
    region.store16(UInt16(input.byte() & 7), at: ring + 16 * entry + 12)
    region.store16(UInt16(input.byte() & 31), at: ring + 16 * entry + 14)
    guard choice & 0x40 == 0 else { return }
    let index = region.load16(ring + 0x102)
    region.store16(UInt16(entry), at: ring + 0x104 + 2 * Int(index & 15))
    region.store16(index &+ 1, at: ring + 0x102)
  }

  private func moveHosts(_ input: inout FuzzInput) {
    let choice = input.byte()
    switch choice & 3 {
    case 0: script.isOpen[Int(choice >> 2 & 1)] = choice & 8 == 0
    case 1: script.columns = UInt16(choice)
    case 2: script.turn = Int(choice >> 2)
    default: script.allowance = Int(choice >> 2)
    }
    script.hasEvents = true
  }

  /// The driver's own set-up; `choice` breaks parts of it.
  private func bringUp(_ choice: UInt8) throws(FuzzFailure) {
    // An unload in between, unless the bits say otherwise.
    if choice & 1 == 0 {
      peer.writeState(0)
      for _ in 0..<8 { try step() }
    }
    peer.writeState(1)
    let low: UInt64 = choice & 2 == 0 ? 0x3000_0000 : 0
    var writes: [(Int, UInt64, UInt8)] = [
      (0x44, 0, 4), (0x44, 1, 4), (0x44, 3, 4), (0x18, 1, 4), (0x14, choice & 4 == 0 ? 3 : 0x13, 4),
      (0x18, 0, 4), (0x14, low, 4), (0x44, 0xb, 4),
    ]
    for queue in 0..<min(2, backend.registers.identity.queueCount) {
      let ring = UInt64(Self.ring(queue))
      for offset in stride(from: 0x100, to: 0x200, by: 8) {
        link.region.store64(0, at: base + Int(ring) + offset)
      }
      let size: UInt64 = choice & 16 == 0 ? 16 : UInt64(1) << UInt64(choice & 7)
      writes += [
        (0x1c, UInt64(queue), 4), (0x20, size, 2), (0x24, UInt64(choice >> 5), 2), (0x28, ring, 7),
        (0x30, ring + 0x100, 7), (0x38, ring + 0x180, 7), (0x26, 1, 2),
      ]
    }
    writes.append((0x44, 0xf, 4))
    for (offset, value, width) in writes {
      store(offset, width == 7 ? value & 0xff_ffff_ffff_ffff : value, Int(width))
      if width == 7 { link.region.store8(0, at: base + offset + 7) }
      link.region.store32(UInt32(offset), at: base + 8)
      for _ in 0..<20 where link.region.load32(base + 8) != 0 { try step() }
    }
  }
}
