public import SharedMemory

extension SharedRegion {
  /// The state of `peer` as the state table shows it now; 0 after a reset. What the peer stored
  /// before it wrote this state is visible afterwards.
  ///
  /// May be stale when a predecessor died uncleanly (ivshmem-v2 hazard H9): never the only proof
  /// that a peer lives.
  @inlinable
  public func state(of peer: PeerID, in geometry: LinkGeometry) -> UInt32 {
    load32Acquiring(geometry.stateWord(of: peer))
  }
}
