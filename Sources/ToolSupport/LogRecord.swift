import CLinux
import CService

/// One line for the operator.
public struct LogRecord: Sendable {
  /// How urgent it is.
  public enum Level: Sendable {
    /// What happens in normal service.
    case info
    /// Something is wrong and was dealt with.
    case warning
    /// Something does not work.
    case error

    /// Its name in JSON.
    public var name: String {
      switch self {
      case .info: "info"
      case .warning: "warning"
      case .error: "error"
      }
    }
  }

  /// How urgent it is.
  public let level: Level
  /// What it is about, `link PATH` or `vhost-user PATH`; empty: the process.
  public let subject: String
  /// What happened.
  public let text: String

  /// States a line.
  public init(_ level: Level, _ subject: String, _ text: String) {
    self.level = level
    self.subject = subject
    self.text = text
  }

  /// As text.
  public var line: String { subject.isEmpty ? text : "\(subject): \(text)" }

  /// As one JSON object: `time` (RFC 3339, UTC), `level`, `program`, `pid`, `subject`, `message`.
  public func json(program: String) -> String {
    "{\"time\":\"\(timeText())\",\"level\":\"\(level.name)\",\"program\":\(quoted(program)),"
      + "\"pid\":\(cl_process_id()),\"subject\":\(quoted(subject)),\"message\":\(quoted(text))}"
  }
}

/// The wall clock as RFC 3339, in UTC.
public func timeText() -> String {
  var text = InlineArray<40, CChar>(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &text) { pointer in
    let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
    unsafe cs_time_text(first)
    return unsafe String(cString: first)
  }
}
