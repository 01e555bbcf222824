public import CommandOptions

/// Why a transfer ended early: one line with the way out.
public enum ClientError: Error, Equatable, Sendable {
  /// Something could not be opened or was given wrongly; exit status 2.
  case usage(UsageError)
  /// Talking to the device or a local file failed; exit status 1.
  case failed(String)
  /// SIGINT or SIGTERM; exit status 130.
  case interrupted
}
