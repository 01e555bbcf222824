import CellFormat
import CellPicture
import Foundation
import FoundationXML
import Testing

/// The picture, read back with an XML parser.
@Suite struct MemoryMapTests {
  struct Rectangle {
    let classes: [String]
    let column: String?
    let region: String?
    let x: Int
    let y: Int
    let width: Int
    let height: Int
  }

  final class Reader: NSObject, XMLParserDelegate {
    var rectangles: [Rectangle] = []
    var bridges: [[String: String]] = []
    var names: Set<String> = []
    var texts: [String] = []
    private var isText = false

    func parser(
      _ parser: XMLParser, didStartElement name: String, namespaceURI: String?,
      qualifiedName: String?, attributes: [String: String]
    ) {
      names.insert(name)
      isText = name == "text"
      if isText { texts.append("") }
      if name == "path" { bridges.append(attributes) }
      guard name == "rect", let style = attributes["class"] else { return }
      func number(_ key: String) -> Int { Int(attributes[key] ?? "") ?? -1 }
      rectangles.append(
        Rectangle(
          classes: style.split(separator: " ").map(String.init),
          column: attributes["data-column"], region: attributes["data-region"], x: number("x"),
          y: number("y"), width: number("width"), height: number("height")))
    }

    func parser(_ parser: XMLParser, foundCharacters characters: String) {
      if isText { texts[texts.count - 1] += characters }
    }

    func parser(
      _ parser: XMLParser, didEndElement name: String, namespaceURI: String?, qualifiedName: String?
    ) {
      isText = false
    }
  }

  static func read(_ cells: [(name: String, file: ConfigurationFile)]) -> (Reader, String) {
    let svg = MemoryMap.svg(cells: cells)
    let reader = Reader()
    let parser = XMLParser(data: Data(svg.utf8))
    parser.delegate = reader
    let isWellFormed = parser.parse()
    #expect(isWellFormed, "\(parser.parserError.map { "\($0)" } ?? "")")
    return (reader, svg)
  }

  static func checkBoxes(_ reader: Reader, seed: Int = 0) {
    let boxes = reader.rectangles.filter { $0.classes.contains("region") }
    for box in boxes {
      #expect(box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0, "seed \(seed)")
    }
    for column in Set(boxes.compactMap(\.column)) {
      let own = boxes.filter { $0.column == column }
      for (index, one) in own.enumerated() {
        for other in own[(index + 1)...] {
          let isApart =
            one.x + one.width <= other.x || other.x + other.width <= one.x
            || one.y + one.height <= other.y || other.y + other.height <= one.y
          #expect(isApart, "seed \(seed): \(one) and \(other)")
        }
      }
    }
  }

  @Test func everyRegionHasABoxAndNothingIsRed() {
    let (reader, svg) = Self.read(SampleCells.pair)
    Self.checkBoxes(reader)
    let boxes = reader.rectangles.filter { $0.classes.contains("region") }
    for (column, cell) in [("1", SampleCells.root.rootCell), ("2", SampleCells.guest)] {
      let drawn = Set(boxes.filter { $0.column == column }.compactMap(\.region))
      let wanted = Set(
        cell.memoryRegions.indices.filter { cell.memoryRegions[$0].size > 0 }.map { "\($0)" })
      #expect(drawn == wanted)
    }
    #expect(boxes.filter { $0.column == "0" }.count == 5)
    #expect(!reader.rectangles.contains { $0.classes == ["conflict"] })
    #expect(reader.rectangles.contains { $0.classes == ["lent"] })
    #expect(reader.bridges.map { $0["data-bdf"] } == ["00:02.0", "00:01.0"])
    #expect(reader.bridges.allSatisfy { $0["class"]?.contains("bad") == false })
    for text in ["root", "guest", "0x7fa00000", "virtio block", "network (veth)", "892 KiB"] {
      #expect(reader.texts.contains(text), "\(text)")
    }
    #expect(svg.contains("prefers-color-scheme:dark"))
  }

  @Test func nothingIsFetchedFromElsewhere() {
    let (reader, svg) = Self.read(SampleCells.pair)
    #expect(reader.names.isDisjoint(with: ["image", "script", "use", "a", "foreignObject"]))
    #expect(!svg.contains("href") && !svg.contains("@import"))
    #expect(svg.replacing("http://www.w3.org/2000/svg", with: "").contains("http") == false)
    #expect(!svg.contains("nan") && !svg.contains("NaN") && !svg.contains("inf\""))
  }

  @Test func whatIsClaimedTwiceIsRed() {
    var guest = SampleCells.guest
    guest.memoryRegions[10] = SampleCells.region(
      0x7f00_0000, 0xa1_0000, [.read, .write, .execute, .dma])
    let (reader, _) = Self.read([
      SampleCells.pair[0], ("guest.cell", .cell(guest)),
    ])
    Self.checkBoxes(reader)
    let red = reader.rectangles.filter { $0.classes == ["conflict"] && $0.column != nil }
    // With the root's sections at 7fa00000, and with its own loader and sections.
    #expect(red.contains { $0.column == "1" })
    #expect(red.contains { $0.column == "2" })
    #expect(reader.texts.contains { $0.contains("both claim 0x7fa00000-0x7fa0ffff") })
  }

  @Test func theHypervisorAndTheVirtualBusAreGuarded() {
    for start in [0x7fc0_0000, 0x0700_0000, 0x0800_0000, 0x0710_1000] as [UInt64] {
      var guest = SampleCells.guest
      guest.memoryRegions.append(SampleCells.region(start, 0x1000, [.read, .write]))
      let (reader, _) = Self.read([SampleCells.pair[0], ("guest.cell", .cell(guest))])
      #expect(
        reader.rectangles.contains { $0.classes == ["conflict"] && $0.column == "0" },
        "\(String(start, radix: 16))")
    }
  }

  @Test func aLinkAtOtherAddressesIsABrokenBridge() {
    var guest = SampleCells.guest
    for index in 0..<2 {
      guest.memoryRegions[index].physicalStart -= 0x10_0000
      guest.memoryRegions[index].virtualStart -= 0x10_0000
    }
    let (reader, _) = Self.read([SampleCells.pair[0], ("guest.cell", .cell(guest))])
    let broken = reader.bridges.filter { $0["class"]?.contains("badbridge") == true }
    #expect(broken.map { $0["data-bdf"] } == ["00:02.0"])
    #expect(reader.texts.contains("addresses differ"))
  }

  @Test(arguments: 1...60) func anyConfigurationCanBeDrawn(seed: Int) {
    var random = SeededGenerator(seed: UInt64(seed))
    let files = (0..<3).map { (name: "f\($0)\u{7}<&>", file: RandomCells.file(&random)) }
    let (reader, svg) = Self.read(files)
    Self.checkBoxes(reader, seed: seed)
    #expect(!svg.contains("NaN"))
  }

  @Test func nothingAtAllIsStillAPicture() {
    _ = Self.read([])
    let (reader, _) = Self.read([("empty.cell", .cell(CellConfiguration()))])
    #expect(reader.names.contains("svg"))
  }
}
