import CHostConsole
public import LinuxSupport

/// SIGHUP, for everyone in the process who does something about it; it ends the process no more.
public enum HangupSignal {
  /// Signals `event` at every SIGHUP, until ``unwatch(_:)``.
  public static func watch(_ event: borrowing Descriptor) throws(SystemError) {
    _ = try SystemError.check(chc_watch_hangup(event.number))
  }

  /// Takes ``watch(_:)`` back.
  public static func unwatch(_ event: borrowing Descriptor) { chc_unwatch_hangup(event.number) }

  /// How often SIGHUP has come.
  public static var count: UInt32 { chc_hangups() }
}
