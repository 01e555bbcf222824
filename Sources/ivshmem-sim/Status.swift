import CommandOptions
import LinuxSupport
import Simulator

/// `ivshmem-sim status`: who the peers of a running link are, machines included.
enum Status {
  static let specifications = [
    OptionSpecification("socket", "PATH", "the --socket of the running ivshmem-sim (required)"),
    OptionSpecification("json", "one line of JSON (docs/simulator.md)"),
    OptionSpecification("help", "this text"),
  ]

  static let usage = """
    usage: ivshmem-sim status --socket PATH [--json]

    Prints the peers of a running link: who each one is, its State and Interrupt Control, interrupts
    delivered and dropped, and what a virtual machine gets to see. It disturbs nobody.

    \(CommandOptions.help(specifications))

    exit status: 0 printed, 1 no server answers there, 2 wrong usage
    """

  static func run(_ arguments: [String]) throws(UsageError) -> Int32 {
    let given = try CommandOptions(arguments, specifications)
    if given.has("help") {
      writeOutput(usage + "\n")
      return 0
    }
    guard given.arguments.isEmpty else {
      throw UsageError("unexpected argument '\(given.arguments[0])', see status --help")
    }
    guard let path = given.value("socket") else {
      throw UsageError("status: --socket PATH is missing: which link? See status --help")
    }
    do throws(SystemError) {
      guard let text = try LinkStatus.ask(path, asJSON: given.has("json")) else {
        writeError(
          "ivshmem-sim: \(path): what answers there does not tell its peers; start this version\n")
        return 1
      }
      writeOutput(text)
      return 0
    } catch {
      writeError(
        "ivshmem-sim: \(path): \(error.text); is an ivshmem-sim running with this --socket?\n")
      return 1
    }
  }
}
