import CellCheck
import CellGenerate
import Foundation
import Testing

@Suite("CellTests: output folder")
struct OutputFolderTests {
  private func withFolder(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory
      .appendingPathComponent("cellmate-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    try body(folder)
  }

  private func names(_ folder: String) throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
  }

  @Test("all files are written, and nothing else is left")
  func writesAll() throws {
    let artefacts = try Setups.generate(Setups.good).artefacts
    try withFolder { folder in
      let deep = folder + "/a/b"
      #expect(OutputFolder.changes(artefacts, in: deep).allSatisfy { $0 == .new })
      try OutputFolder.write(artefacts, to: deep)
      #expect(try names(deep) == artefacts.map(\.name).sorted())
      #expect(OutputFolder.changes(artefacts, in: deep).allSatisfy { $0 == .same })
      for artefact in artefacts {
        let path = "\(deep)/\(artefact.name)"
        #expect(FileManager.default.contents(atPath: path).map(Array.init) == artefact.bytes)
        #expect(FileManager.default.isExecutableFile(atPath: path) == artefact.isExecutable)
      }
    }
  }

  @Test("a changed file is seen, whether it is shorter, longer or of the same length")
  func seesChanges() throws {
    let artefacts = try Setups.generate(Setups.good).artefacts
    try withFolder { folder in
      try OutputFolder.write(artefacts, to: folder)
      for bytes in [
        [], Array(artefacts[0].bytes.dropLast()), artefacts[0].bytes + [10],
        [artefacts[0].bytes[0] ^ 1] + artefacts[0].bytes.dropFirst(),
      ] {
        try Data(bytes).write(to: URL(fileURLWithPath: "\(folder)/\(artefacts[0].name)"))
        let changes = OutputFolder.changes(artefacts, in: folder)
        #expect(changes[0] == .changed)
        #expect(changes.dropFirst().allSatisfy { $0 == .same })
      }
    }
  }

  @Test("when one file cannot be written, no file is")
  func allOrNothing() throws {
    let artefacts = try Setups.generate(Setups.good).artefacts
    try withFolder { folder in
      let last = try #require(artefacts.last)
      try FileManager.default.createDirectory(
        atPath: "\(folder)/\(last.name)", withIntermediateDirectories: true)
      let error = #expect(throws: OutputError.self) {
        try OutputFolder.write(artefacts, to: folder)
      }
      #expect(error?.message.contains(last.name) == true)
      #expect(try names(folder) == [last.name])
    }
  }

  @Test("a folder that is a file is refused")
  func aFileIsNoFolder() throws {
    let artefacts = try Setups.generate(Setups.good).artefacts
    try withFolder { folder in
      try Data().write(to: URL(fileURLWithPath: folder))
      #expect(throws: OutputError.self) { try OutputFolder.write(artefacts, to: folder + "/x") }
      #expect(throws: OutputError.self) { try OutputFolder.write(artefacts, to: folder) }
    }
  }

  @Test("descriptions that cannot be read say why")
  func unreadableDescriptions() throws {
    try withFolder { folder in
      func reason(_ path: String) -> String {
        if case .failure(let failure) = OutputFolder.text(of: path) { failure.message } else { "" }
      }
      #expect(reason(folder + "/none") == "No such file or directory")
      try FileManager.default.createDirectory(
        atPath: folder, withIntermediateDirectories: true)
      #expect(reason(folder).contains("folder"))
      let path = folder + "/x.yaml"
      try Data([0xff, 0xfe]).write(to: URL(fileURLWithPath: path))
      #expect(reason(path).contains("UTF-8"))
      try Data(count: 300_000).write(to: URL(fileURLWithPath: path))
      #expect(reason(path).contains("more than"))
    }
  }

  @Test("the report is JSON with stable keys, also of a failure")
  func reportsAreJSON() throws {
    let generation = try Setups.generate(Setups.good)
    let report = GenerationReport(generation, changes: [], folder: "x", isWritten: true)
    let good = try #require(
      try JSONSerialization.jsonObject(with: Data(report.json.utf8)) as? [String: Any])
    #expect(Set(good.keys) == ["written", "files", "choices", "findings"])
    #expect((good["files"] as? [Any])?.count == generation.artefacts.count)
    let error = #expect(throws: GenerateError.self) {
      try Setups.generate(Setups.replacing("cpus: [1]", "\"cp\\\\u\\\"\\x01\": 1"))
    }
    let failure = GenerationReport(try #require(error))
    let bad = try #require(
      try JSONSerialization.jsonObject(with: Data(failure.json.utf8)) as? [String: Any])
    #expect(bad["written"] as? Bool == false)
    let finding = try #require((bad["findings"] as? [[String: String]])?.first)
    #expect(
      Set(finding.keys) == [
        "rule", "severity", "file", "place", "message", "consequence", "fix",
      ])
    #expect(failure.findingLines.count == 1)
  }
}
