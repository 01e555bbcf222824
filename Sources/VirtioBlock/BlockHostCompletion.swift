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
