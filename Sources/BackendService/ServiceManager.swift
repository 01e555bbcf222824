import CLinux
import CService

/// What the service manager is told, by the datagrams of sd_notify(3): `NAME=value` lines to the
/// socket that `NOTIFY_SOCKET` names. Without that variable nothing is sent.
struct ServiceManager {
  private let path: String?
  /// How often the manager wants to hear that the loop is alive, in nanoseconds; `nil`: never.
  let watchdogNanoseconds: UInt64?

  /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`.
  init() {
    path = Self.environment("NOTIFY_SOCKET").flatMap { $0.isEmpty ? nil : $0 }
    let isForUs =
      Self.environment("WATCHDOG_PID").map { $0 == "\(cl_process_id())" } ?? true
    let interval = Self.environment("WATCHDOG_USEC").flatMap { UInt64($0, radix: 10) }
    watchdogNanoseconds =
      isForUs && path != nil
      ? interval.flatMap { $0 > 0 ? $0.multipliedReportingOverflow(by: 1000) : nil }
        .flatMap { $0.overflow ? nil : $0.partialValue } : nil
  }

  private static func environment(_ name: String) -> String? {
    unsafe cs_environment(name).map { unsafe String(cString: $0) }
  }

  private func send(_ text: String, mayWait: Bool) {
    guard let path else { return }
    var text = text
    text.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return }
      // A manager that does not listen is no reason to stop serving.
      _ = unsafe cs_notify(path, base, bytes.count, mayWait ? 1 : 0)
    }
  }

  /// Everything is open and served.
  func ready(_ status: String) { send("READY=1\nSTATUS=\(status)\n", mayWait: true) }

  /// One line for `systemctl status`.
  func status(_ text: String) { send("STATUS=\(text)\n", mayWait: false) }

  /// The configuration is read again; ``ready(_:)`` ends it.
  func reloading() {
    send(
      "RELOADING=1\nMONOTONIC_USEC=\(cl_monotonic_ns() / 1000)\nSTATUS=reloading\n",
      mayWait: true)
  }

  /// The service is about to end.
  func stopping() { send("STOPPING=1\nSTATUS=stopping\n", mayWait: true) }

  /// Every loop is alive.
  func alive() { send("WATCHDOG=1\n", mayWait: false) }
}
