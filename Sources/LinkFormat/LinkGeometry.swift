/// What is wrong with the sizes an ivshmem device reports.
public enum GeometryError: Error, Equatable, Sendable {
  /// Maximum Peers is outside 2 ... 65536.
  case peerCount(UInt32)
  /// The device's own id is not below Maximum Peers.
  case peerID(UInt32, maxPeers: UInt32)
  /// The state table cannot hold one 32-bit word a peer, or is not a multiple of the page size.
  case stateTableSize(UInt64, maxPeers: UInt32)
  /// The read/write section is not a multiple of the page size.
  case readWriteSize(UInt64)
  /// The output sections are not a multiple of the page size.
  case outputSize(UInt64)
  /// The sum of all sections does not fit this machine's addresses.
  case totalSize
}

/// Where the sections of a link lie, as offsets from the start of its shared memory.
///
/// Specification: ivshmem-v2, "Shared Memory Regions": state table, read/write section, then one
/// output section per peer, in this order and without gaps.
public struct LinkGeometry: Equatable, Sendable {
  /// The number of peers the link has room for.
  public let maxPeers: UInt32
  /// Length of the state table in bytes.
  public let stateTableSize: Int
  /// Length of the read/write section in bytes; 0 when there is none.
  public let readWriteSize: Int
  /// Length of each output section in bytes; 0 when there are none.
  public let outputSize: Int

  /// Checks the sizes that a device reports; nothing of a device is believed.
  ///
  /// - Parameter pageSize: the smallest mappable unit, a power of two.
  @inline(never)
  public init(
    maxPeers: UInt32, stateTableSize: UInt64, readWriteSize: UInt64, outputSize: UInt64,
    pageSize: UInt64 = 4096
  ) throws(GeometryError) {
    guard maxPeers >= 2, maxPeers <= 65536 else { throw .peerCount(maxPeers) }
    let mask = pageSize &- 1
    guard stateTableSize >= 4 * UInt64(maxPeers), stateTableSize & mask == 0,
      stateTableSize <= 1 << 40
    else { throw .stateTableSize(stateTableSize, maxPeers: maxPeers) }
    guard readWriteSize & mask == 0, readWriteSize <= 1 << 46 else {
      throw .readWriteSize(readWriteSize)
    }
    guard outputSize & mask == 0, outputSize <= 1 << 40 else { throw .outputSize(outputSize) }
    let total = stateTableSize + readWriteSize + UInt64(maxPeers) * outputSize
    guard total <= UInt64(Int.max) else { throw .totalSize }
    self.maxPeers = maxPeers
    self.stateTableSize = Int(stateTableSize)
    self.readWriteSize = Int(readWriteSize)
    self.outputSize = Int(outputSize)
  }

  /// Length of the whole shared memory in bytes.
  @inline(never)
  public var totalSize: Int { readWrite.upperBound + Int(maxPeers) * outputSize }

  /// The read/write section; empty when there is none.
  public var readWrite: Range<Int> { stateTableSize..<(stateTableSize + readWriteSize) }

  /// The section only `peer` may write; empty when the link has none. `peer` must be on the link.
  public func output(of peer: PeerID) -> Range<Int> {
    precondition(UInt32(peer.rawValue) < maxPeers, "no such peer on this link")
    let start = readWrite.upperBound + Int(peer.rawValue) * outputSize
    return start..<(start + outputSize)
  }

  /// Where the state of `peer` lies in the state table. `peer` must be on the link.
  public func stateWord(of peer: PeerID) -> Int {
    precondition(UInt32(peer.rawValue) < maxPeers, "no such peer on this link")
    return 4 * Int(peer.rawValue)
  }
}
