import CellCheck
import CellFormat
import Testing

/// Trees of guests, one deviation at a time: what is refused, and what is not.
@Suite struct GuestTreeTests {
  static func findings(_ change: (inout TestSystem) -> Void) throws -> [Finding] {
    var system = TestSystem()
    system.addTrees()
    change(&system)
    return check(try system.set())
  }

  static func bus(_ change: (inout TestNode) -> Void) throws -> [Finding] {
    try findings { system in
      var node = system.linuxTree?["pci@7000000"] ?? TestNode("")
      change(&node)
      system.linuxTree?["pci@7000000"] = node
    }
  }

  @Test func everyFaultOfTheBusNodeIsNamed() throws {
    let faults: [(String, String, (inout TestNode) -> Void)] = [
      ("E32", "reg 0x8e00000", { $0.cells("reg", wide(0x08e0_0000) + wide(0x10_0000)) }),
      ("E32", "reg 0x7000000, 0x200000", { $0.cells("reg", wide(0x0700_0000) + wide(0x20_0000)) }),
      ("E32", "#size-cells is 1", { $0.cells("#size-cells", [1]) }),
      ("E32", "#interrupt-cells is missing", { $0.remove("#interrupt-cells") }),
      ("E32", "interrupt-map-mask", { $0.cells("interrupt-map-mask", [0xf800, 0, 0, 7]) }),
      ("E32", "interrupt-map is missing", { $0.remove("interrupt-map") }),
      ("E32", "trigger 4", { $0.cells("interrupt-map", Self.map(trigger: 4)) }),
      ("E32", "pin 1 is PPI 108", { $0.cells("interrupt-map", Self.map(kind: 1)) }),
      ("E32", "does not divide", { $0.cells("interrupt-map", Array(Self.map().dropLast())) }),
      ("E32", "no 32-bit memory window", { $0.remove("ranges") }),
      ("E32", "no enabled pci-host-ecam-generic", { $0.text("status", "disabled") }),
      (
        "E30", "overlaps memory region",
        { $0.cells("ranges", [0x0200_0000, 0, 0x7000_0000, 0, 0x7000_0000, 0, 0x1_0000]) }
      ),
    ]
    for (rule, words, change) in faults {
      let found = try Self.bus(change)
      #expect(Set(found.map(\.rule)) == [rule], "\(words): \(found.map(\.text))")
      #expect(found.contains { $0.message.contains(words) }, "\(words): \(found.map(\.text))")
      #expect(found.allSatisfy { $0.file == "linux.dtb" })
    }
  }

  static func map(kind: UInt32 = 0, trigger: UInt32 = 1) -> [UInt32] {
    (0..<4).flatMap { [0, 0, 0, $0 + 1, 1, kind, 108 + $0, trigger] }
  }

  @Test func aParentWithAddressCellsNeedsThemInTheMap() throws {
    let gic = "interrupt-controller@8000000"
    let found = try Self.findings { $0.linuxTree?[gic].cells("#address-cells", [2]) }
    #expect(Set(found.map(\.rule)) == ["E32"])
    let mended = try Self.findings { system in
      system.linuxTree?[gic].cells("#address-cells", [2])
      system.linuxTree?["pci@7000000"].cells(
        "interrupt-map",
        (0..<4).flatMap { [0, 0, 0, $0 + 1, 1, 0, 0, 0, 108 + $0, 1] as [UInt32] })
    }
    #expect(mended == [])
  }

  @Test func aPhysicalBusKeepsItsOwnPins() throws {
    let found = try Self.findings { system in
      system.root.pciIsVirtual = 0
      system.linuxTree?["pci@7000000"].cells("interrupt-map-mask", [0xf800, 0, 0, 7])
      system.linuxTree?["pci@7000000"].cells("interrupt-map", Self.map(trigger: 4))
    }
    #expect(found.filter { $0.rule == "E32" } == [])
  }

  @Test func theTreeMayBeginWithTheRedistributorOfItsFirstCPU() throws {
    let gic = "interrupt-controller@8000000"
    func from(_ start: UInt64) throws -> [String] {
      try Self.findings { system in
        system.linuxTree?[gic].cells(
          "reg", wide(0x0800_0000) + wide(0x1_0000) + wide(start) + wide(0x4_0000))
      }.map(\.rule)
    }
    // The guest's first CPU is CPU 2.
    #expect(try from(0x080a_0000 + 2 * 0x2_0000) == [])
    #expect(try from(0x080a_0000 + 3 * 0x2_0000) == ["E36"])
  }

  @Test func largePagesNeedLargeSectionsAndWindows() throws {
    var system = TestSystem()
    system.addTrees()
    var set = try system.set()
    set.pageSize = 0x1_0000
    let found = check(set)
    #expect(Set(found.map(\.rule)) == ["E15", "E32"])
    #expect(found.contains { $0.message.contains("multiples of 0x10000") })
    #expect(found.contains { $0.message.contains("0x10000 bytes for 2 device(s)") })
  }

  @Test func aCPUSetLargerThanAPageIsRefused() throws {
    let found = try Self.findings { system in
      system.bare.cpuSet += Array(repeating: 0, count: 4096)
    }
    #expect(found.map(\.rule) == ["E53"])
  }

  @Test func namesCannotCommandTheTerminal() throws {
    let found = try Self.findings { system in
      system.linux.nameBytes = TestSystem.name("linux\u{1b}[2J")
      system.bare.cpuSet[0] = 0x4
    }
    #expect(found.map(\.rule) == ["E53"])
    #expect(found.allSatisfy { !$0.text.contains("\u{1b}") })
  }
}
