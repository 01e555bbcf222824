import IVShmem
import LinuxSupport
import SharedMemory
import Simulator
import VirtioTransport

/// The links that fuzzers play on: peer 0 is the back-end, peer 1 the front-end.
enum FuzzLinks {
  static func make(_ placement: Placement) throws(SystemError) -> ScheduledLink {
    let geometry: LinkGeometry
    do throws(GeometryError) {
      geometry = try LinkGeometry(
        maxPeers: 2, stateTableSize: 4096, readWriteSize: placement == .shared ? 0x18000 : 0,
        outputSize: placement == .output ? 0x14000 : 0)
    } catch { preconditionFailure("a geometry of whole pages") }
    return try ScheduledLink(guarding: geometry, seed: 1)
  }

  @inline(never)
  static func native(_ side: LinkSide, _ link: ScheduledLink) -> NativeLink<ScheduledPeer> {
    let own = PeerID(side == .frontEnd ? 1 : 0)
    let peer = PeerID(side == .frontEnd ? 0 : 1)
    do throws(LinkPlanError) {
      let plan = try LinkPlan(side: side, own: own, peer: peer, geometry: link.geometry)
      return NativeLink(platform: ScheduledPeer(link: link, peerID: own), plan: plan)
    } catch { preconditionFailure("the sections hold blocks and pools") }
  }

  /// Memory for books; a fuzzer lives as long as its process.
  static func book(_ count: Int) -> UnsafeMutableRawPointer {
    .allocate(byteCount: count, alignment: 64)
  }
}
