public import SharedMemory
public import Virtqueue

/// One checked request for a block host: positions and lengths lie inside the medium.
public struct BlockRequest: Equatable, Sendable, BitwiseCopyable {
  /// What to do.
  public let type: BlockRequestType
  /// First byte on the medium.
  public let position: UInt64
  /// Number of bytes; for read and write the sum of the data segments.
  public let count: UInt64
  /// Whether write zeroes may unmap.
  public let mayUnmap: Bool
  /// Whether the data has to be stable before the request is done.
  public let isStable: Bool

  /// States a request.
  public init(
    type: BlockRequestType, position: UInt64, count: UInt64, mayUnmap: Bool = false,
    isStable: Bool = false
  ) {
    self.type = type
    self.position = position
    self.count = count
    self.mayUnmap = mayUnmap
    self.isStable = isStable
  }
}

/// How a host took a request.
public enum BlockSubmission: Equatable, Sendable {
  /// It is done already.
  case done(BlockStatus)
  /// `nextCompletion()` returns it later.
  case pending
}

/// A request that a host has finished.
public struct BlockHostCompletion: Equatable, Sendable {
  /// The slot it was submitted with.
  public let slot: Int
  /// How it ended.
  public let status: BlockStatus

  /// Names a finished request.
  public init(slot: Int, status: BlockStatus) {
    self.slot = slot
    self.status = status
  }
}

/// The medium behind a block device: a file, a block device, memory.
///
/// It never blocks in these calls: what cannot be done at once becomes pending. It copies the
/// segments it needs later.
public protocol BlockHost: ~Copyable {
  /// Length of the medium in bytes, a multiple of 512; may change.
  var byteCount: UInt64 { get }
  /// Bytes of a logical block, a power of two from 512; constant.
  var blockSize: UInt32 { get }
  /// Whether writes are refused; constant.
  var isReadOnly: Bool { get }
  /// Whether discard and write zeroes are worth offering; constant.
  var canDiscard: Bool { get }
  /// Byte `index` (0 ..< 20) of the device's name; 0 behind its end.
  func identifierByte(at index: Int) -> UInt8

  /// Starts a request. `slot` names it and is not in use. Read data goes to, and write data comes
  /// from, the chain's data segments (`data` bytes `skip` into its readable or writable part).
  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission

  /// The next finished pending request, or `nil`.
  mutating func nextCompletion() -> BlockHostCompletion?
}
