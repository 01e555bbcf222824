public import CommandOptions
public import IVShmem
public import LinuxSupport
public import SimulatorPeer
import VirtioTransport

/// Joins a link for one side; how to talk on it is not yet decided. Every failure is one line with
/// the way out.
public func openPeer(
  _ specification: LinkSpecification, side: LinkSide
) throws(UsageError) -> HostPlatform {
  switch specification.place {
  case .simulator(let path):
    let own = specification.own(side)
    do throws(SimulatorPeerError) {
      return HostPlatform(try SimulatorPeer(socketPath: path, wanting: own))
    } catch { throw UsageError(explain(error, path, own)) }
  case .uio, .vfio, .function: return try openDevice(specification)
  }
}

/// Goes on with a connection that an earlier back-end has left; every failure is one line.
public func adoptPeer(
  _ connection: consuming Descriptor, _ specification: LinkSpecification
) throws(UsageError) -> HostPlatform {
  guard case .simulator(let path) = specification.place else {
    return try adoptDevice(specification, connection)
  }
  do throws(SimulatorPeerError) {
    return HostPlatform(try SimulatorPeer(adopting: connection))
  } catch { throw UsageError(explain(error, path, PeerID(0))) }
}

/// Why a simulated link cannot be joined or looked at, with the way out.
public func explain(_ error: SimulatorPeerError, _ path: String, _ own: PeerID) -> String {
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
