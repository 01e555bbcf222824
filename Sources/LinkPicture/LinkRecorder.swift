import IVShmem
import SharedMemory
import Simulator
import VirtioTransport

/// Watches the words of a native link that the other side looks at, and the registers.
///
/// Both sides run in one thread. Whatever has changed since the last look was done by the side
/// that ran; stores between two register accesses are told in the order of the protocol.
final class LinkRecorder {
  let link: ScheduledLink
  let plan: LinkPlan
  private(set) var actions: [LinkAction] = []
  private var hellos: [LinkSide: UInt64] = [:]
  private var statuses: [LinkSide: UInt32] = [:]
  private var words: [LinkSide: UInt64] = [:]
  private var counts: [LinkSide: UInt32] = [:]

  init(link: ScheduledLink, plan: LinkPlan) {
    self.link = link
    self.plan = plan
    // What lay there before anybody started is no action.
    for side in [LinkSide.frontEnd, .backEnd] { look(side) }
    actions = []
  }

  func note(_ side: LinkSide, _ kind: LinkAction.Kind) {
    actions.append(LinkAction(side: side, kind: kind))
  }

  private func block(_ side: LinkSide) -> Int {
    side == .frontEnd ? plan.driverBlock : plan.deviceBlock
  }

  /// Tells what `side` has stored since the last look.
  func look(_ side: LinkSide) {
    let region = link.region
    let block = block(side)
    let hello = region.load64(block + BlockLayout.Header.hello.rawValue)
    if hellos.updateValue(hello, forKey: side) != hello {
      note(
        side,
        .hello(own: UInt32(hello >> 24 & 0xff_ffff), echo: UInt32(hello & 0xff_ffff)))
    }
    lookAtSlot(side, region)
    let status = region.load32(block + BlockLayout.Header.extendedStatus.rawValue)
    if statuses.updateValue(status, forKey: side) != status {
      note(side, .status(ExtendedStatus(rawValue: status)))
    }
  }

  private func lookAtSlot(_ side: LinkSide, _ region: SharedRegion) {
    switch side {
    case .frontEnd:
      let slot = plan.driverBlock + BlockLayout.driverSlot(0)
      let word = region.load64(slot + BlockLayout.DriverSlot.request.rawValue)
      if words.updateValue(word, forKey: side) != word, word != 0 {
        let operation = region.load32(slot + BlockLayout.DriverSlot.operation.rawValue)
        note(
          side,
          .request(
            TransactionOperation(rawValue: UInt8(truncatingIfNeeded: operation)) ?? .read,
            offset: Int(region.load32(slot + BlockLayout.DriverSlot.offset.rawValue)),
            value: region.load64(slot + BlockLayout.DriverSlot.value.rawValue)))
      }
      lookAtCounter(side, region.load32(slot + BlockLayout.DriverSlot.counters.rawValue))
    case .backEnd:
      let slot = plan.deviceBlock + BlockLayout.deviceSlot(0)
      let word = region.load64(slot + BlockLayout.DeviceSlot.acknowledgement.rawValue)
      if words.updateValue(word, forKey: side) != word, word != 0 {
        note(
          side,
          .answer(
            result: region.load32(slot + BlockLayout.DeviceSlot.result.rawValue),
            value: region.load64(slot + BlockLayout.DeviceSlot.value.rawValue)))
      }
      lookAtCounter(side, region.load32(slot + BlockLayout.DeviceSlot.counters.rawValue))
    }
  }

  private func lookAtCounter(_ side: LinkSide, _ count: UInt32) {
    if counts.updateValue(count, forKey: side) != count, count != 0 {
      note(side, .notification(queue: 0, count: count))
    }
  }
}

/// A peer of a ``ScheduledLink`` whose register accesses are recorded.
struct RecordedPeer: Platform, ~Copyable {
  private var peer: ScheduledPeer
  private let recorder: LinkRecorder
  private let side: LinkSide

  init(_ side: LinkSide, recorder: LinkRecorder) {
    peer = ScheduledPeer(link: recorder.link, peerID: PeerID(side == .frontEnd ? 1 : 0))
    self.recorder = recorder
    self.side = side
  }

  var capabilities: PlatformCapabilities { peer.capabilities }
  var peerID: PeerID { peer.peerID }
  var geometry: LinkGeometry { peer.geometry }
  var vectorCount: UInt16 { peer.vectorCount }
  var region: SharedRegion { peer.region }

  private func note(_ kind: LinkAction.Kind) {
    recorder.look(side)
    recorder.note(side, kind)
  }

  mutating func writeState(_ value: UInt32) {
    note(.state(value))
    peer.writeState(value)
  }
  mutating func readState() -> UInt32 { peer.readState() }
  mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    note(.armed(isEnabled))
    peer.setInterruptsEnabled(isEnabled)
  }
  mutating func interruptsEnabled() -> Bool { peer.interruptsEnabled() }
  mutating func ringDoorbell(_ vector: Vector, at target: PeerID) {
    note(.doorbell)
    peer.ringDoorbell(vector, at: target)
  }
  mutating func wait(until deadline: Instant?) -> WaitOutcome {
    recorder.look(side)
    return peer.wait(until: deadline)
  }
  func now() -> Instant { peer.now() }
  mutating func randomNumber() -> UInt64 { peer.randomNumber() }
}
