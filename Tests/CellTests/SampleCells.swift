import CellFormat

/// A small root cell and a guest that fit each other: a virtio block link at 00:02.0 and a
/// network link at 00:01.0.
enum SampleCells {
  static func region(
    _ start: UInt64, _ size: UInt64, _ flags: MemoryFlags, at virtual: UInt64? = nil
  ) -> MemoryRegion {
    MemoryRegion(
      physicalStart: start, virtualStart: virtual ?? start, size: size, flags: flags)
  }

  static func link(_ bdf: UInt16, _ id: UInt8, _ start: UInt32, _ number: UInt16) -> PCIDevice {
    var device = PCIDevice()
    device.bdf = bdf
    device.domain = 1
    device.barMasks[0] = 0xffff_f000
    device.sharedMemoryStart = start
    device.sharedMemoryID = id
    device.sharedMemoryPeers = 2
    device.sharedMemoryProtocol = number
    return device
  }

  static func sections(id: Int, shared: MemoryFlags) -> [MemoryRegion] {
    func out(_ owner: Int) -> MemoryFlags { id == owner ? [.read, .write] : .read }
    return [
      region(0x7fa0_0000, 0x1000, shared.union(.read)),
      region(0x7fa0_1000, 0xdf000, shared.union([.read, .write])),
      region(0, 0, []), region(0, 0, []),
      region(0x7fb0_0000, 0x1000, shared.union(.read)), region(0, 0, []),
      region(0x7fb0_1000, 0x7f000, shared.union(out(0))),
      region(0x7fb8_0000, 0x7f000, shared.union(out(1))),
    ]
  }

  static func chip(_ interrupts: [Int]) -> IRQChip {
    var chip = IRQChip()
    chip.address = 0x0800_0000
    chip.pinBase = 32
    for interrupt in interrupts {
      chip.pinBitmap[(interrupt - 32) / 32] |= 1 << UInt32(interrupt % 32)
    }
    return chip
  }

  static func name(_ text: String) -> [UInt8] {
    Array((Array(text.utf8) + [UInt8](repeating: 0, count: 32)).prefix(32))
  }

  static let guest: CellConfiguration = {
    var cell = CellConfiguration()
    cell.nameBytes = name("guest")
    cell.flags = .passiveCommRegion
    cell.cpuSet[0] = 0b1100
    cell.vpciIRQBase = 108
    cell.memoryRegions =
      sections(id: 1, shared: .rootShared) + [
        region(0x0900_0000, 0x1000, [.read, .write, .io, .rootShared]),
        region(0x7f90_0000, 0x1_0000, [.read, .write, .execute, .loadable], at: 0),
        region(0x7000_0000, 0x800_0000, [.read, .write, .execute, .dma, .loadable]),
        region(0, 0x1000, [.read, .write, .commRegion], at: 0x8000_0000),
      ]
    cell.irqchips = [chip([33, 140, 141, 142, 143])]
    cell.pciDevices = [link(2 << 3, 1, 0, 0x8002), link(1 << 3, 1, 4, 1)]
    return cell
  }()

  static let root: SystemConfiguration = {
    var system = SystemConfiguration()
    system.flags = 1
    system.hypervisorMemory = region(0x7fc0_0000, 0x40_0000, [])
    system.debugConsole.address = 0x0900_0000
    system.debugConsole.rawType = 3
    system.mmconfigBase = 0x0700_0000
    system.pciIsVirtual = 1
    system.pciDomain = 1
    system.maintenanceIRQ = 25
    system.gicVersion = 3
    system.gicdBase = 0x0800_0000
    system.gicrBase = 0x080a_0000
    system.rootCell.nameBytes = name("root")
    system.rootCell.cpuSet[0] = 0b1111
    system.rootCell.vpciIRQBase = 96
    system.rootCell.memoryRegions =
      sections(id: 0, shared: []) + [
        region(0x0900_0000, 0x3700_0000, [.read, .write, .io]),
        region(0x4000_0000, 0x3fa0_0000, [.read, .write, .execute]),
      ]
    system.rootCell.irqchips = [chip(Array(32..<160))]
    system.rootCell.pciDevices = [link(2 << 3, 0, 0, 0xc002), link(1 << 3, 0, 4, 1)]
    return system
  }()

  static let pair: [(name: String, file: ConfigurationFile)] = [
    ("root.cell", .system(root)), ("guest.cell", .cell(guest)),
  ]
}
