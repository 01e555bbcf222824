import ArgumentParser

/// The workstation tool for Jailhouse cell configurations; `ivshmem cell` starts it.
@main
struct IvshmemCell: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ivshmem-cell",
    abstract: "Check, generate and explain Jailhouse cell configurations and their device trees.",
    subcommands: [CheckCommand.self, GenerateCommand.self, ShowCommand.self, DiffCommand.self])
}
