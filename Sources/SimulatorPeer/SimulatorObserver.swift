import CLinux
public import IVShmem
import LinuxSupport
public import SharedMemory

/// A look at a simulated link from outside: everything mapped read-only, nobody's peer.
@safe
public struct SimulatorObserver: ~Copyable {
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// The shared memory; a store faults.
  public let region: SharedRegion
  private let mapping: SimulatorPeer.Mapping

  /// Maps the link behind `socketPath`.
  public init(socketPath: String) throws(SimulatorPeerError) {
    let socket = try SimulatorPeer.connect(socketPath)
    let joined = try SimulatorPeer.join(socket, .observe)
    geometry = joined.geometry
    mapping = joined.mapping
    // SAFETY: the reservation spans both guards and every section.
    region = unsafe SharedRegion(
      unsafeBase: joined.mapping.reservation + SimulatorPeer.guardSize,
      count: joined.geometry.totalSize)
  }

  /// Doorbells and state changes delivered to and dropped at `peer` so far.
  public func interruptCounts(of peer: PeerID) -> (delivered: UInt64, dropped: UInt64) {
    precondition(UInt32(peer.rawValue) < geometry.maxPeers)
    // SAFETY: the page has a line for every peer of the link.
    let line = unsafe mapping.page + Int(peer.rawValue) * HypervisorPage.lineSize
    return unsafe (
      cl_count_load(line + HypervisorPage.delivered), cl_count_load(line + HypervisorPage.dropped)
    )
  }

  deinit {
    unsafe cl_unmap(mapping.reservation, mapping.reservationSize)
    unsafe cl_unmap(mapping.page, mapping.pageSize)
  }
}
