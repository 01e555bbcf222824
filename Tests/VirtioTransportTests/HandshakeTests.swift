import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioTransport

@testable import DeviceRuntime

@Suite struct HandshakeTests {
  static let placements: [Placement] = [.shared, .output]

  static func memory(
    _ placement: Placement, seed: UInt64 = 1, garbage: Bool = false
  ) throws -> ScheduledLink {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: placement == .shared ? 0x20000 : 0,
      outputSize: placement == .output ? 0x20000 : 0)
    return ScheduledLink(geometry: geometry, seed: seed, garbage: garbage)
  }

  static func link(
    _ side: LinkSide, _ memory: ScheduledLink
  ) throws -> NativeLink<ScheduledPeer> {
    let own = PeerID(side == .frontEnd ? 1 : 0)
    let peer = PeerID(side == .frontEnd ? 0 : 1)
    let plan = try LinkPlan(side: side, own: own, peer: peer, geometry: memory.geometry)
    return NativeLink(
      platform: ScheduledPeer(link: memory, peerID: own), plan: plan)
  }

  /// Looks at both sides until nothing moves; bounded.
  static func settle(
    _ front: inout NativeLink<ScheduledPeer>, _ back: inout NativeLink<ScheduledPeer>
  ) {
    for _ in 0..<20 {
      let events = [front.look(), back.look()]
      if front.owesAnswer { front.answer() }
      if back.owesAnswer { back.answer() }
      if events == [.none, .none] { return }
    }
    Issue.record("the handshake does not come to rest")
  }

  @Test(arguments: placements, [false, true])
  func bothSidesComeUpWhoeverStartsFirst(placement: Placement, frontFirst: Bool) throws {
    for seed in UInt64(1)...20 {
      let memory = try Self.memory(placement, seed: seed, garbage: true)
      var front = try Self.link(.frontEnd, memory)
      var back = try Self.link(.backEnd, memory)
      if frontFirst { front.start() } else { back.start() }
      if frontFirst { _ = front.look() } else { _ = back.look() }
      if frontFirst { back.start() } else { front.start() }
      Self.settle(&front, &back)
      #expect(front.isUp == true, "seed \(seed)")
      #expect(back.isUp == true)
      #expect(front.peerEpoch == back.epoch && back.peerEpoch == front.epoch)
    }
  }

  @Test(arguments: placements)
  func aRestartThatHidesItsEdgeIsNoticed(placement: Placement) throws {
    let memory = try Self.memory(placement)
    var front = try Self.link(.frontEnd, memory)
    var back = try Self.link(.backEnd, memory)
    front.start()
    back.start()
    Self.settle(&front, &back)
    let first = back.epoch
    // State 0 and back before the front-end looks once.
    back.start()
    #expect(back.epoch != first)
    #expect(front.look() == .peerStarted)
    #expect(front.isUp == false)
    front.answer()
    Self.settle(&front, &back)
    #expect(front.isUp == true)
    #expect(back.isUp == true)
    #expect(front.counters.losses == 1)
  }

  @Test(arguments: placements)
  func stateZeroTakesTheLinkDown(placement: Placement) throws {
    let memory = try Self.memory(placement)
    var front = try Self.link(.frontEnd, memory)
    var back = try Self.link(.backEnd, memory)
    front.start()
    back.start()
    Self.settle(&front, &back)
    back.leave()
    #expect(front.look() == .down)
    #expect(front.isUp == false)
    #expect(front.peerEpoch == nil)
    #expect(front.look() == .none)
  }

  @Test(arguments: placements)
  func aBadHeaderKeepsTheLinkDownWithAReason(placement: Placement) throws {
    // Offsets and expected reasons, written out from docs/protocol.md.
    let cases: [(Int, UInt32)] = [
      (0x00, 0x101), (0x04, 0x102), (0x08, 0x103), (0x0c, 0x104), (0x10, 0x105), (0x18, 0x107),
      (0x20, 0x106), (0x28, 0x106),
    ]
    for (offset, reason) in cases {
      let memory = try Self.memory(placement)
      var front = try Self.link(.frontEnd, memory)
      var back = try Self.link(.backEnd, memory)
      front.start()
      back.start()
      _ = front.look()
      front.answer()
      _ = back.look()
      back.answer()
      let field = back.plan.ownBlock + offset
      memory.region.store32(memory.region.load32(field) ^ 0x40, at: field)
      #expect(front.look() == .none)
      #expect(front.isUp == false)
      #expect(front.reason.rawValue == reason)
      let shown = front.ownStatus
      #expect(shown.contains(.error))
    }
  }

  @Test(arguments: placements)
  func aSleeperIsRungAndAWakefulPeerIsNot(placement: Placement) throws {
    let memory = try Self.memory(placement)
    var front = try Self.link(.frontEnd, memory)
    var back = try Self.link(.backEnd, memory)
    front.start()
    back.start()
    Self.settle(&front, &back)
    let before = front.counters.doorbells
    front.wakePeer()
    #expect(front.counters.doorbells == before)
    back.prepareToSleep()
    front.wakePeer()
    #expect(front.counters.doorbells == before + 1)
    #expect(back.sleep(until: nil) == .event)
    let shown = back.ownStatus
    #expect(!shown.contains(.blocked))
  }

  /// Both sides crash and come back at random moments, with garbage, lost stores and spurious
  /// interrupts: every schedule comes to rest with the link up.
  @Test(arguments: placements, Array(UInt64(1)...40))
  func everySeededScheduleConverges(placement: Placement, seed: UInt64) throws {
    let memory = try Self.memory(placement, seed: seed, garbage: true)
    memory.spuriousOneIn = 5
    var front = try Self.link(.frontEnd, memory)
    var back = try Self.link(.backEnd, memory)
    front.start()
    for _ in 0..<300 {
      let dice = memory.next() >> 8
      switch dice % 16 {
      case 0:
        memory.overwrite(back.plan.ownBlock..<back.plan.ownBlock + 256, count: 256)
        front.start()
      case 1:
        memory.overwrite(front.plan.ownBlock..<front.plan.ownBlock + 256, count: 256)
        back.start()
      case 2: front.leave()
      case 3, 4, 5, 6, 7: Self.turn(&front)
      default: Self.turn(&back)
      }
    }
    front.start()
    back.start()
    Self.settle(&front, &back)
    #expect(front.isUp == true, "seed \(seed)")
    #expect(back.isUp == true, "seed \(seed)")
  }

  static func turn(_ link: inout NativeLink<ScheduledPeer>) {
    _ = link.look()
    if link.owesAnswer { link.answer() }
    link.prepareToSleep()
    if link.look() == .none { _ = link.sleep(until: nil) } else { link.stayAwake() }
  }

  @Test func plansThatDoNotFitAreRefused() throws {
    let small = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: 0x4000, outputSize: 0x1000)
    #expect(throws: LinkPlanError.outputTooSmall(have: 0x1000, need: 0x4000)) {
      try LinkPlan(side: .backEnd, own: PeerID(0), peer: PeerID(1), geometry: small)
    }
    #expect(throws: LinkPlanError.readWriteTooSmall(have: 0x4000, need: 0x5000)) {
      try LinkPlan(
        side: .backEnd, own: PeerID(0), peer: PeerID(1), geometry: small, placement: .shared)
    }
    #expect(throws: LinkPlanError.self) {
      try LinkPlan(side: .backEnd, own: PeerID(1), peer: PeerID(1), geometry: small)
    }
    #expect(throws: LinkPlanError.self) {
      try LinkPlan(side: .backEnd, own: PeerID(0), peer: PeerID(2), geometry: small)
    }
  }
}
