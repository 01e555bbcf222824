import CommandOptions
import Supervision
import ToolSupport

/// `--supervise`: the same program looks after itself.
extension BackendProgram {
  /// The options that are the supervisor's; the back-end does not get them.
  static var supervisionOptions: [String] {
    ["supervise", "background", "pid-file", "watchdog", "restart-delay"]
  }

  /// Whether these options make sense together.
  static func checkSupervision(_ given: CommandOptions) throws(UsageError) {
    guard !given.has("supervise") else { return }
    for (name, _) in given.options where supervisionOptions.contains(name) {
      throw UsageError("--\(name) is for --supervise, which is not given")
    }
  }

  /// Looks after a back-end with the other options; its exit status.
  static func supervise(
    _ given: CommandOptions, _ record: @escaping @Sendable (LogRecord) -> Void
  ) throws(UsageError) -> Int32 {
    var options = Supervisor.Options()
    options.watchdog = try given.number("watchdog", in: 0...3600, default: 20) * 1_000_000_000
    options.longestDelay =
      try given.number("restart-delay", in: 1...3_600_000, default: 5000) * 1_000_000
    options.pidFile = given.value("pid-file")
    options.isBackground = given.has("background")
    for (name, value) in given.options where !supervisionOptions.contains(name) {
      let takesValue = Self.options.contains { $0.name == name && $0.placeholder != nil }
      options.words.append(takesValue ? "--\(name)=\(value)" : "--\(name)")
    }
    let supervisor = try Supervisor(options) { text, isWrong in
      record(LogRecord(isWrong ? .warning : .info, "supervisor", text))
    }
    return supervisor.run()
  }
}
