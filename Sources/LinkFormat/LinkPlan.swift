/// Why a link cannot carry the native protocol.
public enum LinkPlanError: Error, Equatable, Sendable {
  /// This peer and its partner must be two different peers of the link.
  case peers(own: PeerID, peer: PeerID, maxPeers: UInt32)
  /// The read/write section cannot hold the blocks and a pool.
  case readWriteTooSmall(have: Int, need: Int)
  /// The output sections cannot hold a block and a pool.
  case outputTooSmall(have: Int, need: Int)
}

/// Who is who on a native link and where blocks and pools lie: computed from the geometry alone,
/// the same on both sides, before anything in the shared memory is looked at.
public struct LinkPlan: Equatable, Sendable {
  /// This side.
  public let side: LinkSide
  /// The peer on the other side.
  public let peer: PeerID
  /// Where blocks and pools lie.
  public let placement: Placement
  /// Offset of the driver block.
  public let driverBlock: Int
  /// Offset of the device block.
  public let deviceBlock: Int
  /// What the front-end may write beside its block: descriptors, available rings, data for the
  /// device.
  public let driverPool: Range<Int>
  /// What the device may write beside its block: used rings, data for the driver. The same
  /// bytes as `driverPool` in the shared placement.
  public let devicePool: Range<Int>
  /// Everything a side may read.
  public let whole: Range<Int>

  /// The smallest pool that is worth pairing for: one page.
  public static let minimumPool = 4096

  /// Plans a link.
  ///
  /// - Parameter placement: `nil` chooses output sections where the link has them.
  /// - Parameter reserved: bytes at the start of the read/write section that belong to another
  ///   dialect's header (shared placement only); rounded up to ``BlockLayout/poolAlignment``.
  public init(
    side: LinkSide, own: PeerID, peer: PeerID, geometry: LinkGeometry,
    placement wanted: Placement? = nil, reserved: Int = 0
  ) throws(LinkPlanError) {
    guard own != peer, UInt32(own.rawValue) < geometry.maxPeers,
      UInt32(peer.rawValue) < geometry.maxPeers
    else { throw .peers(own: own, peer: peer, maxPeers: geometry.maxPeers) }
    let driverSize = BlockLayout.driverBlockSize
    let deviceSize = BlockLayout.deviceBlockSize
    let placement = wanted ?? (geometry.outputSize > 0 ? .output : .shared)
    self.side = side
    self.peer = peer
    self.placement = placement
    whole = 0..<geometry.totalSize
    switch placement {
    case .shared:
      let section = geometry.readWrite
      let mask = BlockLayout.poolAlignment - 1
      let need = deviceSize + driverSize + Self.minimumPool
      guard reserved >= 0, reserved <= section.count,
        (reserved + mask) & ~mask <= section.count - need
      else {
        throw .readWriteTooSmall(have: section.count - min(reserved, section.count), need: need)
      }
      deviceBlock = section.lowerBound + (reserved + mask) & ~mask
      driverBlock = deviceBlock + deviceSize
      driverPool = (driverBlock + driverSize)..<section.upperBound
      devicePool = driverPool
    case .output:
      let need = deviceSize + Self.minimumPool
      guard geometry.outputSize >= need else {
        throw .outputTooSmall(have: geometry.outputSize, need: need)
      }
      let front = geometry.output(of: side == .frontEnd ? own : peer)
      let back = geometry.output(of: side == .backEnd ? own : peer)
      driverBlock = front.lowerBound
      deviceBlock = back.lowerBound
      driverPool = (driverBlock + driverSize)..<front.upperBound
      devicePool = (deviceBlock + deviceSize)..<back.upperBound
    }
  }

  /// Offset of the block this side writes.
  public var ownBlock: Int { side == .frontEnd ? driverBlock : deviceBlock }
  /// Offset of the block the peer writes.
  public var peerBlock: Int { side == .frontEnd ? deviceBlock : driverBlock }
  /// Length of the block this side writes.
  public var ownBlockSize: Int {
    side == .frontEnd ? BlockLayout.driverBlockSize : BlockLayout.deviceBlockSize
  }
}
