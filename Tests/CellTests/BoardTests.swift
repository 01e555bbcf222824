import CellCheck
import CellFormat
import CellGenerate
import DeviceTree
import Foundation
import Testing

@Suite("CellTests: boards")
struct BoardTests {
  @Test(
    "the committed files of every board are what gen makes of its setup",
    arguments: Repository.boards)
  func committedFilesAreCurrent(board: String) throws {
    for artefact in try Repository.generate(board).artefacts {
      if artefact.name.hasSuffix(".dtb") || artefact.name.hasSuffix(".dtbo") { continue }
      let isSource = artefact.name.hasSuffix(".dts") || artefact.name.hasSuffix(".dtso")
      let path = "\(isSource ? "dts" : "cell-configs")/\(board)/\(artefact.name)"
      let bytes = try Data(contentsOf: Repository.root.appendingPathComponent(path))
      #expect(
        Array(bytes) == artefact.bytes,
        "\(path) differs: run cell-configs/regenerate and look at the difference")
    }
  }

  @Test("every board has its page", arguments: Repository.boards)
  func everyBoardHasItsPage(board: String) throws {
    #expect(try Repository.text("cell-configs/\(board)/README.md").contains("# "))
  }

  @Test("every board serves each kind of link", arguments: Repository.boards)
  func everyKindOfLinkIsThere(board: String) throws {
    let layout = try Repository.generate(board).layout
    #expect(Set(layout.links.map(\.wish.kind)) == Set(LinkKind.allCases))
    for link in layout.links {
      let isNative = link.wish.kind == .native
      #expect(layout.cells[link.guest].wish.kind == (isNative ? .bareMetal : .linux))
    }
  }

  @Test(
    "the checker has nothing to say but that five links of the root cell share four interrupts",
    arguments: Repository.boards)
  func theCheckerIsContent(board: String) throws {
    let findings = try Repository.generate(board).findings
    #expect(findings.map(\.rule) == ["E25"], "\(findings)")
    #expect(findings.allSatisfy { $0.severity < .error && $0.file == "\(board).cell" })
  }

  @Test("decoding a generated cell gives back its bytes", arguments: Repository.boards)
  func generatedCellsRoundTrip(board: String) throws {
    for artefact in try Repository.generate(board).artefacts
    where artefact.name.hasSuffix(".cell") {
      #expect(try ConfigurationFile(decoding: artefact.bytes).encoded() == artefact.bytes)
    }
  }

  @Test(
    "block and console lie where the stock root cell has them",
    arguments: [
      ("imx8mm", 0xbba0_0000, 0xbbae_0000), ("imx8mn", 0xbba0_0000, 0xbbae_0000),
      ("imx8mp", 0xfd90_0000, 0xfd9e_0000), ("imx8mq", 0xbfd0_0000, 0xbfde_0000),
      ("imx8ulp", 0xfd90_0000, 0xfd9e_0000), ("imx93", 0xfd90_0000, 0xfd9e_0000),
      ("imx95", 0xff90_0000, 0xff9e_0000),
    ] as [(String, UInt64, UInt64)])
  func stockPlacesAreKept(board: String, block: UInt64, console: UInt64) throws {
    let layout = try Repository.generate(board).layout
    let disk = try #require(layout.links.first { $0.wish.kind == .block })
    #expect(disk.device == 2)
    #expect(disk.sections.map(\.size) == [0x1000, 0xdf000, 0, 0])
    #expect(disk.span.start == block)
    let terminal = try #require(layout.links.first { $0.wish.kind == .console })
    #expect(terminal.device == 3)
    #expect(terminal.sections.map(\.size) == [0x1000, 0xf000, 0, 0])
    #expect(terminal.span.start == console)
  }

  @Test(
    "the ECAM and the BARs are reserved nowhere and mapped nowhere",
    arguments: Repository.boards)
  func theVirtualPCIIsFree(board: String) throws {
    let layout = try Repository.generate(board).layout
    let window = Span(
      start: layout.board.ecam, size: layout.board.rootBARs.end - layout.board.ecam)
    #expect(!layout.rootBanks.contains { $0.overlaps(window) })
    #expect(!layout.rootRegions.contains { $0.span.overlaps(window) })
    let reserved = [layout.board.hypervisor, layout.board.loaderWindow]
    for span in reserved + layout.board.sharedWindows + layout.board.guestWindows {
      #expect(!span.overlaps(window))
    }
  }
}

@Suite("CellTests: device-tree compiler", .enabled(if: Compiler.isThere))
struct CompilerTests {
  @Test(
    "dtc takes every tree without a warning, and makes the very bytes that gen makes",
    arguments: Repository.boards)
  func dtcAgrees(board: String) throws {
    let generation = try Repository.generate(board)
    for source in generation.artefacts
    where source.name.hasSuffix(".dts") || source.name.hasSuffix(".dtso") {
      let result = try Compiler.run("dtc", ["-I", "dts", "-O", "dtb", "-"], input: source.bytes)
      #expect(result.errors == "", "\(source.name)")
      let name =
        source.name.hasSuffix("o")
        ? source.name.dropLast(4) + "dtbo" : source.name.dropLast(3) + "dtb"
      let blob = try #require(generation.artefacts.first { $0.name == name })
      #expect(FlattenedTree.isValid(blob.bytes), "\(name): libfdt refuses it")
      #expect(result.output == blob.bytes, "\(name)")
    }
  }

  @Test("fdtdump reads what gen makes", arguments: Repository.boards)
  func fdtdumpAgrees(board: String) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("cellmate-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: folder) }
    for blob in try Repository.generate(board).artefacts where blob.name.hasSuffix(".dtb") {
      let path = folder.appendingPathComponent(blob.name).path
      try Data(blob.bytes).write(to: URL(fileURLWithPath: path))
      let dump = try Compiler.run("fdtdump", [path], input: [])
      let text = String(decoding: dump.output, as: UTF8.self)
      #expect(text.contains("pci-host-ecam-generic"))
      #expect(text.contains("jailhouse,cell"))
    }
  }
}

/// Runs dtc and its companions.
enum Compiler {
  static let isThere = find("dtc") != nil && find("fdtdump") != nil

  /// Whether C can be compiled, and the bytes taken out of it.
  static let canCompile = find("gcc") != nil && find("objcopy") != nil

  static func find(_ name: String) -> String? {
    (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin").split(separator: ":")
      .map { "\($0)/\(name)" }.first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  static func run(
    _ name: String, _ arguments: [String], input: [UInt8]
  ) throws -> (output: [UInt8], errors: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: try #require(find(name)))
    process.arguments = arguments
    let (standardIn, standardOut, standardError) = (Pipe(), Pipe(), Pipe())
    process.standardInput = standardIn
    process.standardOutput = standardOut
    process.standardError = standardError
    try process.run()
    // The inputs are smaller than a pipe holds: no deadlock.
    try standardIn.fileHandleForWriting.write(contentsOf: Data(input))
    try standardIn.fileHandleForWriting.close()
    let output = standardOut.fileHandleForReading.readDataToEndOfFile()
    let errors = standardError.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (Array(output), String(decoding: errors, as: UTF8.self))
  }
}
