import ArgumentParser

struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "diff", abstract: "To come.")
  func run() throws {}
}
