import ArgumentParser
import CellPicture

struct DiffCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "diff",
    abstract: "Compare what two configurations mean.",
    discussion: """
      Regions are matched by physical address, links by BDF, whatever their order. Exit status: 0 \
      the same, 1 different, 2 when a file cannot be read.
      """)

  @Argument(help: ArgumentHelp("The configuration to compare with.", valueName: "A.cell"))
  var left: String
  @Argument(help: ArgumentHelp("The configuration to compare.", valueName: "B.cell"))
  var right: String
  @Flag(help: "Print JSON with stable keys (docs/cell-tool.md).")
  var json = false

  func run() throws {
    var (old, new) = (
      try ConfigurationReader.read(left), try ConfigurationReader.read(right)
    )
    if old.name == new.name { (old.name, new.name) = (left, right) }
    let comparison = Comparison(left: old, right: new)
    try printResult(json ? comparison.json : comparison.text)
    if !comparison.same { throw ExitCode(1) }
  }
}
