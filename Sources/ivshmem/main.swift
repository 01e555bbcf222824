// ivshmem: the board tool. It only composes.
import BoardCommands
import CLinux
import CommandOptions
import FrontendCommands
import LinuxSupport
import ToolSupport

/// A line of the list of commands.
func entry(_ page: HelpPage) -> String {
  let padding = String(repeating: " ", count: max(1, 52 - 10 - page.name.utf8.count))
  return "    ivshmem \(page.name)\(padding)\(page.summary)"
}

let usage = """
  usage: ivshmem COMMAND [options]

  \(BoardTool.allCases.map { entry($0.page) }.joined(separator: "\n"))
    ivshmem frontend block ACTION --link PLACE      drive a block device of a link;
                                                    ACTION: \(BlockTool.actions)
    ivshmem frontend console --link PLACE           connect this terminal to a console device
    ivshmem frontend entropy --link PLACE --bytes N
                                                    random bytes to standard output
    ivshmem frontend network ACTION --link sim:PATH
                                                    drive a network device; ACTION:
                                                    \(NetworkTool.actions)
    ivshmem status --link sim:PATH [--json]         registers, queues, counters; read-only
    ivshmem backend ACTION --control PATH           ask a running ivshmem-backend;
                                                    ACTION: \(ControlTool.actions)
    ivshmem cell check|gen|show|diff ...            cell configurations: starts ivshmem-cell
    ivshmem sim --socket PATH ...                   a link between processes: starts ivshmem-sim
    ivshmem help [COMMAND]                          this text, or all about one command

  options of frontend block:
  \(CommandOptions.help(BlockTool.options))

  options of frontend console:
  \(CommandOptions.help(ConsoleTool.options))

  options of frontend entropy:
  \(CommandOptions.help(EntropyTool.options))

  options of frontend network:
  \(CommandOptions.help(NetworkTool.options))

  options of status:
  \(CommandOptions.help(StatusTool.options))

  options of backend:
  \(CommandOptions.help(ControlTool.options))

  examples:
    ivshmem frontend block info --link sim:/tmp/link.sock
    ivshmem frontend block read --link sim:/tmp/link.sock --file copy.img
    ivshmem frontend block copy --link sim:/tmp/link.sock --offset 0 --count 1M --to 8M
    ivshmem frontend console --link sim:/tmp/link.sock --slot 1 --port 2
    echo hello | ivshmem frontend console --vhost-user /run/console.sock
    ivshmem frontend entropy --link sim:/tmp/link.sock --slot 2 --bytes 32 --hex
    ivshmem frontend network bridge --link sim:/tmp/link.sock --tap cell0
    ivshmem frontend network receive --link sim:/tmp/link.sock --count 1000
    ivshmem status --link sim:/tmp/link.sock --json
    ivshmem backend reload --control /run/ivshmem-backend/board.ctl
  A console ends with Ctrl-], or some time after the end of a piped input. Where it has several
  ports, nothing is sent while nobody is at a port's other end.
  exit status: 0 done, 1 it failed, 2 wrong usage or something cannot be opened, 130 interrupted
  """

func say(_ text: String) { writeError("ivshmem: \(text)\n") }

/// A command line that is wrong is one of the ways in which a tool fails.
func checked<Value>(_ body: () throws(UsageError) -> Value) throws(ClientError) -> Value {
  do throws(UsageError) { return try body() } catch { throw .usage(error) }
}

/// Reads the options; `nil` when the help was asked for and shown.
func parse(
  _ words: [String], _ known: [OptionSpecification]
) throws(ClientError) -> CommandOptions? {
  let given = try checked { () throws(UsageError) in try CommandOptions(words, known) }
  guard given.has("help") else { return given }
  writeOutput(usage + "\n")
  return nil
}

func frontend(_ words: [String]) throws(ClientError) {
  let rest = Array(words.dropFirst())
  switch words.first {
  case "block":
    guard let given = try parse(rest, BlockTool.options) else { return }
    guard given.arguments.count == 1 else {
      throw .usage(UsageError("frontend block needs one action: \(BlockTool.actions)"))
    }
    let tool = try checked { () throws(UsageError) in try BlockTool(given.arguments[0], given) }
    try tool.run()
  case "console":
    guard let given = try parse(rest, ConsoleTool.options) else { return }
    try checked { () throws(UsageError) in try ConsoleTool(given) }.run()
  case "entropy":
    guard let given = try parse(rest, EntropyTool.options) else { return }
    try checked { () throws(UsageError) in try EntropyTool(given) }.run()
  case "network":
    guard let given = try parse(rest, NetworkTool.options) else { return }
    guard given.arguments.count == 1 else {
      throw .usage(UsageError("frontend network needs one action: \(NetworkTool.actions)"))
    }
    try checked { () throws(UsageError) in try NetworkTool(given.arguments[0], given) }.run()
  case let found:
    throw .usage(
      UsageError("frontend drives: block, console, entropy, network; got '\(found ?? "nothing")'"))
  }
}

/// All about one command; `nil` when there is none of that name.
func help(_ name: String) -> String? { BoardTool(name)?.page.text }

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
    case "help", "--help": writeOutput(words.dropFirst().first.flatMap { help($0) } ?? usage + "\n")
    case "frontend": try frontend(Array(words.dropFirst()))
    case "status":
      if let given = try parse(Array(words.dropFirst()), StatusTool.options) {
        try checked { () throws(UsageError) in try StatusTool(given).run() }
      }
    case "backend":
      if let given = try parse(Array(words.dropFirst()), ControlTool.options) {
        return try checked { () throws(UsageError) in try ControlTool(given).run() }
      }
    case "cell": return start("ivshmem-cell")
    case "sim": return start("ivshmem-sim")
    case let name? where BoardTool(name) != nil:
      if let tool = BoardTool(name) { return try tool.run(Array(words.dropFirst())) }
    default:
      throw .usage(
        UsageError(
          "unknown command '\(words.first ?? "")'; known are: "
            + BoardTool.allCases.map { $0.page.name }.joined(separator: ", ")
            + ", frontend, status, backend, cell,"
            + " sim, help"))
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
