// ivshmem: the board tool. It only composes.
import CLinux
import CommandOptions
import LinuxRuntime
import LinuxSupport

let usage = """
  usage: ivshmem COMMAND [options]

    ivshmem frontend block ACTION --link sim:PATH   drive a block device of a link;
                                                    ACTION: \(BlockTool.actions)
    ivshmem status --link sim:PATH [--json]         registers, queues, counters; read-only
    ivshmem backend ACTION --control PATH           ask a running ivshmem-backend;
                                                    ACTION: \(ControlTool.actions)
    ivshmem help                                    this text

  options of frontend block:
  \(CommandOptions.help(BlockTool.options))

  options of status:
  \(CommandOptions.help(StatusTool.options))

  options of backend:
  \(CommandOptions.help(ControlTool.options))

  examples:
    ivshmem frontend block info --link sim:/tmp/link.sock
    ivshmem frontend block read --link sim:/tmp/link.sock --file copy.img
    ivshmem frontend block copy --link sim:/tmp/link.sock --offset 0 --count 1M --to 8M
    ivshmem status --link sim:/tmp/link.sock --json
    ivshmem backend reload --control /run/ivshmem-backend/board.ctl
  exit status: 0 done, 1 it failed, 2 wrong usage or something cannot be opened, 130 interrupted
  """

func say(_ text: String) { writeError("ivshmem: \(text)\n") }

func frontend(_ words: [String]) throws(ClientError) {
  do throws(UsageError) {
    guard words.first == "block" else {
      throw UsageError("frontend drives: block; got '\(words.first ?? "nothing")'")
    }
    let given = try CommandOptions(Array(words.dropFirst()), BlockTool.options)
    if given.has("help") {
      writeOutput(usage + "\n")
      return
    }
    guard given.arguments.count == 1 else {
      throw UsageError("frontend block needs one action: \(BlockTool.actions)")
    }
    let tool = try BlockTool(given.arguments[0], given)
    do throws(ClientError) {
      return try tool.run()
    } catch {
      switch error {
      case .usage(let usage): throw usage
      case .interrupted:
        say("interrupted")
        cl_exit(130)
      case .failed(let text):
        say(text)
        cl_exit(1)
      }
    }
  } catch { throw .usage(error) }
}

func run() -> Int32 {
  let words = Array(CommandLine.arguments.dropFirst())
  do throws(ClientError) {
    switch words.first {
    case "help", "--help":
      writeOutput(usage + "\n")
      return 0
    case "frontend":
      try frontend(Array(words.dropFirst()))
      return 0
    case "status":
      do throws(UsageError) {
        let given = try CommandOptions(Array(words.dropFirst()), StatusTool.options)
        if given.has("help") {
          writeOutput(usage + "\n")
        } else {
          try StatusTool(given).run()
        }
      } catch { throw .usage(error) }
      return 0
    case "backend":
      do throws(UsageError) {
        let given = try CommandOptions(Array(words.dropFirst()), ControlTool.options)
        guard !given.has("help") else {
          writeOutput(usage + "\n")
          return 0
        }
        return try ControlTool(given).run()
      } catch { throw .usage(error) }
    default:
      throw .usage(
        UsageError(
          "unknown command '\(words.first ?? "")'; known are: frontend, status, backend, help"))
    }
  } catch {
    switch error {
    case .usage(let usage):
      say(usage.message)
      return 2
    case .failed(let text):
      say(text)
      return 1
    case .interrupted: return 130
    }
  }
}

cl_exit(run())
