import Foundation
import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioBlock
import VirtioDevice

@testable import SiemensDialect

/// The start-up traces that were published and seen (facts: siemens-dialect, section 4), register
/// by register.
@Suite struct TraceTests {
  static func trace(_ pairs: [(Int, UInt64)]) -> [RegisterWrite] {
    pairs.map { RegisterWrite($0.0, $0.1) }
  }

  static let start: [(Int, UInt64)] = [
    (0x44, 0), (0x44, 1), (0x44, 3), (0x10, 1), (0x10, 0), (0x18, 1), (0x14, 0x13), (0x18, 0),
  ]

  @Test(arguments: [1, 2])
  func blockStartUpIsThePublishedTrace(vectors: Int) throws {
    let rig = try SiemensRig(vectors: vectors)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    let vector: UInt64 = vectors == 1 ? 0 : 1
    let expected: [(Int, UInt64)] =
      Self.start + [
        (0x14, 0x206), (0x44, 0xb), (0x1c, 0), (0x20, 8), (0x24, vector), (0x28, 0x200),
        (0x30, 0x280), (0x38, 0x2c0), (0x26, 1), (0x44, 0xf),
      ]
    #expect(rig.driver.writes == Self.trace(expected))
    #expect(rig.counters.refusals == 0)
    #expect(rig.counters.strayTransactions == 0)
    #expect(rig.counters.transactions == UInt64(expected.count))
    #expect(rig.driver.rings[0].deviceVector == (vectors == 1 ? 0 : 1))
    // No interrupt that the published back-end would not have raised.
    #expect(rig.driver.configurationChanges == 0)
    #expect(rig.driver.read(sector: 3))
    #expect(rig.run(until: 1))
    #expect(rig.driver.rings[0].finished[0].result.last == 0)
  }

  @Test func theReferenceLimitsOfABlockDeviceAreShown() throws {
    // R/W 0x1ff000 is the published example: size_max 258048, seg_max 1 there; here segments of
    // 64 KiB that together take no more.
    let small = try SiemensRig(readWriteSize: 0xd_f000)
    try small.startBackend()
    let base = small.link.geometry.readWrite.lowerBound + 0x4c
    let region = small.link.region
    #expect(region.load32(base + 8) == 0xdf000 / 8 & ~4095)
    #expect(region.load32(base + 12) == 1)
    let large = try SiemensRig(readWriteSize: 0x1f_f000)
    try large.startBackend()
    let sizeMax = large.link.region.load32(base + 8)
    let segments = large.link.region.load32(base + 12)
    #expect(sizeMax * segments <= 258048)
    #expect(sizeMax * segments > 258048 / 2)
  }

  /// docs/siemens.md against the code: every row of the table, and every test it names.
  @Test func thePageAgrees() throws {
    let root = URL(fileURLWithPath: #filePath)
      .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    let page = try String(
      contentsOf: root.appendingPathComponent("docs/siemens.md"), encoding: .utf8)
    var rows: [Int: String] = [:]
    var isInside = false
    for line in page.components(separatedBy: "\n") {
      if line == "<!-- table: SiemensHeader -->" { isInside = true }
      if isInside, line.isEmpty { break }
      let cells = line.components(separatedBy: "|").map { $0.trimmingCharacters(in: .whitespaces) }
      guard isInside, cells.count > 2, cells[1].hasSuffix("h") else { continue }
      rows[Int(cells[1].dropLast(), radix: 16) ?? -1] = cells[2]
    }
    #expect(rows.count == 19)
    for offset in 0..<0x60 {
      #expect(rows[offset] == SiemensHeader.Field(rawValue: offset).map { "\($0)" })
    }
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let tests = try FileManager.default.contentsOfDirectory(
      at: folder, includingPropertiesForKeys: nil
    ).map { try String(contentsOf: $0, encoding: .utf8) }.joined()
    let defects = page.components(separatedBy: "held by |").last ?? ""
    let named = defects.components(separatedBy: "`").filter {
      $0.hasPrefix("f") || $0.hasPrefix("a") || $0.hasPrefix("i") || $0.hasPrefix("r")
    }.filter { !$0.contains(" ") && $0.count > 20 }
    #expect(named.count >= 17)
    for name in named { #expect(tests.contains("func \(name)("), "no test \(name)") }
  }
}
