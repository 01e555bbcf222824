/// How a host took a request.
public enum BlockSubmission: Equatable, Sendable {
  /// It is done already.
  case done(BlockStatus)
  /// `nextCompletion()` returns it later.
  case pending
}
