import CHostConsole
public import LinuxSupport

/// SIGHUP, for everyone in the process who does something about it; it ends the process no more.
public enum HangupSignal {
  /// Signals `event` at every SIGHUP, until ``unwatch(_:)``.
  public static func watch(_ event: borrowing Descriptor) throws(SystemError) {
    _ = try SystemError.check(chc_watch_hangup(event.number))
  }

  /// The same for an event that somebody else owns.
  public static func watch(_ event: Int32) throws(SystemError) {
    _ = try SystemError.check(chc_watch_hangup(event))
  }

  /// Takes ``watch(_:)`` back.
  public static func unwatch(_ event: Int32) { chc_unwatch_hangup(event) }

  /// Takes ``watch(_:)`` back.
  public static func unwatch(_ event: borrowing Descriptor) { chc_unwatch_hangup(event.number) }

  /// How often SIGHUP has come.
  public static var count: UInt32 { chc_hangups() }
}
