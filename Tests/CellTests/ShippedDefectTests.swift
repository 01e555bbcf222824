import CellCheck
import CellFormat
import Testing

/// The defects that were found in configurations that ship, as regression cases: each has to be
/// found by the rules it breaks and by no other. Built from published figures.
@Suite struct ShippedDefectTests {
  static func rules(_ system: TestSystem) throws -> Set<String> {
    Set(check(try system.set()).map(\.rule))
  }

  static func rules(
    _ board: ShippedFigures = .imx8mm, _ inject: (inout TestSystem) -> Void
  ) throws -> Set<String> {
    var system = board.system()
    inject(&system)
    return try rules(system)
  }

  @Test func boardsWithoutTheDefectsAreClean() throws {
    for board in [ShippedFigures.imx8mm, .imx8mn, .imx93] {
      #expect(check(try board.system().set()) == [])
    }
  }

  @Test func d1PeersOfABareInmate() throws {
    #expect(
      try Self.rules { $0.bare.pciDevices[0].sharedMemoryPeers = 1 } == ["E10", "E11"])
  }

  @Test func d2DemoLinkLeftBehind() throws {
    for board in [ShippedFigures.imx8mm, .imx93] {
      let rules = try Self.rules(board) { system in
        let sections = TestSystem.native(id: 1, at: board.block, isRoot: false)
        system.bare.memoryRegions.replaceSubrange(3..<8, with: sections)
      }
      #expect(rules == ["E13", "E51"])
    }
  }

  @Test func d3ClashingInterrupts() throws {
    func clash(_ board: ShippedFigures, linux: UInt32?, inmate: UInt32) throws -> Set<String> {
      try Self.rules(board) { system in
        system.bare.vpciIRQBase = inmate
        system.bare.irqchips = board.chips([Int(inmate)])
        guard let linux else { return }
        system.linux.vpciIRQBase = linux
        system.linux.irqchips = board.chips((0..<4).map { Int(linux) + $0 })
      }
    }
    #expect(try clash(.imx8mm, linux: nil, inmate: 76) == ["E21"])
    #expect(try clash(.imx8mn, linux: nil, inmate: 124) == [])
    // INTB of the root cell: only a link of the root cell on device 1 makes it a clash.
    var board = ShippedFigures.imx8mn
    board.rootSPI = 122
    #expect(try clash(board, linux: nil, inmate: 124) == ["E21"])
    #expect(try clash(.imx93, linux: 227, inmate: 226) == ["E21"])
  }

  @Test func d4InterruptNotOwned() throws {
    let board = ShippedFigures.imx8mm
    #expect(
      try Self.rules { system in
        system.linux.vpciIRQBase = 70
        system.linux.irqchips = board.chips([90, 91, 92, 93])
      } == ["E20"])
    #expect(
      try Self.rules { $0.linux.irqchips = board.chips([24, 29, 74]) } == ["E20"])
  }

  @Test func d5TreeAgainstCell() throws {
    var system = TestSystem()
    system.addTrees()
    system.linuxTree?["pci@7000000"] = TestTrees.pci(base: 0x0700_0000, firstSPI: 76)
    #expect(try Self.rules(system) == ["E32"])
    system.linuxTree?["pci@7000000"] = TestTrees.pci(base: 0x0700_0000, firstSPI: 108)
    system.linuxTree?["pci@7000000"].cells(
      "interrupt-map",
      zip([1, 2, 3, 4] as [UInt32], [108, 109, 110, 115] as [UInt32]).flatMap {
        [0, 0, 0, $0, 1, 0, $1, 1]
      })
    let findings = check(try system.set())
    #expect(findings.map(\.rule) == ["E32"])
    #expect(findings[0].message.contains("pin 4 is SPI 115, expected SPI 111"))
  }

  @Test func d6SectionsAndRights() throws {
    // One end with peers 1, id 2, and the outputs 1 and 2 writable.
    #expect(
      try Self.rules { system in
        system.linux.pciDevices[1].sharedMemoryPeers = 1
        system.linux.memoryRegions[7].flags.insert(.write)
      } == ["E10", "E11", "E16"])
    // Output 1 not writable for id 1, output 2 writable and elsewhere.
    #expect(
      try Self.rules { system in
        system.bare.memoryRegions[6].flags.remove(.write)
        system.bare.memoryRegions[7].flags.insert(.write)
        system.bare.memoryRegions[7].virtualStart = 0x3020_0000
      } == ["E14", "E16"])
    // A gap in front of output 1, in all cells.
    #expect(
      try Self.rules { system in
        for number in 7..<9 {
          system.root.rootCell.memoryRegions[number].physicalStart += 0xf000
          system.root.rootCell.memoryRegions[number].virtualStart += 0xf000
          system.linux.memoryRegions[number].physicalStart += 0xf000
          system.linux.memoryRegions[number].virtualStart += 0xf000
          system.bare.memoryRegions[number - 1].physicalStart += 0xf000
          system.bare.memoryRegions[number - 1].virtualStart += 0xf000
        }
      } == ["E14"])
  }

  @Test func d7SecondBankWithoutDMA() throws {
    let bank = TestSystem.region(
      0x1_0000_0000, 0x1_c000_0000, [.read, .write, .execute, .loadable])
    #expect(
      try Self.rules { system in
        system.root.rootCell.memoryRegions.append(
          TestSystem.region(0x1_0000_0000, 0x3_8000_0000, [.read, .write, .execute]))
        system.linux.memoryRegions.append(bank)
      } == ["E54"])
  }

  @Test func d8BareInmateInsideLinux() throws {
    #expect(
      try Self.rules { system in
        system.bare.memoryRegions[1].physicalStart = 0xb3c0_0000
        system.bare.cpuSet[0] = 8
      } == ["E51", "E53"])
  }

  @Test func d9NoInterruptBase() throws {
    #expect(
      try Self.rules { system in
        system.root.rootCell.vpciIRQBase = 0
        system.linux.vpciIRQBase = 0
      } == ["E27"])
    // The board that ships so has a physical bus with MSI, where the base is not used.
    #expect(
      try Self.rules { system in
        system.root.pciIsVirtual = 0
        system.root.rootCell.vpciIRQBase = 0
        for index in 0..<2 { system.root.rootCell.pciDevices[index].msixVectorCount = 2 }
      } == [])
  }

  @Test func d10LinkUnderTwoNames() throws {
    #expect(try Self.rules { $0.linux.pciDevices[0].bdf = 3 << 3 } == ["E42"])
  }

  @Test func d11InmateInsideALink() throws {
    #expect(
      try Self.rules { $0.bare.memoryRegions[1].physicalStart = 0xbba8_0000 } == ["E51"])
  }

  @Test func d12MemoryThatTheRootDoesNotHave() throws {
    #expect(
      try Self.rules { system in
        system.bare.memoryRegions.append(
          TestSystem.region(0xe101_0000, 0x1_0000, [.read, .write, .io]))
      } == ["E50"])
    #expect(
      try Self.rules { system in
        system.root.rootCell.memoryRegions[9].size = 0x30a6_0020
        system.root.rootCell.memoryRegions[9].flags.insert(.io32)
      } == ["E50"])
  }

  @Test func d13Alternatives() throws {
    var system = ShippedFigures.imx8mm.system()
    var other = system.linux
    other.nameBytes = TestSystem.name("zephyr")
    system.more = [.cell(other)]
    #expect(try Self.rules(system) == ["E10", "E21", "E51", "E53"])
    system.alternatives = [["linux", "zephyr"]]
    #expect(try Self.rules(system) == [])
  }
}
