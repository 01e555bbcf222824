import ArgumentParser
import CellCheck
import CellGenerate
import Glibc

/// `ivshmem-cell gen`: a description in, cells, device trees and all that belongs to them out.
struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gen",
    abstract: "Generate cells, device trees and the way to run them from a description.",
    discussion: """
      The description names a board, guest cells and links; docs/board-yaml.md has
      every key, and cell-configs/ a description for each known board. Addresses,
      device numbers and interrupts are chosen; --explain says what and why. A folder
      that was written before keeps its places (placement.yaml): a change of the
      description moves nothing else. Nothing is written when something cannot work.

      examples:
        ivshmem-cell gen cell-configs/imx8mp/setup.yaml --out build
        ivshmem-cell gen setup.yaml --dry-run --explain
        ivshmem-cell gen setup.yaml --out build --force

      exit status: 0 written (with --dry-run: could be), 1 the result would break a
      rule, 2 wrong usage, unreadable input, or a file that exists and differs
      """)

  @Argument(help: ArgumentHelp("The description.", valueName: "setup.yaml"))
  var setup: String

  @Option(help: ArgumentHelp("The folder to write; made if it is missing.", valueName: "dir"))
  var out: String?

  @Flag(help: "Print what was done as JSON, with stable keys.")
  var json = false

  @Flag(help: "Replace files in the folder that differ from what is generated.")
  var force = false

  @Flag(help: "Choose every place anew: do not read the folder's placement.yaml.")
  var fresh = false

  @Flag(help: "Write nothing; say what would be written.")
  var dryRun = false

  @Flag(help: "Say what was chosen, and why.")
  var explain = false

  func run() throws {
    guard out != nil || dryRun else {
      fail("no folder to write: add --out DIR, or --dry-run to write nothing")
      throw ExitCode(2)
    }
    let text: String
    switch OutputFolder.text(of: setup) {
    case .success(let read): text = read
    case .failure(let failure):
      fail("cannot read \(setup): \(failure.message)")
      throw ExitCode(2)
    }
    let generation: Generation
    do throws(GenerateError) {
      generation = try Generator.generate(
        yaml: text, file: setup, keeping: try placement(), load: OutputFolder.text)
    } catch {
      let report = GenerationReport(error)
      if json { print(report.json) } else { for line in report.findingLines { writeLine(line) } }
      throw ExitCode(error.isAboutTheDescription ? 2 : 1)
    }
    let changes = out.map { OutputFolder.changes(generation.artefacts, in: $0) } ?? []
    if let out, !dryRun { try write(generation.artefacts, changes, to: out) }
    let report = GenerationReport(generation, changes: changes, folder: out, isWritten: !dryRun)
    if json {
      print(report.json)
    } else {
      for line in report.findingLines { writeLine(line) }
      print(report.text(explains: explain))
    }
  }

  /// What the last run into this folder chose.
  private func placement() throws(GenerateError) -> Placement {
    guard let out, !fresh else { return Placement() }
    return try OutputFolder.placement(in: out)
  }

  private func write(
    _ artefacts: [Artefact], _ changes: [OutputFolder.Change], to folder: String
  ) throws {
    let different = zip(artefacts, changes).filter { $0.1 == .changed }.map(\.0.name)
    guard different.isEmpty || force else {
      fail(
        "\(folder) holds other versions of \(different.joined(separator: ", ")); "
          + "nothing was written: add --force to replace them")
      throw ExitCode(2)
    }
    do throws(OutputError) {
      try OutputFolder.write(artefacts, to: folder)
    } catch {
      fail("\(error.message); nothing was replaced")
      throw ExitCode(2)
    }
  }

  private func fail(_ message: String) { writeLine("ivshmem-cell gen: \(message)") }

  private func writeLine(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = unsafe bytes.withUnsafeBytes {
      unsafe Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count)
    }
  }
}
