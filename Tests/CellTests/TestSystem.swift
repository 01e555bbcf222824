import CellCheck
import CellFormat
import DeviceTree

/// A small system without a fault: a root cell, a Linux guest with a virtio block link, a bare-metal
/// guest, and a native link between all three. Fixtures change one thing of it.
struct TestSystem {
  var root = TestSystem.makeRoot()
  var linux = TestSystem.makeLinux()
  var bare = TestSystem.makeBare()
  /// More files, behind the three.
  var more: [ConfigurationFile] = []
  var hasRoot = true
  var linuxTree: TestNode?
  var rootTree: TestNode?
  var alternatives: [Set<String>] = []

  mutating func addTrees() {
    linuxTree = TestTrees.guest()
    rootTree = TestTrees.root()
  }

  func set() throws -> CellSet {
    var set = CellSet(alternatives: alternatives)
    if hasRoot { set.files.append(.init(file: "root.cell", configuration: .system(root))) }
    set.files.append(.init(file: "linux.cell", configuration: .cell(linux)))
    set.files.append(.init(file: "bare.cell", configuration: .cell(bare)))
    for (index, file) in more.enumerated() {
      set.files.append(.init(file: "more\(index).cell", configuration: file))
    }
    if let linuxTree {
      set.deviceTrees["linux.cell"] = .init(
        file: "linux.dtb", tree: try FlattenedTree(decoding: linuxTree.blob))
    }
    if let rootTree {
      set.rootTree = .init(file: "root.dtb", tree: try FlattenedTree(decoding: rootTree.blob))
    }
    return set
  }

  // MARK: Parts

  static func name(_ text: String) -> [UInt8] {
    Array(text.utf8) + Array(repeating: 0, count: max(0, 32 - text.utf8.count))
  }

  /// A region whose virtual address is its physical one, unless told otherwise.
  static func region(
    _ start: UInt64, _ size: UInt64, _ flags: MemoryFlags, virtual: UInt64? = nil
  ) -> MemoryRegion {
    MemoryRegion(
      physicalStart: start, virtualStart: virtual ?? start, size: size, flags: flags)
  }

  /// The five sections of the native link for one peer.
  static func native(id: Int, at start: UInt64 = 0x7faf_0000, isRoot: Bool) -> [MemoryRegion] {
    let shared: MemoryFlags = isRoot ? [] : .rootShared
    return [
      region(start, 0x1000, shared.union(.read)),
      region(start + 0x1000, 0x9000, shared.union([.read, .write])),
    ]
      + (0..<3).map { output in
        region(
          start + 0xa000 + UInt64(output) * 0x2000, 0x2000,
          shared.union(output == id ? [.read, .write] : .read))
      }
  }

  /// The four sections of a virtio link.
  static func virtio(
    at start: UInt64 = 0x7fa0_0000, size: UInt64 = 0xdf000, isRoot: Bool
  ) -> [MemoryRegion] {
    let shared: MemoryFlags = isRoot ? [] : .rootShared
    let empty = region(0, 0, [])
    return [
      region(start, 0x1000, shared.union(.read)),
      region(start + 0x1000, size, shared.union([.read, .write])), empty, empty,
    ]
  }

  static func device(
    _ number: UInt16, regions: UInt32, id: UInt8, peers: UInt8, kind: UInt16
  ) -> PCIDevice {
    var device = PCIDevice()
    device.bdf = number << 3
    device.barMasks = [0xffff_f000, 0, 0, 0, 0, 0]
    device.sharedMemoryStart = regions
    device.sharedMemoryID = id
    device.sharedMemoryPeers = peers
    device.sharedMemoryProtocol = kind
    return device
  }

  static func chip(_ spis: [Int]) -> IRQChip {
    var chip = IRQChip()
    chip.address = 0x0800_0000
    chip.pinBase = 32
    for spi in spis { chip.pinBitmap[spi / 32] |= 1 << UInt32(spi % 32) }
    return chip
  }

  static let comm = region(0, 0x1000, [.read, .write, .commRegion], virtual: 0x8000_0000)

  static func makeRoot() -> SystemConfiguration {
    var system = SystemConfiguration()
    system.hypervisorMemory = region(0x7fc0_0000, 0x40_0000, [])
    system.debugConsole.address = 0x0900_0000
    system.debugConsole.size = 0x1000
    system.debugConsole.rawType = Console.Kind.pl011.rawValue
    system.debugConsole.flags = 3
    system.mmconfigBase = 0x0700_0000
    system.pciIsVirtual = 1
    system.pciDomain = 1
    system.maintenanceIRQ = 25
    system.gicVersion = 3
    system.gicdBase = 0x0800_0000
    system.gicrBase = 0x080a_0000
    system.rootCell.nameBytes = name("board")
    system.rootCell.cpuSet[0] = 0xf
    system.rootCell.memoryRegions =
      virtio(isRoot: true) + native(id: 0, isRoot: true) + [
        region(0x0900_0000, 0x3700_0000, [.read, .write, .io]),
        region(0x4000_0000, 0x3fa0_0000, [.read, .write, .execute]),
      ]
    system.rootCell.irqchips = [chip(Array(0..<128))]
    system.rootCell.vpciIRQBase = 96
    system.rootCell.pciDevices = [
      device(2, regions: 0, id: 0, peers: 2, kind: 0xc002),
      device(0, regions: 4, id: 0, peers: 3, kind: 0),
    ]
    return system
  }

  static func makeLinux() -> CellConfiguration {
    var cell = CellConfiguration()
    cell.nameBytes = name("linux")
    cell.flags = .passiveCommRegion
    cell.cpuSet[0] = 0xc
    cell.memoryRegions =
      virtio(isRoot: false) + native(id: 2, isRoot: false) + [
        region(0x0904_0000, 0x1000, [.read, .write, .io]),
        region(0x7f90_0000, 0x1_0000, [.read, .write, .execute, .loadable], virtual: 0),
        region(0x7000_0000, 0x0800_0000, [.read, .write, .execute, .dma, .loadable]), comm,
      ]
    cell.irqchips = [chip([5, 108, 109, 110, 111])]
    cell.vpciIRQBase = 108
    cell.pciDevices = [
      device(2, regions: 0, id: 1, peers: 2, kind: 0x8002),
      device(0, regions: 4, id: 2, peers: 3, kind: 0),
    ]
    return cell
  }

  static func makeBare() -> CellConfiguration {
    var cell = CellConfiguration()
    cell.nameBytes = name("bare")
    cell.flags = .passiveCommRegion
    cell.cpuSet[0] = 0x2
    cell.memoryRegions =
      [
        region(0x0900_0000, 0x1000, [.read, .write, .io, .rootShared]),
        region(0x7f91_0000, 0x1_0000, [.read, .write, .execute, .loadable], virtual: 0), comm,
      ] + native(id: 1, isRoot: false)
    cell.irqchips = [chip([112])]
    cell.vpciIRQBase = 112
    cell.pciDevices = [device(0, regions: 3, id: 1, peers: 3, kind: 0)]
    cell.console.address = 0x0900_0000
    cell.console.size = 0x1000
    cell.console.rawType = Console.Kind.pl011.rawValue
    cell.console.flags = 3
    return cell
  }
}
