import CWatch
import DeviceRuntime
import HostResources
import IVShmem
public import LinuxSupport
import SharedMemory
import Simulator
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A hostile front-end, played by bytes, against a back-end with a block device, a console and an
/// entropy device.
///
/// The first byte chooses the placement and how much the bytes are guided: structured inputs are
/// sequences of calls (start, transactions, set-ups, chains, stray stores), random ones are bytes
/// and where they go. The back-end sees the memory with its rights. After each run an honest
/// front-end has to be served.
@safe
public final class BackendFuzzer {
  /// Calls that were played, over all runs.
  public private(set) var actions: UInt64 = 0
  /// Chains that the devices took, over all runs.
  public private(set) var chains: UInt64 = 0
  /// Queues that broke and requests that were not executed, over all runs.
  public private(set) var violations: UInt64 = 0
  /// The most accesses one step of the back-end made.
  public private(set) var largestStep: UInt64 = 0
  /// What was played, for people.
  public var summary: String {
    "\(actions) actions, \(chains) chains, \(violations) violations,"
      + " at most \(largestStep) accesses a step"
  }
  /// Whether the block device reads a byte outside every chain: under AddressSanitizer a run has to
  /// end the process then.
  public var strays = false
  /// Which device does so at a look, while it holds chains; one a process.
  public var straysLate: LateDevice?
  /// The devices that hold chains.
  public enum LateDevice: String, Sendable { case block, console, network }
  /// Which devices, by slot; the last one is for drivers that an attack on the others is not about.
  let kinds: [FuzzedDevice.Kind]
  static var standard: [FuzzedDevice.Kind] { [.block, .console, .entropy, .network] }
  /// Two network devices under attack.
  static var networks: [FuzzedDevice.Kind] { [.network, .network, .entropy, .network] }
  let links: [ScheduledLink]
  let books: [UnsafeMutableRawPointer]
  private let files = FuzzFiles(count: 2, size: FuzzedDevice.mediumBytes)
  private var bookIndex = 1
  var script = HostScript()
  var peer: HostilePeer
  /// The text of a promise that was found broken.
  var brokenPromise: String?
  var backend: Backend<ScheduledPeer, FuzzedDevice>

  static var bookBytes: Int { 4 << 20 }
  /// What one step may cost: twice 16 chains of the largest block request, 16 of the largest
  /// answer of the entropy device, and the books; in accesses of 8 bytes.
  static var stepLimit: UInt64 { 600_000 }

  /// Makes the memory that all runs use.
  ///
  /// - Throws: what the system says about it.
  public convenience init() throws(SystemError) { try self.init(Self.standard) }

  /// The same with network devices instead of disk and console.
  ///
  /// - Throws: what the system says about it.
  public static func network() throws(SystemError) -> BackendFuzzer {
    try BackendFuzzer(networks)
  }

  init(_ kinds: [FuzzedDevice.Kind]) throws(SystemError) {
    self.kinds = kinds
    links = [try FuzzLinks.make(.shared), try FuzzLinks.make(.output)]
    // Two for back-ends, which are made while the one before still lives, one for front-ends.
    unsafe books = [
      FuzzLinks.book(Self.bookBytes), FuzzLinks.book(Self.bookBytes),
      FuzzLinks.book(Self.bookBytes),
    ]
    peer = HostilePeer(links[0], isNetwork: kinds[0] == .network)
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: Self.bookBytes)
    backend = Self.backend(kinds, links[0], FuzzedDevice.Medium.Plan(), script, arena)
  }

  // Kept apart: inlined into its caller, or with a device inlined into it, the optimizer of Swift 6.3
  // loses track of who owns the back-end.
  @inline(never)
  static func backend(
    _ kinds: [FuzzedDevice.Kind], _ link: ScheduledLink, _ plan: FuzzedDevice.Medium.Plan,
    _ script: HostScript,
    _ books: consuming PrivateArena
  ) -> Backend<ScheduledPeer, FuzzedDevice> {
    var arena = books
    let native = FuzzLinks.native(.backEnd, link)
    guard var backend = Backend<ScheduledPeer, FuzzedDevice>(link: native, arena: &arena) else {
      preconditionFailure("the books hold a back-end")
    }
    for (slot, kind) in kinds.enumerated() {
      let device = FuzzedDevice(kind, plan: plan, script: script, arena: &arena)
      guard backend.add(device, at: slot, arena: &arena) else {
        preconditionFailure("the books hold the devices")
      }
    }
    return backend
  }

  /// Plays one input.
  ///
  /// - Throws: the promise that was broken.
  public func run(_ bytes: [UInt8]) throws(FuzzFailure) {
    var input = FuzzInput(bytes: bytes)
    let choice = input.byte()
    let link = links[Int(choice & 1)]
    begin(link, choice)
    // Bounded, so that an input of any length ends.
    if choice & 2 == 0 {
      for _ in 0..<2000 where !input.isAtEnd { try act(&input) }
    } else {
      for slot in 0..<3 {
        guard try bringUp(slot, 0) else {
          throw FuzzFailure("the honest set-up of slot \(slot) was refused")
        }
      }
      for _ in 0..<2000 where !input.isAtEnd { try scatter(&input) }
    }
    finish()
    try recover()
    #if CELLMATE_WATCH
      cw_watch_end()
    #endif
  }

  private func begin(_ link: ScheduledLink, _ choice: UInt8) {
    link.restart(seed: UInt64(choice) + 1)
    if choice & 4 != 0 { link.scramble() }
    var plan = FuzzedDevice.Medium.Plan()
    plan.delayChance = choice & 8 != 0 ? 64 : 0
    plan.delayLimit = 3
    plan.errorChance = choice & 16 != 0 ? 8 : 0
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(unsafeBase: books[bookIndex], count: Self.bookBytes)
    script = HostScript()
    script.strays = strays
    script.straysLate =
      switch straysLate {
      case .block: .block
      case .console: .console
      case .network: .network
      case nil: nil
      }
    // The disk is a file with a worker thread, in one of four runs.
    if choice & 96 == 96 { script.file = files.blank(bookIndex, size: FuzzedDevice.mediumBytes) }
    backend = Self.backend(kinds, link, plan, script, arena)
    peer = HostilePeer(link, isNetwork: kinds[0] == .network)
    #if CELLMATE_WATCH
      link.views[0].watch(side: 0)
    #endif
    backend.start()
    peer.native.start()
  }

  private func finish() {
    for slot in 0..<3 {
      let counters = backend.slots[slot].counters
      chains += counters.chains
      violations += counters.queueErrors + counters.refusals
    }
    violations += backend.link.counters.peerErrors
  }

  /// One step of the back-end, whose cost is bounded.
  @discardableResult
  func step() throws(FuzzFailure) -> Progress {
    let before = cw_accesses(0)
    let progress = backend.step()
    let cost = cw_accesses(0) - before
    largestStep = max(largestStep, cost)
    guard cost <= Self.stepLimit else {
      throw FuzzFailure("one step made \(cost) accesses, at most \(Self.stepLimit) are allowed")
    }
    return progress
  }

  // MARK: What the bytes say

  private func act(_ input: inout FuzzInput) throws(FuzzFailure) {
    actions += 1
    let kind = input.byte()
    let slot = Int(kind >> 4) % 4
    switch kind & 15 {
    case 0: try step()
    case 1: _ = backend.sleep(until: Instant(nanoseconds: 0))
    case 2: try settle()
    // What ends a pairing is rare, or nothing else would happen.
    case 3: if slot == 0 { peer.native.start() } else { peer.offer(&input) }
    case 4: if slot == 0 { peer.native.leave() } else { peer.native.wakePeer() }
    case 5:
      if slot == 0 {
        peer.native.platform.writeState(UInt32(truncatingIfNeeded: peer.value(&input)))
      } else if slot == 1 {
        peer.native.platform.writeState(LinkSide.frontEnd.stateValue)
      } else {
        peer.offer(&input)
      }
    case 6:
      let offset = peer.register(&input)
      _ = try access(
        kind & 128 == 0 ? .write : .read, offset, peer.value(&input), slot: slot,
        width: [4, 4, 4, 4, 1, 2, 8, 3][Int(input.byte() & 7)])
    case 7: _ = try bringUp(slot % 3, kind & 128 == 0 ? 0 : input.byte())
    case 8, 9: peer.offer(&input)
    case 10:
      let offset = peer.plan.driverBlock + Int(input.half()) % BlockLayout.driverBlockSize & ~7
      peer.region.store64(peer.value(&input), at: offset)
    case 11: peer.scribble(&input)
    case 12: peer.advance(&input)
    case 13: peer.request(slot, &input)
    case 14: moveHosts(&input)
    default: try scatter(&input)
    }
    if kind & 64 == 0 { try step() }
  }

  /// Bytes, anywhere the front-end may write.
  private func scatter(_ input: inout FuzzInput) throws(FuzzFailure) {
    actions += 1
    let place = input.half()
    let range = peer.writable
    // Most of what matters lies at the start of block and pool.
    let window = place & 0x8000 == 0 ? min(range.count, 0x3000) : range.count
    let start = range.lowerBound + (Int(place) * 8 + Int(input.byte() & 7)) % window
    let count = min(Int(input.byte() & 15) + 1, range.upperBound - start)
    for offset in 0..<count { peer.region.store8(input.byte(), at: start + offset) }
    try step()
  }

  private func moveHosts(_ input: inout FuzzInput) {
    let choice = input.byte()
    switch choice & 3 {
    case 0:
      script.isOpen[Int(choice >> 2 & 1)] = choice & 8 == 0
      script.isLinkUp = choice & 16 == 0
      script.wantsAnnouncement = choice & 32 != 0
    case 1: script.columns = UInt16(choice)
    case 2: script.turn = Int(choice >> 2)
    default: script.allowance = Int(choice >> 2)
    }
    script.hasEvents = true
  }

  /// Both sides look until nothing moves.
  func settle() throws(FuzzFailure) {
    for _ in 0..<40 {
      let event = peer.native.look()
      if event == .peerStarted || event == .down { peer.transactions.begin() }
      peer.answer()
      if try step() == .idle, event == .none { return }
    }
  }

  func access(
    _ operation: TransactionOperation, _ offset: Int, _ value: UInt64, slot: Int, width: UInt8 = 4
  ) throws(FuzzFailure) -> TransactionAnswer? {
    guard peer.ask(operation, slot, offset, width, value) else { return nil }
    for _ in 0..<3 { try step() }
    return peer.takeAnswer(slot)
  }

  /// The set-up of one device with all its queues; `choice` breaks parts of it.
  func bringUp(_ slot: Int, _ choice: UInt8) throws(FuzzFailure) -> Bool {
    if !peer.native.isUp { try settle() }
    for status: UInt64 in [0, 1, 3] { _ = try access(.write, 0x70, status, slot: slot) }
    // EVENT_IDX and INDIRECT_DESC together, features of the device, RING_RESET: as the bits say.
    let low: UInt64 = choice & 1 == 0 ? 0x3000_0000 : 0
    let own: [UInt64] =
      switch kinds[slot] {
      case .block: [0, 0x6, 0x6246, 0x2200]
      case .console: [2, 7, 0, 1]
      case .entropy: [0, 0, 0, 4]
      // All of it; without mergeable buffers; without offloads for the driver; nothing.
      case .network: [0xb7_bbaf, 0xb7_3baf, 0xb7_b829, 0]
      }
    for (index, features) in [
      (UInt64(0), low | own[Int(choice >> 1 & 3)]), (1, choice & 8 == 0 ? 0x103 : 3),
    ] {
      _ = try access(.write, 0x24, index, slot: slot)
      _ = try access(.write, 0x20, features, slot: slot)
    }
    _ = try access(.write, 0x70, 0xb, slot: slot)
    for queue in 0..<peer.queueCount(slot) {
      let ring = peer.ring(slot, queue)
      peer.clear(ring)
      let size: UInt64 = choice & 16 == 0 ? 16 : UInt64(1) << UInt64(choice & 7)
      for (offset, value) in [
        (0x30, UInt64(queue)), (0x38, size), (0x80, UInt64(ring.table)), (0x84, 0),
        (0x90, UInt64(ring.available)), (0x94, 0), (0xa0, UInt64(ring.used)), (0xa4, 0),
        (0x44, 1),
      ] { _ = try access(.write, offset, value, slot: slot) }
    }
    return try access(.write, 0x70, 0xf, slot: slot)?.result == 0
  }
}
