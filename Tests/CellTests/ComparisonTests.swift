import CellFormat
import CellPicture
import Foundation
import Testing

@Suite struct ComparisonTests {
  static func compare(_ left: ConfigurationFile, _ right: ConfigurationFile) -> Comparison {
    Comparison(left: ("a.cell", left), right: ("b.cell", right))
  }

  @Test(arguments: 1...60) func aFileIsTheSameAsItself(seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    let file = RandomCells.file(&random)
    let comparison = Self.compare(file, file)
    #expect(comparison.same, "seed \(seed): \(comparison.differences)")
    #expect(comparison.bytesEqual)
  }

  /// Every field of the format, one at a time, in a file that is full of random ones.
  @Test(arguments: [false, true]) func noFieldCanChangeUnseen(isSystem: Bool) throws {
    var random = SeededGenerator(seed: 99)
    var bytes = CellLayoutTests.blank(isSystem: isSystem)
    let fields = CellLayoutTests.fields(isSystem: isSystem)
    for field in fields {
      bytes.replaceSubrange(
        field.offset..<field.offset + field.width, with: random.bytes(field.width))
    }
    let before = try ConfigurationFile(decoding: bytes)
    for field in fields {
      for byte in 0..<field.width {
        var changed = bytes
        changed[field.offset + byte] ^= 1 << UInt8(random.below(8))
        let after = try ConfigurationFile(decoding: changed)
        let comparison = Self.compare(before, after)
        #expect(!comparison.same, "\(field.name), byte \(byte)")
        #expect(!comparison.bytesEqual)
      }
    }
  }

  @Test func orderIsNoDifference() {
    var old = SampleCells.guest
    let before = ConfigurationFile.cell(old)
    old.memoryRegions.swapAt(8, 10)
    old.pciDevices.swapAt(0, 1)
    let comparison = Self.compare(before, .cell(old))
    #expect(comparison.same, "\(comparison.differences)")
    #expect(!comparison.bytesEqual)
    #expect(comparison.text.contains("mean the same"))
  }

  @Test func aMovedLinkIsToldSectionBySection() throws {
    var moved = SampleCells.guest
    moved.memoryRegions[0].physicalStart = 0x5000_0000
    moved.pciDevices[0].sharedMemoryPeers = 1
    let comparison = Self.compare(.cell(SampleCells.guest), .cell(moved))
    let places = comparison.differences.map(\.place)
    #expect(places.contains("link 00:02.0"))
    #expect(places.contains("link 00:02.0, state table"))
    let start = comparison.differences.first { $0.field == "physical start" }
    #expect(start?.left == "0x7fa00000")
    #expect(start?.right == "0x50000000")
    #expect(comparison.text.hasPrefix("a.cell -> b.cell: "))
  }

  @Test func interruptsAreToldAsSPIs() {
    var other = SampleCells.guest
    other.irqchips[0].pinBitmap[0] ^= 1 << 5
    let comparison = Self.compare(.cell(SampleCells.guest), .cell(other))
    #expect(comparison.differences.count == 1)
    #expect(comparison.differences.first?.change == .added)
    #expect(comparison.differences.first?.right == "INTID 37 (SPI 5)")
  }

  @Test func theKeysOfTheJSONAreTheDocumentedOnes() throws {
    var other = SampleCells.guest
    other.cpuSet[0] = 1
    let comparison = Self.compare(.cell(SampleCells.guest), .cell(other))
    let object = try JSONSerialization.jsonObject(with: Data(comparison.json.utf8))
    let document = try #require(object as? [String: Any])
    #expect(Set(document.keys) == ["left", "right", "same", "bytesEqual", "differences"])
    let list = try #require(document["differences"] as? [[String: String]])
    #expect(
      list == [
        ["change": "changed", "place": "file", "field": "CPUs", "left": "2-3", "right": "0"]
      ])
  }
}
