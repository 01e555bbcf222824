import CellFormat
import Foundation
import Testing

/// Damaged files: never a crash, and what is accepted encodes to the very bytes that were read.
/// `CELLMATE_FUZZ_SECONDS` makes it longer, `CELLMATE_FUZZ_SEED` repeats a run.
@Suite struct CellFuzzTests {
  static func environment(_ name: String) -> String? {
    ProcessInfo.processInfo.environment[name]
  }

  static func damage(_ bytes: [UInt8], _ random: inout SeededGenerator) -> [UInt8] {
    var bytes = bytes
    for _ in 0...random.below(4) where !bytes.isEmpty {
      let at = random.below(bytes.count)
      switch random.below(8) {
      case 0: bytes[at] = random.word()
      case 1: bytes[at] ^= 1 << UInt8(random.below(8))
      case 2: bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)]
      case 3:
        // A count of the header, often close to what fits.
        let word = [0x30, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x48, 0x4c][random.below(8)]
        let offset = word + (random.below(2) == 0 ? 0 : 0x164)
        if offset + 4 <= bytes.count {
          let value: UInt64 = random.below(3) == 0 ? random.word() : UInt64(random.below(12))
          CellLayoutTests.put(value, 4, at: offset, in: &bytes)
        }
      case 4: bytes.removeSubrange(at..<min(bytes.count, at + 1 + random.below(40)))
      case 5: bytes.insert(contentsOf: random.bytes(1 + random.below(40)), at: at)
      case 6: bytes = Array(bytes.prefix(at))
      default:
        let end = min(bytes.count, at + 8)
        for position in at..<end { bytes[position] = 0xff }
      }
    }
    return bytes
  }

  @Test func damagedFilesNeverCrashAndAcceptedOnesAreKept() throws {
    let seconds = Double(Self.environment("CELLMATE_FUZZ_SECONDS") ?? "") ?? 0
    let seed = UInt64(Self.environment("CELLMATE_FUZZ_SEED") ?? "") ?? 1
    var random = SeededGenerator(seed: seed)
    let start = Date()
    var runs = 0
    var accepted = 0
    repeat {
      let whole = RandomCells.file(&random).encoded()
      for _ in 0..<50 {
        let bytes = Self.damage(whole, &random)
        runs += 1
        do {
          let file = try ConfigurationFile(decoding: bytes)
          accepted += 1
          if file.encoded() != bytes {
            Issue.record("seed \(seed), run \(runs): accepted, but encoded otherwise: \(bytes)")
          }
        } catch {
          let isSane = error.offset >= 0 && error.offset <= bytes.count && !error.message.isEmpty
          if !isSane { Issue.record("seed \(seed), run \(runs): \(error)") }
        }
      }
    } while runs < 4000 || Date().timeIntervalSince(start) < seconds
    #expect(accepted > runs / 100)
    let rate = Double(runs) / Date().timeIntervalSince(start)
    print(
      "cell format fuzz: seed \(seed), \(runs) files, \(accepted) accepted, \(Int(rate)) a second")
  }
}
