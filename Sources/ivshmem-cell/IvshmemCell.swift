import ArgumentParser
import Glibc

/// The workstation tool for Jailhouse cell configurations; `ivshmem cell` starts it.
@main
struct IvshmemCell: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ivshmem-cell",
    abstract: "Check, generate and explain Jailhouse cell configurations and their device trees.",
    subcommands: [CheckCommand.self, GenerateCommand.self, ShowCommand.self, DiffCommand.self])

  /// As ArgumentParser's own, but wrong usage is exit status 2 like all wrong input.
  static func main() {
    do {
      var command = try parseAsRoot()
      try command.run()
    } catch {
      let code = exitCode(for: error)
      guard code == .validationFailure else { exit(withError: error) }
      complain(fullMessage(for: error))
      Glibc.exit(2)
    }
  }
}
