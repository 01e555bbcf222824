public import CommandOptions
import IVShmem
import LinuxSupport
public import SimulatorPeer
public import VirtioTransport

/// Opens a link for one side; every failure is one line with the way out.
public func openLink(
  _ specification: LinkSpecification, side: LinkSide
) throws(UsageError) -> NativeLink<SimulatorPeer> {
  let own = specification.own(side)
  let path = specification.socketPath
  let platform: SimulatorPeer
  do throws(SimulatorPeerError) {
    platform = try SimulatorPeer(socketPath: path, wanting: own)
  } catch { throw UsageError(explain(error, path, own)) }
  do throws(LinkPlanError) {
    let plan = try LinkPlan(
      side: side, own: own, peer: specification.partner(side), geometry: platform.geometry,
      placement: specification.placement)
    return NativeLink(platform: platform, plan: plan)
  } catch {
    switch error {
    case .peers(let own, let peer, let count):
      throw UsageError(
        "link \(path): peers \(own.rawValue) and \(peer.rawValue) are not two of its \(count)")
    case .readWriteTooSmall(let have, let need):
      throw UsageError(
        "link \(path): its read/write section has \(have) bytes, the shared placement needs"
          + " \(need); make it larger or use placement=output")
    case .outputTooSmall(let have, let need):
      throw UsageError(
        "link \(path): its output sections have \(have) bytes, the output placement needs"
          + " \(need); make them larger or use placement=shared")
    }
  }
}

func explain(_ error: SimulatorPeerError, _ path: String, _ own: PeerID) -> String {
  switch error {
  case .noServer(let cause):
    "link \(path): \(cause.text); is ivshmem-sim running there, and may you use its socket?"
  case .busy(_, let holder):
    "link \(path): peer \(own.rawValue) is in use by \(processText(holder)); stop it or give peer=N"
  case .noSuchPeer: "link \(path): it has no peer \(own.rawValue); give peer=N"
  case .badWelcome(let size):
    "link \(path): the server's answer of \(size) bytes is not understood; same version?"
  case .geometry(let cause): "link \(path): its sizes make no sense (\(cause))"
  case .mapping(let cause): "link \(path): mapping its sections failed: \(cause.text)"
  }
}
