public import Virtqueue

/// A request that the device has finished, as the driver side sees it.
public struct BlockDriverCompletion: Equatable, Sendable {
  /// What the caller named the request.
  public let token: UInt32
  /// What was asked for.
  public let type: BlockRequestType
  /// How it ended; `nil` when the device broke a rule: a status byte that does not exist, or fewer
  /// bytes written than it claims to have read. The data is not to be trusted then.
  public let status: BlockStatus?
  /// The caller's buffer, back in its hands; empty for requests without one.
  public let data: BufferSegment
}
