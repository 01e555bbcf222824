import CellFormat
import Foundation
import Testing

/// The program itself: exit statuses, streams, and what it does with files that are none.
@Suite struct CommandLineTests {
  struct Outcome {
    let status: Int32
    let output: String
    let error: String
  }

  static let programs: URL = {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    // The test binary lies beside the programs.
    let folders = [
      URL(fileURLWithPath: CommandLine.arguments[0]).deletingLastPathComponent(),
      root.appendingPathComponent(".build/debug"),
    ]
    return folders.first {
      FileManager.default.isExecutableFile(
        atPath: $0.appendingPathComponent("ivshmem-cell").path)
    } ?? folders[1]
  }()

  /// A folder with a good system, a good and a bad guest, gone at the end.
  final class Folder {
    let url: URL

    init() throws {
      url = FileManager.default.temporaryDirectory
        .appendingPathComponent("cellmate-\(UUID().uuidString)")
      try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      let system = TestSystem()
      try write("root.cell", ConfigurationFile.system(system.root).encoded())
      try write("linux.cell", ConfigurationFile.cell(system.linux).encoded())
      try write("bare.cell", ConfigurationFile.cell(system.bare).encoded())
      var bad = system.bare
      bad.pciDevices[0].sharedMemoryPeers = 2
      try write("bad.cell", ConfigurationFile.cell(bad).encoded())
      bad = system.bare
      bad.memoryRegions[0].flags.remove(.rootShared)
      try write("odd.cell", ConfigurationFile.cell(bad).encoded())
      try write("cut.cell", Array(ConfigurationFile.cell(system.bare).encoded().dropLast()))
      try write("empty.cell", [])
      try write("large.cell", Array(repeating: 0, count: 300 << 10))
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    func write(_ name: String, _ bytes: [UInt8]) throws {
      try Data(bytes).write(to: url.appendingPathComponent(name))
    }

    func run(
      _ arguments: String..., program: String = "ivshmem-cell", full: Bool = false
    ) throws -> Outcome {
      try run(arguments, program: program, full: full)
    }

    func run(
      _ arguments: [String], program: String = "ivshmem-cell", full: Bool = false
    ) throws -> Outcome {
      let process = Process()
      process.executableURL = CommandLineTests.programs.appendingPathComponent(program)
      process.arguments = arguments
      process.currentDirectoryURL = url
      let output = url.appendingPathComponent("standard.out")
      let error = url.appendingPathComponent("standard.err")
      for file in [output, error] { try Data().write(to: file) }
      process.standardInput = FileHandle.nullDevice
      process.standardOutput =
        full
        ? FileHandle(forWritingAtPath: "/dev/full") : try FileHandle(forWritingTo: output)
      process.standardError = try FileHandle(forWritingTo: error)
      try process.run()
      process.waitUntilExit()
      return Outcome(
        status: process.terminationStatus,
        output: try String(contentsOf: output, encoding: .utf8),
        error: try String(contentsOf: error, encoding: .utf8))
    }
  }

  @Test func checkEndsBySeverity() throws {
    let folder = try Folder()
    #expect(try folder.run("check", "root.cell", "linux.cell", "bare.cell").status == 0)
    let bad = try folder.run("check", "root.cell", "linux.cell", "bad.cell")
    #expect(bad.status == 1)
    #expect(bad.output.contains("bad.cell: error[E11]"))
    #expect(try folder.run("check", "root.cell", "linux.cell", "odd.cell").status == 0)
    #expect(try folder.run("check", "root.cell", "linux.cell", "odd.cell", "--strict").status == 3)
    #expect(try folder.run("check", "root.cell", "cut.cell").status == 1)
    let cut = try folder.run("check", "cut.cell", "bare.cell")
    #expect(cut.output.contains("cut.cell: error[E02]") && !cut.output.contains("N03"))
    #expect(try folder.run("check", "empty.cell").output.contains("error[E02]: offset 0x0"))
  }

  @Test func whatIsNoFileIsRefused() throws {
    let folder = try Folder()
    try FileManager.default.createDirectory(
      at: folder.url.appendingPathComponent("folder"), withIntermediateDirectories: false)
    let made = unsafe mkfifo(folder.url.appendingPathComponent("pipe").path, 0o600)
    #expect(made == 0)
    for (arguments, words) in [
      (["check"], "no file named"),
      (["check", "folder"], "is a folder"),
      (["show", "pipe"], "a pipe that nobody has written to"),
      (["diff", "root.cell", "missing"], "missing cannot be read"),
      (["show", "large.cell"], "more than 256 KiB"),
      (["show", "/dev/zero"], "no ordinary file"),
      (["check", "root.cell", "root.cell"], "named twice"),
      (["check", "root.cell", "--alternatives", "a,b"], "none of the cells"),
      (["check", "root.cell", "linux.cell", "--dtb", "root.cell"], "libfdt refuses"),
      (["check", "--explain", "E99"], "no rule E99"),
      (["show", "root.cell", "--svg", "folder"], "no ordinary file"),
      (["show", "root.cell", "--svg", "folder/none/map.svg"], "cannot be written"),
      (["check", "--nonsense"], "Unknown option"),
    ] {
      let outcome = try folder.run(arguments)
      #expect(outcome.status == 2, "\(arguments)")
      #expect(outcome.output == "", "\(arguments)")
      #expect(outcome.error.contains(words), "\(arguments): \(outcome.error)")
    }
  }

  @Test func aReportThatIsLostIsAnError() throws {
    let folder = try Folder()
    for command in ["check", "show"] {
      let outcome = try folder.run(command, "root.cell", full: true)
      #expect(outcome.status == 2)
      #expect(outcome.error.contains("standard output cannot be written"))
    }
  }

  @Test func diffAndShowEndWell() throws {
    let folder = try Folder()
    #expect(try folder.run("diff", "bare.cell", "bare.cell").status == 0)
    #expect(try folder.run("diff", "bare.cell", "bad.cell").status == 1)
    let shown = try folder.run("show", "--json", "root.cell", "--svg", "map.svg")
    #expect(shown.status == 0)
    let object = try JSONSerialization.jsonObject(with: Data(shown.output.utf8))
    #expect((object as? [String: Any])?["files"] != nil)
    let map = try String(
      contentsOf: folder.url.appendingPathComponent("map.svg"), encoding: .utf8)
    #expect(map.hasPrefix("<") && map.contains("</svg>"))
    let left = try FileManager.default.contentsOfDirectory(atPath: folder.url.path)
    #expect(!left.contains { $0.hasSuffix(".part") })
  }

  @Test func jsonOfACheckHasItsKeys() throws {
    let folder = try Folder()
    let outcome = try folder.run("check", "--json", "root.cell", "linux.cell", "bad.cell")
    let object = try JSONSerialization.jsonObject(with: Data(outcome.output.utf8))
    let report = try #require(object as? [String: Any])
    #expect(Set(report.keys) == ["files", "trees", "findings", "summary"])
    let findings = try #require(report["findings"] as? [[String: String]])
    #expect(
      Set(findings[0].keys) == [
        "rule", "severity", "title", "file", "place", "message", "means", "fix", "page",
      ])
  }

  @Test func theBoardToolStartsTheOthers() throws {
    let folder = try Folder()
    let started = try folder.run("cell", "check", "bad.cell", "root.cell", program: "ivshmem")
    #expect(started.status == 1)
    #expect(started.output.contains("error[E11]"))
    let simulator = try folder.run("sim", "--help", program: "ivshmem")
    #expect(simulator.output.hasPrefix("usage: ivshmem-sim"))
    try FileManager.default.copyItem(
      at: Self.programs.appendingPathComponent("ivshmem"),
      to: folder.url.appendingPathComponent("ivshmem"))
    let alone = Process()
    alone.executableURL = folder.url.appendingPathComponent("ivshmem")
    alone.arguments = ["cell", "check"]
    let pipe = Pipe()
    alone.standardError = pipe
    try alone.run()
    alone.waitUntilExit()
    #expect(alone.terminationStatus == 2)
    let said = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    #expect(said.contains("ivshmem-cell cannot be started: No such file"))
  }
}
