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
func timeText() -> String {
  var text = InlineArray<40, CChar>(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &text) { pointer in
    let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
    unsafe cs_time_text(first)
    return unsafe String(cString: first)
  }
}

/// `pid N (NAME)`, or `pid N`, or `another process`.
public func processText(_ pid: Int32) -> String {
  guard pid > 0 else { return "another process" }
  var name = InlineArray<64, CChar>(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &name) { pointer in
    let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
    guard unsafe cs_process_name(pid, first) != 0 else { return "pid \(pid)" }
    return unsafe "pid \(pid) (\(String(cString: first)))"
  }
}

/// A string of JSON (RFC 8259), with its quotes.
func quoted(_ text: String) -> String {
  var result: [UInt8] = [34]
  let digits = Array("0123456789abcdef".utf8)
  for byte in text.utf8 {
    switch byte {
    case 34, 92: result += [92, byte]
    case 10: result += [92, 110]
    case 0..<32, 127:
      result += Array("\\u00".utf8)
      result += [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
    default: result.append(byte)
    }
  }
  result.append(34)
  return String(decoding: result, as: UTF8.self)
}
