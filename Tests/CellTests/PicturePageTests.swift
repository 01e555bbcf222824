import CellFormat
import CellPicture
import Foundation
import Testing

/// The pictures of docs/cell-tool.md are what the tool draws today. After a change,
/// `CELLMATE_WRITE_PICTURES=1 swift test --filter PicturePageTests` writes them again.
@Suite struct PicturePageTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func compare(
    _ cells: [(name: String, file: ConfigurationFile)], with name: String
  ) throws {
    let file = root.appendingPathComponent("docs").appendingPathComponent(name)
    let drawn = MemoryMap.svg(cells: cells)
    if ProcessInfo.processInfo.environment["CELLMATE_WRITE_PICTURES"] != nil {
      try drawn.write(to: file, atomically: true, encoding: .utf8)
    }
    let isSame = try String(contentsOf: file, encoding: .utf8) == drawn
    #expect(isSame, "\(name) is not what show --svg draws; write it again")
  }

  @Test func aBoardWithoutConflicts() throws {
    let folder = Self.root.appendingPathComponent("cell-configs/imx8mp")
    let names = ["imx8mp.cell", "imx8mp-linux.cell", "imx8mp-inmate.cell"]
    try Self.compare(
      names.map { name in
        let bytes = [UInt8](try Data(contentsOf: folder.appendingPathComponent(name)))
        return (name, try ConfigurationFile(decoding: bytes))
      }, with: "memory-map.svg")
  }

  /// Two of the defects that ship: the demo link on the block link, a guest inside another's RAM.
  @Test func aBoardWithConflicts() throws {
    let board = ShippedFigures.imx8mm
    var system = board.system()
    system.root.rootCell.nameBytes = TestSystem.name("imx8mm")
    system.bare.nameBytes = TestSystem.name("inmate-demo")
    system.bare.memoryRegions[1].physicalStart = 0xb3c0_0000
    system.bare.memoryRegions.replaceSubrange(
      3..<8, with: TestSystem.native(id: 1, at: board.block, isRoot: false))
    try Self.compare(
      [
        ("imx8mm.cell", .system(system.root)), ("imx8mm-linux-demo.cell", .cell(system.linux)),
        ("imx8mm-inmate-demo.cell", .cell(system.bare)),
      ], with: "memory-map-conflicts.svg")
  }
}
