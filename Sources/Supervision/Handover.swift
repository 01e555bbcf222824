import CLinux
import CService
import CommandOptions

/// What a supervisor leaves to the program that takes its place, in a variable:
/// `1 CHILD SOCKET PIDFILE NUMBER=NAME:NUMBER=NAME...`, the first word the form's version.
struct Handover {
  let child: Int32
  let socket: Int32
  /// -1: none.
  let pidFile: Int32
  let entries: [(name: String, number: Int32)]

  static var variable: String { "CELLMATE_SUPERVISOR" }

  var text: String {
    let list = entries.map { "\($0.number)=\($0.name)" }.joined(separator: ":")
    return "1 \(child) \(socket) \(pidFile) \(list)"
  }

  /// Every descriptor that has to stay open.
  var numbers: [Int32] {
    [socket] + (pidFile >= 0 ? [pidFile] : []) + entries.map { $0.number }
  }

  /// Reads what an earlier supervisor left, once; `nil` when there was none.
  ///
  /// - Throws: when it cannot be understood: nothing may be started beside what runs already.
  static func take() throws(UsageError) -> Handover? {
    guard let found = unsafe cs_environment(variable) else { return nil }
    let text = unsafe String(cString: found)
    unsafe cs_environment_remove(variable)
    guard let handover = Handover(text) else {
      throw UsageError(
        "\(variable)='\(text)' is not understood; it was left by another version. Stop what runs,"
          + " and start this anew")
    }
    for number in handover.numbers { _ = cs_keep_private(number) }
    return handover
  }

  init(child: Int32, socket: Int32, pidFile: Int32, entries: [(name: String, number: Int32)]) {
    self.child = child
    self.socket = socket
    self.pidFile = pidFile
    self.entries = entries
  }

  init?(_ text: String) {
    let parts = text.split(separator: " ", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[0] == "1", let child = Int32(parts[1], radix: 10),
      let socket = Int32(parts[2], radix: 10), let pidFile = Int32(parts[3], radix: 10),
      child > 0, socket > 2
    else { return nil }
    var entries: [(name: String, number: Int32)] = []
    for entry in parts[4].split(separator: ":") {
      let halves = entry.split(separator: "=", maxSplits: 1)
      guard halves.count == 2, let number = Int32(halves[0], radix: 10), number > 2 else {
        return nil
      }
      entries.append((String(halves[1]), number))
    }
    self.init(child: child, socket: socket, pidFile: pidFile, entries: entries)
  }
}
