import ArgumentParser
import CellCheck
import CellGenerate
import Foundation

/// `ivshmem-cell gen`: a description in, cells, device trees and all that belongs to them out.
struct GenerateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gen",
    abstract: "Generate cells, device trees and the way to run them from a description.",
    discussion: """
      The description names a board, guest cells and links; docs/board-yaml.md has every key, and
      cell-configs/ a description for each known board. Addresses, device numbers and interrupts
      are chosen; --explain says what and why. Nothing is written when something cannot work.

      examples:
        ivshmem-cell gen cell-configs/imx8mp/setup.yaml --out build
        ivshmem-cell gen setup.yaml --dry-run --explain
        ivshmem-cell gen setup.yaml --out build --force    # replace files that differ

      exit status: 0 written (or with --dry-run: could be), 1 the result would break a rule,
      2 wrong usage, unreadable input, or an output that exists and differs
      """)

  @Argument(help: ArgumentHelp("The description.", valueName: "setup.yaml"))
  var setup: String

  @Option(help: ArgumentHelp("The folder to write; made if it is missing.", valueName: "dir"))
  var out: String?

  @Flag(help: "Print what was done as JSON, with stable keys.")
  var json = false

  @Flag(help: "Replace files in the folder that differ from what is generated.")
  var force = false

  @Flag(help: "Write nothing; say what would be written.")
  var dryRun = false

  @Flag(help: "Say what was chosen, and why.")
  var explain = false

  func run() throws {
    guard out != nil || dryRun else {
      fail("no folder to write: add --out DIR, or --dry-run to write nothing")
      throw ExitCode(2)
    }
    let generation: Generation
    switch Self.read(setup) {
    case .failure(let failure):
      fail("cannot read \(setup): \(failure.message)")
      throw ExitCode(2)
    case .success(let text):
      do throws(GenerateError) {
        generation = try Generator.generate(yaml: text, file: setup, load: Self.read)
      } catch {
        report(error.findings)
        // A rule of the checker would be broken, or the description itself is wrong.
        throw ExitCode(error.findings.contains { !$0.rule.hasPrefix("Y") } ? 1 : 2)
      }
    }
    let changes = out.map { OutputFolder.changes(generation.artefacts, in: $0) } ?? []
    if let out, !dryRun { try write(generation.artefacts, changes, to: out) }
    if json {
      try printJSON(generation, changes)
    } else {
      printText(generation, changes)
    }
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

  private func printText(_ generation: Generation, _ changes: [OutputFolder.Change]) {
    for finding in generation.findings { print(Self.line(finding)) }
    if explain {
      for choice in generation.layout.choices {
        print("\(choice.subject): \(choice.value)\n    \(choice.reason)")
      }
    }
    let verb = dryRun ? "would write" : "wrote"
    print("\(verb) \(generation.artefacts.count) files" + (out.map { " to \($0)" } ?? ""))
    for (index, artefact) in generation.artefacts.enumerated() {
      let change = index < changes.count ? changes[index].rawValue : "new"
      let padding = String(repeating: " ", count: max(1, 28 - artefact.name.count))
      print("  \(artefact.name)\(padding)\(artefact.purpose) (\(change))")
    }
  }

  private struct Report: Encodable {
    struct File: Encodable {
      var name: String
      var purpose: String
      var bytes: Int
      var change: String
    }
    struct Decision: Encodable {
      var subject: String
      var value: String
      var reason: String
    }
    struct Problem: Encodable {
      var rule: String
      var severity: String
      var file: String
      var place: String
      var message: String
      var consequence: String
      var fix: String

      init(_ finding: Finding) {
        rule = finding.rule
        severity = finding.severity.rawValue
        file = finding.file
        place = finding.place
        message = finding.message
        consequence = finding.consequence
        fix = finding.fix
      }
    }
    var written: Bool
    var files: [File] = []
    var choices: [Decision] = []
    var findings: [Problem] = []
  }

  private func printJSON(_ generation: Generation, _ changes: [OutputFolder.Change]) throws {
    var report = Report(written: !dryRun)
    for (index, artefact) in generation.artefacts.enumerated() {
      report.files.append(
        Report.File(
          name: artefact.name, purpose: artefact.purpose, bytes: artefact.bytes.count,
          change: index < changes.count ? changes[index].rawValue : "new"))
    }
    report.choices = generation.layout.choices.map {
      Report.Decision(subject: $0.subject, value: $0.value, reason: $0.reason)
    }
    report.findings = generation.findings.map(Report.Problem.init)
    printEncoded(report)
  }

  private func printEncoded(_ report: Report) {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
    if let data = try? encoder.encode(report) { print(String(decoding: data, as: UTF8.self)) }
  }

  /// Findings that stop the generator: as JSON on standard output, as text on standard error.
  private func report(_ findings: [Finding]) {
    if json {
      var report = Report(written: false)
      report.findings = findings.map(Report.Problem.init)
      printEncoded(report)
    } else {
      for finding in findings {
        FileHandle.standardError.write(Data((Self.line(finding) + "\n").utf8))
      }
    }
  }

  private static func line(_ finding: Finding) -> String {
    let means = finding.consequence.isEmpty ? "" : "\n  means: \(finding.consequence)"
    return "\(finding.file):\(finding.place): \(finding.severity.rawValue) \(finding.rule): "
      + "\(finding.message)\(means)\n  fix: \(finding.fix)"
  }

  private func fail(_ message: String) {
    FileHandle.standardError.write(Data("ivshmem-cell gen: \(message)\n".utf8))
  }

  private static func read(_ path: String) -> Result<String, LoadFailure> {
    let attributes: [FileAttributeKey: Any]
    do {
      attributes = try FileManager.default.attributesOfItem(atPath: path)
    } catch {
      return .failure(LoadFailure(message: "no such file, or it may not be read"))
    }
    guard attributes[.type] as? FileAttributeType != .typeDirectory else {
      return .failure(LoadFailure(message: "it is a folder; name the file in it"))
    }
    guard let data = FileManager.default.contents(atPath: path) else {
      return .failure(LoadFailure(message: "it may not be read"))
    }
    guard let text = String(data: data, encoding: .utf8) else {
      return .failure(LoadFailure(message: "it is not UTF-8 text"))
    }
    return .success(text)
  }
}
