import CLinux
import CService
public import CommandOptions
import LinuxSupport
public import ToolSupport

/// `ivshmem backend`: asks a running back-end process over its control socket.
public struct ControlTool: Sendable {
  /// The options of the tool.
  public static var options: [OptionSpecification] {
    [
      OptionSpecification("control", "PATH", "the socket of ivshmem-backend --control (required)"),
      OptionSpecification("json", "status, reload, stop: one line of JSON on standard output"),
      OptionSpecification("help", "this text"),
    ]
  }

  /// What its help shows.
  public static var page: HelpPage {
    HelpPage(
      name: "backend", usage: "backend ACTION --control PATH [options]",
      summary: "Asks a running ivshmem-backend",
      details: """
        ACTION is one of:
          status                what it serves, and how that is
          metrics               all numbers, in the text format of Prometheus
          reload                reads its configuration again; unchanged links keep running
          stop                  ends it in order
          carrier up ADDRESS    gives the network device with this address its carrier back
          carrier down ADDRESS  takes it away

        The answers in JSON are those of the control socket: docs/service.md.

        example:
          ivshmem backend reload --control /run/ivshmem-backend/board.ctl
        """,
      options: options)
  }

  /// The actions, for messages.
  public static var actions: String {
    "status, metrics, reload, stop, carrier up ADDRESS, carrier down ADDRESS"
  }

  /// How long an answer is waited for, in nanoseconds; a reload may have to wait for requests in
  /// flight.
  private static var patience: UInt64 { 30_000_000_000 }

  private let action: String
  private let path: String
  private let isJSON: Bool

  /// Checks the command line.
  public init(_ given: CommandOptions) throws(UsageError) {
    guard given.arguments.count == (given.arguments.first == "carrier" ? 3 : 1) else {
      throw UsageError("backend needs one action: \(Self.actions)")
    }
    action = given.arguments.joined(separator: " ")
    switch given.arguments[0] {
    case "carrier":
      guard ["up", "down"].contains(given.arguments[1]),
        isNetworkAddress(given.arguments[2])
      else {
        throw UsageError("backend carrier: expected up|down ADDRESS, as in up 02:00:00:00:00:01")
      }
    case "status", "metrics", "reload", "stop": break
    default: throw UsageError("backend \(action): unknown action; known are: \(Self.actions)")
    }
    guard let path = given.value("control") else {
      throw UsageError("--control PATH is missing: which back-end? See --help")
    }
    self.path = path
    isJSON = given.has("json")
    guard !isJSON || action != "metrics" else {
      throw UsageError("metrics have a format of their own; leave --json away")
    }
  }

  /// Asks and prints.
  ///
  /// - Returns: the exit status: 0 done, 1 refused (the reason is printed on standard error).
  /// - Throws: why the back-end could not be asked.
  public func run() throws(UsageError) -> Int32 {
    let answer: String
    do throws(SystemError) {
      answer = try ControlQuestion.ask(
        path, isJSON || action == "metrics" ? action : "\(action) text",
        patience: Self.patience)
    } catch {
      throw UsageError(
        "--control \(path): \(error.text); is ivshmem-backend running there, and may you use"
          + " its socket?")
    }
    if isJSON {
      writeOutput(answer)
      return answer.hasPrefix("{\"ok\":true") ? 0 : 1
    }
    let end = "# EOF\n"
    guard answer.hasSuffix(end) else {
      // Turned away: one line of JSON whatever was asked.
      writeError("ivshmem: \(answer)")
      return 1
    }
    let text = String(answer.dropLast(end.count))
    guard !text.hasPrefix("error: ") else {
      writeError("ivshmem: \(text.dropFirst(7))")
      return 1
    }
    writeOutput(text)
    return 0
  }
}

/// Whether a text is a network address as people write it, `02:00:00:00:00:01`.
func isNetworkAddress(_ text: String) -> Bool {
  let parts = text.split(separator: ":", omittingEmptySubsequences: false)
  return parts.count == 6
    && parts.allSatisfy { part in
      part.utf8.count == 2 && !part.utf8.contains(43) && UInt8(part, radix: 16) != nil
    }
}
