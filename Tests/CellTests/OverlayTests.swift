import CellGenerate
import Foundation
import Testing

/// The overlay for the root cell's tree, applied by libfdt's own tool.
@Suite("CellTests: root overlay", .enabled(if: Compiler.find("fdtoverlay") != nil))
struct OverlayTests {
  /// Trees as boards have them: with reservations, and without the node.
  static let bases = [
    "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>; };",
    """
    /dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
      reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges;
        linux,cma { compatible = "shared-dma-pool"; reusable; size = <0 0x3c000000>; };
        ocram@900000 { no-map; reg = <0 0x900000 0 0x70000>; };
      };
    };
    """,
  ]

  @Test(
    "it applies, and then everything but the virtual PCI is reserved", arguments: Repository.boards)
  func overlaysApply(board: String) throws {
    let generation = try Repository.generate(board)
    let layout = generation.layout
    for base in Self.bases {
      try withFolder { folder in
        let compiled = try Compiler.run("dtc", ["-O", "dtb", "-"], input: Array(base.utf8))
        try Data(compiled.output).write(to: folder + "/base.dtb")
        let overlay = try #require(generation.artefacts.first { $0.name.hasSuffix(".dtbo") })
        try Data(overlay.bytes).write(to: folder + "/root.dtbo")
        let applied = try Compiler.run(
          "fdtoverlay",
          ["-i", folder + "/base.dtb", "-o", folder + "/out.dtb", folder + "/root.dtbo"], input: [])
        #expect(applied.errors == "")
        let back = try Compiler.run(
          "dtc", ["-I", "dtb", "-O", "dts", folder + "/out.dtb"], input: [])
        #expect(back.errors == "")
        let text = String(decoding: back.output, as: UTF8.self)
        #expect(text.contains("linux,cma") == base.contains("linux,cma"))
        let expected =
          [layout.board.hypervisor, layout.board.loaderWindow] + layout.board.sharedWindows
          + layout.board.guestWindows
        for span in expected {
          let cells = [span.start >> 32, span.start & 0xffff_ffff, span.size >> 32, span.size]
          #expect(text.contains("reg = <" + cells.map(asCell).joined(separator: " ") + ">;"))
        }
        let ecam = "@" + String(layout.board.ecam, radix: 16)
        #expect(!text.contains(ecam + " {"))
      }
    }
  }

  /// As dtc prints a cell.
  private func asCell(_ value: UInt64) -> String {
    let digits = String(value & 0xffff_ffff, radix: 16)
    return "0x" + (digits.count < 2 ? "0" : "") + digits
  }
}
