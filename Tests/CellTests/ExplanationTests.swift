import CellFormat
import CellPicture
import Foundation
import Testing

@Suite struct ExplanationTests {
  static func document(
    _ files: [(name: String, file: ConfigurationFile)]
  ) throws -> [[String: Any]] {
    let data = Data(Explanation.json(of: Explanation.all(of: files)).utf8)
    let document = try JSONSerialization.jsonObject(with: data) as? [String: Any]
    return try #require(document?["files"] as? [[String: Any]])
  }

  @Test func textNamesWhatAPersonAsksFor() {
    let text = Explanation.all(of: SampleCells.pair)[1].text
    for line in [
      "guest.cell: Guest cell \"guest\"", "for arm64, format revision 14", "CPUs  ", "2-3",
      "flag PASSIVE_COMMREG", "link 00:02.0 state table", "READ WRITE IO ROOTSHARED",
      "LOADABLE     the root may write it to load the cell",
      "RAM for Linux (READ WRITE EXECUTE DMA): 128 MiB", "SPI 1, 108-111 (INTID 33, 140-143)",
      "INTA to INTD are SPI 108-111 (INTID 140-143)",
      "00:02.0  virtio block, front-end (protocol 0x8002), domain 1",
      "INTC, SPI 110 (INTID 142), owned by the cell",
      "root (root.cell), virtio block, back-end, same addresses", "output 1 (own)",
    ] {
      #expect(text.contains(line), "\(line) is missing in:\n\(text)")
    }
    #expect(text.split(separator: "\n").allSatisfy { $0.last != " " })
  }

  @Test func whatDoesNotFitIsShouted() {
    var guest = SampleCells.guest
    guest.vpciIRQBase = 40
    guest.memoryRegions[0].physicalStart += 0x1000
    guest.pciDevices[1].sharedMemoryStart = 11
    let files = [SampleCells.pair[0], ("guest.cell", ConfigurationFile.cell(guest))]
    let text = Explanation.all(of: files)[1].text
    #expect(text.contains("SPI 42 (INTID 74), NOT owned by the cell"))
    #expect(text.contains("OTHER ADDRESSES"))
    #expect(text.contains("1 of 4 sections exist"))
  }

  @Test func theKeysOfTheJSONAreTheDocumentedOnes() throws {
    let files = try Self.document(SampleCells.pair)
    let common: Set<String> = [
      "file", "bytes", "kind", "revision", "architecture", "name", "id", "flags", "cpus",
      "cpuSetBytes", "resetAddress", "messageReplyTimeout", "memory", "linuxMemory", "interrupts",
      "links", "pciDevices", "caches", "ports", "streamIDs",
    ]
    #expect(Set(files[0].keys) == common.union(["system"]))
    #expect(Set(files[1].keys) == common)
    let link = try #require((files[1]["links"] as? [[String: Any]])?.first)
    #expect(
      Set(link.keys) == [
        "bdf", "device", "domain", "protocol", "protocolText", "id", "peerCount", "pin", "spi",
        "interruptID", "ownsInterrupt", "msixVectors", "barMasks", "firstRegion", "isCut",
        "sections", "peers",
      ])
    #expect(link["interruptID"] as? Int == 142)
    #expect(link["ownsInterrupt"] as? Bool == true)
    let section = try #require((link["sections"] as? [[String: Any]])?[1])
    #expect(section["physicalStart"] as? String == "0x7fa01000")
    #expect(section["size"] as? String == "0xdf000")
    #expect(section["sizeText"] as? String == "892 KiB")
  }

  /// Whatever decodes can be explained, compared and drawn.
  @Test(arguments: 1...40) func anyConfigurationCanBeExplained(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let files = [
      (name: "a\u{1}.cell", file: RandomCells.file(&random)),
      (name: "b.cell", file: RandomCells.file(&random)),
    ]
    let explanations = Explanation.all(of: files)
    #expect(explanations.allSatisfy { !$0.text.isEmpty })
    #expect(try Self.document(files).count == 2)
    #expect(!Comparison(left: files[0], right: files[1]).text.isEmpty)
  }
}
