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
