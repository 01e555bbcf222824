import ArgumentParser
import CellCheck
import CellFormat
import DeviceTree

/// A page size of arm64, as it is written on the command line.
enum PageSize: String, ExpressibleByArgument {
  case small = "4K"
  case middle = "16K"
  case large = "64K"

  var bytes: UInt64 {
    switch self {
    case .small: 0x1000
    case .middle: 0x4000
    case .large: 0x1_0000
    }
  }
}

struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Check a set of cell configurations, alone and against each other.",
    discussion: """
      Name the system configuration and the cells that shall run at the same time, in any order.
      Exit status: 0 no errors, 1 errors found, 2 wrong usage or unreadable input, 3 warnings with
      --strict.
      """)

  @Argument(help: "Configurations: one system, any number of cells.")
  var files: [String] = []

  @Option(
    name: .customLong("dtb"),
    help: ArgumentHelp("Device tree of a guest.", valueName: "[cell=]file"))
  var trees: [String] = []

  @Option(name: .customLong("root-dtb"), help: "Device tree of the root cell's Linux.")
  var rootTree: String?

  @Option(
    help: ArgumentHelp(
      "Cells of which only one runs at a time; may be repeated.", valueName: "cell,cell"))
  var alternatives: [String] = []

  @Option(
    help: ArgumentHelp(
      "Page size of the guests: links and device windows have to fit it.",
      valueName: "4K|16K|64K"))
  var pageSize: PageSize = .small

  @Flag(help: "Print one JSON object.")
  var json = false

  @Flag(help: "Exit with 3 when there are warnings.")
  var strict = false

  @Option(help: "Print what a rule is about, and nothing else.")
  var explain: String?

  func run() throws {
    if let explain { return try printRule(explain) }
    guard !files.isEmpty else {
      complain("check: no file named; name the system configuration and the cells, or --explain")
      throw ExitCode(2)
    }
    do {
      let report = try makeReport()
      try printResult(json ? report.json : report.text)
      let status = report.status(strict: strict)
      if status != 0 { throw ExitCode(status) }
    } catch let error as InputError {
      complain("check: \(error)")
      throw ExitCode(2)
    }
  }

  private func printRule(_ id: String) throws {
    guard let rule = Rule.named(id.uppercased()) else {
      complain("check: no rule \(id); the rules are \(Rule.all.map(\.id).joined(separator: " "))")
      throw ExitCode(2)
    }
    try printResult(
      """
      \(rule.id) (\(rule.severity.rawValue), \(rule.family.rawValue)): \(rule.title).

      \(rule.why)

      Example and mended form: \(rule.page)
      """)
  }

  private func makeReport() throws(InputError) -> CheckReport {
    var set = CellSet(
      alternatives: alternatives.map { Set(parts(of: $0)) }, pageSize: pageSize.bytes)
    var checked: [CheckReport.File] = []
    var undecodable: [Finding] = []
    for (number, file) in files.enumerated() {
      guard !files[..<number].contains(file) else {
        throw InputError(description: "\(file) is named twice; name each configuration once")
      }
      let bytes = try readInput(file, limit: configurationLimit)
      do {
        let configuration = try ConfigurationFile(decoding: bytes)
        set.files.append(CellSet.Member(file: file, configuration: configuration))
        let kind = if case .system = configuration { "system" } else { "cell" }
        checked.append(
          CheckReport.File(file: file, cell: configuration.cell.name, kind: kind))
      } catch {
        undecodable.append(CellCheck.finding(for: error, file: file))
        checked.append(CheckReport.File(file: file, cell: "", kind: "undecodable"))
      }
    }
    var names: [String] = []
    for argument in trees {
      let (cell, file) = try splitTree(argument, set)
      set.deviceTrees[cell] = try readTree(file)
      names.append(file)
    }
    if let rootTree {
      set.rootTree = try readTree(rootTree)
      names.append(rootTree)
    }
    try checkAlternatives(set)
    var findings = check(set)
    // The file that cannot be read may be the system: that it is missing is no finding of its own.
    if !undecodable.isEmpty { findings.removeAll { $0.rule == "N03" } }
    return CheckReport(files: checked, trees: names, findings: undecodable + findings)
  }

  private func parts(of list: String) -> [String] {
    list.split(separator: ",").map { String($0) }
  }

  private func checkAlternatives(_ set: CellSet) throws(InputError) {
    for name in alternatives.flatMap({ parts(of: $0) })
    where !set.files.contains(where: { $0.isNamed(name) }) {
      throw InputError(
        description: "--alternatives names \"\(name)\", which is none of the cells "
          + set.files.map { "\"\($0.configuration.cell.name)\"" }.joined(separator: ", "))
    }
  }

  private func readTree(_ file: String) throws(InputError) -> CellSet.Tree {
    let bytes = try readInput(file, limit: treeLimit)
    do {
      return CellSet.Tree(file: file, tree: try FlattenedTree(decoding: bytes))
    } catch {
      throw InputError(description: "\(file): \(error.message)")
    }
  }

  /// The cell and file of `cell=file`; without a cell there has to be only one it can be for.
  private func splitTree(
    _ argument: String, _ set: CellSet
  ) throws(InputError) -> (cell: String, file: String) {
    if let equals = argument.firstIndex(of: "=") {
      let name = String(argument[..<equals])
      if let member = set.files.first(where: { $0.isNamed(name) }) {
        return (member.file, String(argument[argument.index(after: equals)...]))
      }
      throw InputError(
        description: "--dtb \(argument): no cell \"\(name)\" among "
          + set.files.map { "\"\($0.configuration.cell.name)\"" }.joined(separator: ", "))
    }
    let guests = set.files.filter { if case .cell = $0.configuration { true } else { false } }
    let linux = guests.filter { $0.isLinux }
    guard let only = guests.count == 1 ? guests.first : linux.count == 1 ? linux.first : nil else {
      throw InputError(
        description: "--dtb \(argument): \(guests.count) guests are named; say which with "
          + "--dtb CELL=\(argument)")
    }
    return (only.file, argument)
  }
}
