import Foundation
import FuzzTargets
import Testing

/// What the fuzzers found once, and what they find from seeds: every input is played by every
/// test run.
@Suite struct CorpusTests {
  static var environment: [String: String] { ProcessInfo.processInfo.environment }
  static var fuzzSeconds: Double { Double(environment["CELLMATE_FUZZ_SECONDS"] ?? "") ?? 0 }
  static var firstSeed: UInt64 { UInt64(environment["CELLMATE_FUZZ_SEED"] ?? "") ?? 1 }

  /// vhost-user has tests of its own.
  static let targets = FuzzTarget.allCases.filter { $0 != .vhostUser }

  static func corpus(_ target: FuzzTarget) -> [URL] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Fuzz/corpus/\(target.rawValue)").standardizedFileURL
    let files = try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    return (files ?? []).sorted { $0.path < $1.path }
  }

  struct Entry: Sendable, CustomStringConvertible {
    let target: FuzzTarget
    let file: URL
    var description: String { "\(target.rawValue)/\(file.lastPathComponent)" }
  }

  static let entries = targets.flatMap { target in
    corpus(target).map { Entry(target: target, file: $0) }
  }

  @Test(arguments: entries)
  func theCorpusHurtsNobody(entry: Entry) throws {
    try FuzzPlayer(entry.target).run([UInt8](try Data(contentsOf: entry.file)))
  }

  @Test(arguments: targets)
  func thereIsACorpus(target: FuzzTarget) {
    let count = Self.corpus(target).count
    #expect(count >= 5 && count < 200)
  }

  /// A back-end whose lies end every set-up would show nothing about a driver at work.
  @Test(arguments: [DriverFuzzer.Kind.block, .console, .entropy, .network])
  func driversGetFar(kind: DriverFuzzer.Kind) throws {
    let fuzzer = try DriverFuzzer(kind)
    for seed in UInt64(1)...30 {
      try fuzzer.run(FuzzPlayer.randomInput(kind.target, seed: seed))
    }
    #expect(fuzzer.connections > 60)
    #expect(fuzzer.bytes > 10_000)
    #expect(fuzzer.violations > 60)
  }

  @Test(arguments: targets)
  func aHostilePeerHurtsNobody(target: FuzzTarget) throws {
    let player = try FuzzPlayer(target)
    let end = Date().addingTimeInterval(Self.fuzzSeconds / Double(Self.targets.count))
    var seed = Self.firstSeed
    // A run of a driver sets its device up several times.
    let least: UInt64 = [.blockDriver, .console, .entropy, .netDriver].contains(target) ? 40 : 150
    repeat {
      do {
        try player.run(FuzzPlayer.randomInput(target, seed: seed))
      } catch {
        Issue.record("\(target.rawValue), seed \(seed): \(error)")
        return
      }
      seed += 1
    } while Date() < end || seed < Self.firstSeed + least
    if Self.fuzzSeconds > 0 {
      print("\(target.rawValue): \(seed - Self.firstSeed) runs, \(player.summary)")
    }
  }
}
