import CellFuzzTargets
import Foundation
import Testing

/// The inputs of the coverage-guided fuzzer, and seeded damage of them, through all of the tool.
/// `CELLMATE_FUZZ_SECONDS` makes it longer, `CELLMATE_FUZZ_SEED` repeats a run.
@Suite struct CellFuzzCorpusTests {
  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .appendingPathComponent("../../Fuzz/corpus/cells").standardizedFileURL

  static func corpus() throws -> [(name: String, bytes: [UInt8])] {
    try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted().map {
      ($0, [UInt8](try Data(contentsOf: folder.appendingPathComponent($0))))
    }
  }

  @Test func corpusPasses() throws {
    var fuzzer = CellFuzzer()
    for (name, bytes) in try Self.corpus() {
      let wrong = fuzzer.run(bytes)
      #expect(wrong == nil, "\(name)")
    }
    #expect(fuzzer.configurations >= 4)
    #expect(fuzzer.trees >= 1)
  }

  @Test func damagedCorpusPasses() throws {
    let seconds = Double(CellFuzzTests.environment("CELLMATE_FUZZ_SECONDS") ?? "") ?? 0
    let seed = UInt64(CellFuzzTests.environment("CELLMATE_FUZZ_SEED") ?? "") ?? 1
    var random = SeededGenerator(seed: seed)
    var fuzzer = CellFuzzer()
    let corpus = try Self.corpus()
    let start = Date()
    var runs = 0
    repeat {
      for (name, bytes) in corpus {
        runs += 1
        let damaged = CellFuzzTests.damage(bytes, &random)
        if let wrong = fuzzer.run(damaged) {
          Issue.record("seed \(seed), run \(runs), from \(name): \(wrong): \(damaged)")
        }
      }
    } while runs < 1000 || Date().timeIntervalSince(start) < seconds
    let rate = Double(runs) / Date().timeIntervalSince(start)
    print(
      "cell tool fuzz: seed \(seed), \(runs) files, \(fuzzer.configurations) configurations, "
        + "\(fuzzer.trees) trees, \(Int(rate)) a second")
    #expect(fuzzer.configurations > 50)
    #expect(fuzzer.trees > 10)
  }
}
