import CLinux
import Foundation
import FuzzTargets
import LinuxSupport
import Testing
import VhostUser

@Suite struct HostileVMMTests {
  static var environment: [String: String] { ProcessInfo.processInfo.environment }
  static var fuzzSeconds: Double { Double(environment["CELLMATE_FUZZ_SECONDS"] ?? "") ?? 0 }

  static func seeds() -> [UInt64] {
    let first = UInt64(environment["CELLMATE_FUZZ_SEED"] ?? "") ?? 1
    return Array(first..<first + 4)
  }

  /// Inputs that found something once, or that reach a corner: kept as files.
  static func corpus() -> [URL] {
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .appendingPathComponent("../../Fuzz/corpus/vhost-user").standardizedFileURL
    let files = try? FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil)
    return (files ?? []).sorted { $0.path < $1.path }
  }

  /// A VMM that sends anything, stores anything and cuts its memory off: no trap, no hang.
  @Test(arguments: seeds())
  func aHostileVMMHurtsNobody(seed: UInt64) throws {
    let fuzzer = try VhostUserFuzzer()
    let end = Date().addingTimeInterval(Self.fuzzSeconds / 4)
    var run = seed
    var runs = 0
    repeat {
      var dice = VhostDice(state: run)
      var bytes = (0..<600).map { _ in UInt8(truncatingIfNeeded: dice.next()) }
      // Most runs begin with an honest set-up, or they would not get far.
      if dice.below(4) > 0 { bytes.insert(contentsOf: [5, 6, 0, 0, 6, 1, 0], at: 0) }
      fuzzer.run(bytes)
      run += 1000
      runs += 1
    } while Date() < end || runs < 150
    #expect(fuzzer.messages > 0 && fuzzer.violations > 0)
    if Self.fuzzSeconds > 0 { print("vhost-user: \(runs) runs, \(fuzzer.messages) messages") }
  }

  @Test(arguments: corpus())
  func theCorpusHurtsNobody(file: URL) throws {
    let fuzzer = try VhostUserFuzzer()
    fuzzer.run([UInt8](try Data(contentsOf: file)))
  }

  @Test func thereIsACorpus() { #expect(Self.corpus().count >= 3) }
}
