import ArgumentParser

struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "gen", abstract: "To come.")
  func run() throws {}
}
