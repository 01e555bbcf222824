import CellFormat

/// The figures of a board as they ship, from which a system without a fault is built; the tests put
/// back, one at a time, what is wrong in the shipped files.
struct ShippedFigures {
  var gicd: UInt64 = 0x3880_0000
  var gicr: UInt64 = 0x3888_0000
  var hypervisor: UInt64 = 0xb7c0_0000
  var mmconfig: UInt64 = 0xbb80_0000
  var rootSPI: UInt32 = 51
  var linuxSPI: UInt32 = 74
  /// Not the shipped 76, which is one of Linux's.
  var inmateSPI: UInt32 = 100
  var block: UInt64 = 0xbba0_0000
  var demo: UInt64 = 0xbbaf_0000
  var registers: [(UInt64, UInt64)] = [(0, 0x3880_0000), (0x3890_0000, 0x0770_0000)]
  var memory: [(UInt64, UInt64)] = [
    (0x4000_0000, 0x73c0_0000), (0xb3c0_0000, 0x0400_0000), (0xb800_0000, 0x0370_0000),
    (0xbb70_0000, 0x10_0000), (0xbe00_0000, 0x0200_0000),
  ]
  var linuxRAM: (UInt64, UInt64) = (0x93c0_0000, 0x2400_0000)
  var loader: UInt64 = 0xbb70_0000
  /// Not the shipped place, which is inside the RAM of Linux.
  var inmateRAM: UInt64 = 0xb800_0000
  var debugUART: UInt64 = 0x3089_0000
  var linuxUART: UInt64 = 0x30a6_0000
  var linuxDevices = [24, 29]

  static let imx8mm = ShippedFigures()

  static let imx8mn: ShippedFigures = {
    var board = ShippedFigures()
    board.rootSPI = 123
    return board
  }()

  static let imx93: ShippedFigures = {
    var board = ShippedFigures()
    board.gicd = 0x4800_0000
    board.gicr = 0x4804_0000
    board.hypervisor = 0xfdc0_0000
    board.mmconfig = 0xfd70_0000
    board.rootSPI = 225
    board.linuxSPI = 200
    board.block = 0xfd90_0000
    board.demo = 0xfd9f_0000
    // As shipped but for the hole: the shipped region covers the interrupt controller (W56).
    board.registers = [(0, 0x4800_0000), (0x4900_0000, 0x3700_0000)]
    board.memory = [
      (0x8000_0000, 0x5000_0000), (0xd000_0000, 0x2d70_0000), (0xfdb0_0000, 0x10_0000),
      (0xfe00_0000, 0x0200_0000),
    ]
    board.linuxRAM = (0xd000_0000, 0x2d70_0000)
    board.loader = 0xfdb0_0000
    board.inmateRAM = 0x8000_0000
    board.debugUART = 0x4438_0000
    board.linuxUART = 0x4439_0000
    board.linuxDevices = [20, 86]
    return board
  }()

  /// The three cells, without a fault.
  func system() -> TestSystem {
    var system = TestSystem()
    system.root.gicdBase = gicd
    system.root.gicrBase = gicr
    system.root.hypervisorMemory.physicalStart = hypervisor
    system.root.mmconfigBase = mmconfig
    system.root.debugConsole.address = debugUART
    system.root.rootCell.vpciIRQBase = rootSPI
    system.root.rootCell.irqchips = chips(Array(0..<384))
    system.root.rootCell.memoryRegions =
      TestSystem.virtio(at: block, isRoot: true)
      + TestSystem.native(id: 0, at: demo, isRoot: true)
      + registers.map { TestSystem.region($0.0, $0.1, [.read, .write, .io]) }
      + memory.map { TestSystem.region($0.0, $0.1, [.read, .write, .execute]) }
    let program: MemoryFlags = [.read, .write, .execute, .loadable]
    system.linux.memoryRegions =
      TestSystem.virtio(at: block, isRoot: false)
      + TestSystem.native(id: 2, at: demo, isRoot: false) + [
        TestSystem.region(linuxUART, 0x1000, [.read, .write, .io]),
        TestSystem.region(loader, 0x1_0000, program, virtual: 0),
        TestSystem.region(linuxRAM.0, linuxRAM.1, program.union(.dma)), TestSystem.comm,
      ]
    system.linux.vpciIRQBase = linuxSPI
    system.linux.irqchips = chips(linuxDevices + (0..<4).map { Int(linuxSPI) + $0 })
    system.bare.memoryRegions =
      [
        TestSystem.region(debugUART, 0x1000, [.read, .write, .io, .rootShared]),
        TestSystem.region(inmateRAM, 0x1_0000, program, virtual: 0), TestSystem.comm,
      ] + TestSystem.native(id: 1, at: demo, isRoot: false)
    system.bare.vpciIRQBase = inmateSPI
    system.bare.irqchips = chips([Int(inmateSPI)])
    system.bare.console.address = debugUART
    return system
  }

  /// Entries of 128 SPIs each.
  func chips(_ spis: [Int]) -> [IRQChip] {
    (0..<3).compactMap { block in
      let mine = spis.filter { $0 / 128 == block }
      guard !mine.isEmpty else { return nil }
      var chip = TestSystem.chip(mine.map { $0 % 128 })
      chip.address = gicd
      chip.pinBase = 32 + UInt32(block) * 128
      return chip
    }
  }
}
