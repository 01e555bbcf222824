import ArgumentParser
import CellFormat
import CellPicture

struct ShowCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show",
    abstract: "Explain binary configurations: as text, as JSON, as a memory map.",
    discussion: """
      With several files, the ends of each link are matched by their BDF.
      Exit status: 0, or 2 when a file cannot be read.
      """)

  @Argument(help: ArgumentHelp("A .cell file of a system or a guest.", valueName: "X.cell"))
  var files: [String]

  @Flag(help: "Print JSON with stable keys (docs/cell-tool.md).")
  var json = false

  @Option(help: ArgumentHelp("Draw the physical memory map of all files.", valueName: "file"))
  var svg: String?

  func run() throws {
    let cells = try files.map(ConfigurationReader.read)
    if let svg { try ConfigurationReader.write(MemoryMap.svg(cells: cells), to: svg) }
    let explanations = Explanation.all(of: cells)
    try printResult(
      json
        ? Explanation.json(of: explanations) : explanations.map(\.text).joined(separator: "\n"))
  }
}
