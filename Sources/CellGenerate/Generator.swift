public import CellCheck
import CellFormat
import CellPicture
import DeviceTree

/// Everything that one description gives.
public struct Generation: Sendable {
  /// What was decided.
  public var layout: Layout
  /// The files, in the order in which a person reads them.
  public var artefacts: [Artefact]
  /// What the checker says about them: notes and warnings only, since errors are refused.
  public var findings: [Finding]
}

/// Makes the artefacts of a setup; all in memory.
public enum Generator {
  /// Reads, solves, builds and checks.
  /// - Parameters:
  ///   - text: the YAML of the setup.
  ///   - file: its path, for messages and for finding the board file.
  ///   - kept: what an earlier run chose; it is chosen again while it fits.
  ///   - load: gives the text of another file.
  public static func generate(
    yaml text: String, file: String, keeping kept: Placement = Placement(),
    load: (String) -> Result<String, LoadFailure>
  ) throws(GenerateError) -> Generation {
    let setup = try SetupDescription(yaml: text, file: file, load: load)
    var solver = Solver(setup, keeping: kept)
    let layout = try solver.solve()
    return try build(layout)
  }

  private static func build(_ layout: Layout) throws(GenerateError) -> Generation {
    let configurations = CellBuilder(layout: layout).all()
    var artefacts: [Artefact] = []
    artefacts.append(
      Artefact("BRING-UP.md", BringUpPage(layout).text(), "from power-on to /dev/vda in the guest"))
    artefacts.append(Artefact("choices.md", ChoicesPage(layout).text(), "what was chosen and why"))
    let map = MemoryMap.svg(cells: configurations.map { ($0.fileName + ".cell", $0.file) })
    artefacts.append(Artefact("map.svg", map, "the physical memory of all cells"))
    for described in configurations {
      artefacts.append(
        Artefact(described.fileName + ".cell", described.file.encoded(), "for jailhouse"))
      artefacts.append(
        Artefact(
          described.fileName + ".c", CSource(described, title: layout.board.title).text(),
          "the same for Jailhouse's own build"))
    }
    for cell in layout.cells where cell.wish.kind == .linux {
      try add(
        GuestTree(layout, cell).tree(), "\(layout.setup.name)-\(cell.name)", "dts", "dtb",
        "device tree of the guest", &artefacts)
    }
    try add(
      RootTree(layout).overlay(), "\(layout.setup.name)-root", "dtso", "dtbo",
      "memory reservations of the root cell, an overlay", &artefacts)
    let backend = BackendFile(layout)
    artefacts.append(Artefact("backend.conf", backend.text(), "for ivshmem-backend on the board"))
    artefacts.append(
      Artefact("backend-sim.conf", backend.simulated(), "the same devices on simulated links"))
    artefacts.append(
      Artefact("start.sh", StartScript(layout).text(), isExecutable: true, "runs the steps"))
    artefacts.append(
      Artefact(Placement.fileName, Placement.text(layout), "keeps the places in the next run"))
    return Generation(
      layout: layout, artefacts: artefacts,
      findings: try checked(layout, configurations, artefacts))
  }

  /// What the checker says about the result, as it will be read from the files.
  /// - Throws: its errors: the result would not work, so there is none.
  private static func checked(
    _ layout: Layout, _ configurations: [DescribedConfiguration], _ artefacts: [Artefact]
  ) throws(GenerateError) -> [Finding] {
    var set = CellSet(
      files: configurations.map {
        CellSet.Member(file: $0.fileName + ".cell", configuration: $0.file)
      }, alternatives: layout.setup.alternatives.map { Set($0.map(\.value)) })
    for cell in layout.cells {
      let file = "\(layout.setup.name)-\(cell.name).dtb"
      guard let blob = artefacts.first(where: { $0.name == file }) else { continue }
      set.deviceTrees[cell.name] = try tree(blob.bytes, file)
    }
    let root = "\(layout.setup.name)-root.dtso"
    do {
      set.rootTree = try tree(try RootTree(layout).whole().flattened(), root)
    } catch let error as SourceError {
      throw defect(root, error.message)
    } catch {
      throw error as? GenerateError ?? defect(root, "\(error)")
    }
    let findings = check(set)
    let errors = findings.filter { $0.severity == .error }
    guard errors.isEmpty else { throw GenerateError(findings: errors) }
    return findings
  }

  private static func tree(_ blob: [UInt8], _ file: String) throws(GenerateError) -> CellSet.Tree {
    do {
      return CellSet.Tree(file: file, tree: try FlattenedTree(decoding: blob))
    } catch {
      throw defect(file, error.message)
    }
  }

  private static func defect(_ file: String, _ message: String) -> GenerateError {
    GenerateError(
      "G03", at: InputPlace(file: file, line: 1, column: 1), message,
      fix: "this is a defect of the generator: please report it")
  }

  private static func add(
    _ tree: SourceTree, _ name: String, _ source: String, _ blob: String, _ purpose: String,
    _ artefacts: inout [Artefact]
  ) throws(GenerateError) {
    artefacts.append(Artefact("\(name).\(source)", tree.printed(), purpose))
    do {
      artefacts.append(Artefact("\(name).\(blob)", try tree.flattened(), "the same, compiled"))
    } catch {
      throw defect("\(name).\(source)", error.message)
    }
  }
}
