// ivshmem: the board tool. It only composes.
import BoardCommands
import CLinux
import CommandOptions
import FrontendCommands
import LinuxSupport
import ToolSupport

/// Everything that has a page of its own, in the order of the list.
let pages =
  BoardTool.allCases.map { $0.page } + FrontendTool.allCases.map { $0.page }
  + [StatusTool.page, ControlTool.page]

/// A line of the list of commands.
func entry(_ name: String, _ summary: String) -> String {
  let padding = String(repeating: " ", count: max(1, 20 - name.utf8.count))
  return "  ivshmem \(name)\(padding)\(summary)"
}

let usage = """
  usage: ivshmem COMMAND [options]

  \(pages.map { entry($0.name, $0.summary) }.joined(separator: "\n"))
  \(entry("cell", "Checks, shows and makes cell configurations: starts ivshmem-cell"))
  \(entry("sim", "Offers a link between processes: starts ivshmem-sim"))
  \(entry("help COMMAND", "All about one command: its options, what its JSON says, examples"))

  options:
    --help                      this text; behind a command all about that command
    --version                   the version of this program and of its library

  exit status: 0 done, 1 it failed, 2 wrong usage or something cannot be opened, 130 interrupted
  """

func say(_ text: String) { writeError("ivshmem: \(text)\n") }

/// A command line that is wrong is one of the ways in which a tool fails.
func checked<Value>(_ body: () throws(UsageError) -> Value) throws(ClientError) -> Value {
  do throws(UsageError) { return try body() } catch { throw .usage(error) }
}

/// Reads the options; `nil` when the help was asked for and shown.
func parse(_ words: [String], _ page: HelpPage) throws(ClientError) -> CommandOptions? {
  let given = try checked { () throws(UsageError) in try CommandOptions(words, page.options) }
  guard given.has("help") else { return given }
  writeOutput(page.text)
  return nil
}

func frontend(_ words: [String]) throws(ClientError) {
  if words.first == "--help" { return try help(["frontend"]) }
  guard let tool = words.first.flatMap({ FrontendTool($0) }) else {
    throw .usage(
      UsageError(
        "frontend drives: block, console, entropy, network; got '\(words.first ?? "nothing")'"))
  }
  guard let given = try parse(Array(words.dropFirst()), tool.page) else { return }
  switch tool {
  case .block:
    guard given.arguments.count == 1 else {
      throw .usage(UsageError("frontend block needs one action: \(BlockTool.actions)"))
    }
    try checked { () throws(UsageError) in try BlockTool(given.arguments[0], given) }.run()
  case .console: try checked { () throws(UsageError) in try ConsoleTool(given) }.run()
  case .entropy: try checked { () throws(UsageError) in try EntropyTool(given) }.run()
  case .network:
    guard given.arguments.count == 1 else {
      throw .usage(UsageError("frontend network needs one action: \(NetworkTool.actions)"))
    }
    try checked { () throws(UsageError) in try NetworkTool(given.arguments[0], given) }.run()
  }
}

/// Shows the list, or everything about the command that the words name.
func help(_ words: [String]) throws(ClientError) {
  let name = words.joined(separator: " ")
  if name.isEmpty { return writeOutput(usage + "\n") }
  // "frontend" alone stands for all that it drives.
  let found = pages.filter { $0.name == name || $0.name.hasPrefix(name + " ") }
  guard !found.isEmpty else {
    throw .usage(UsageError("there is no command '\(name)'; \(known())"))
  }
  for (index, page) in found.enumerated() { writeOutput((index > 0 ? "\n" : "") + page.text) }
}

/// The commands, for messages.
func known() -> String {
  "known are: " + BoardTool.allCases.map { $0.page.name }.joined(separator: ", ")
    + ", frontend, status, backend, cell, sim, help"
}

/// Becomes the program beside this one, with the words behind the command; returns when there is
/// none.
func start(_ program: String) -> Int32 {
  let status = unsafe cl_exec_beside(program, cl_arguments().advanced(by: 1))
  let error = SystemError(Int32(truncatingIfNeeded: -status))
  say(
    "\(program) cannot be started: \(error.text); it is a program of its own, install it in the "
      + "folder of ivshmem")
  return 2
}

func run() -> Int32 {
  let words = programArguments()
  do throws(ClientError) {
    switch words.first {
    case nil: throw .usage(UsageError("a command is missing; \(known())"))
    case "help": try help(Array(words.dropFirst()))
    case "--help": try help([])
    case "--version": writeOutput("ivshmem \(versionText())\n")
    case "frontend": try frontend(Array(words.dropFirst()))
    case "status":
      if let given = try parse(Array(words.dropFirst()), StatusTool.page) {
        try checked { () throws(UsageError) in try StatusTool(given).run() }
      }
    case "backend":
      if let given = try parse(Array(words.dropFirst()), ControlTool.page) {
        return try checked { () throws(UsageError) in try ControlTool(given).run() }
      }
    case "cell": return start("ivshmem-cell")
    case "sim": return start("ivshmem-sim")
    case let name? where BoardTool(name) != nil:
      if let tool = BoardTool(name) { return try tool.run(Array(words.dropFirst())) }
    case let name?: throw .usage(UsageError("unknown command '\(name)'; \(known())"))
    }
    return 0
  } catch {
    switch error {
    case .usage(let usage):
      say(usage.message)
      return 2
    case .failed(let text):
      say(text)
      return 1
    case .interrupted:
      say("interrupted")
      return 130
    }
  }
}

cl_exit(run())
