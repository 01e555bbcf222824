import CellCheck
import CellFormat
import CellPicture
import DeviceTree

/// A file from anywhere through everything that `ivshmem-cell` does with it: decoded and encoded
/// again, checked beside a good system and a good guest, explained, compared and drawn. A device
/// tree is checked as the tree of the guest and as that of the root.
public struct CellFuzzer {
  /// Files that were configurations, and files that were device trees.
  public private(set) var configurations = 0
  public private(set) var trees = 0
  private let system: ConfigurationFile
  private let guest: ConfigurationFile

  /// A fuzzer with the two good files.
  public init() {
    system = .system(Self.goodSystem)
    guest = .cell(Self.goodGuest)
  }

  /// Plays one file.
  /// - Returns: what is wrong with the outcome, as a line; `nil` when all is well.
  public mutating func run(_ bytes: [UInt8]) -> String? {
    if bytes.starts(with: [0xd0, 0x0d, 0xfe, 0xed]) { return runTree(bytes) }
    let file: ConfigurationFile
    do throws(FormatError) {
      file = try ConfigurationFile(decoding: bytes)
    } catch {
      return (0...bytes.count).contains(error.offset) && !error.message.isEmpty
        ? nil : "error without a place: \(error)"
    }
    configurations += 1
    if file.encoded() != bytes { return "accepted, but encoded otherwise" }
    let partner: ConfigurationFile = if case .system = file { guest } else { system }
    let cells = [(name: "input.cell", file: file), (name: "good.cell", file: partner)]
    let set = CellSet(files: cells.map { CellSet.Member(file: $0.name, configuration: $0.file) })
    if let wrong = Self.judge(check(set)) { return wrong }
    for explanation in Explanation.all(of: cells) where explanation.text.isEmpty {
      return "no explanation"
    }
    if MemoryMap.svg(cells: cells).isEmpty { return "no map" }
    let same = Comparison(left: cells[0], right: cells[0])
    if !same.same { return "different from itself" }
    return Comparison(left: cells[0], right: cells[1]).text.isEmpty ? "no comparison" : nil
  }

  private mutating func runTree(_ bytes: [UInt8]) -> String? {
    guard let tree = try? FlattenedTree(decoding: bytes) else { return nil }
    trees += 1
    let named = CellSet.Tree(file: "input.dtb", tree: tree)
    return Self.judge(
      check(
        CellSet(
          files: [
            CellSet.Member(file: "system.cell", configuration: system),
            CellSet.Member(file: "guest.cell", configuration: guest),
          ], deviceTrees: ["guest.cell": named], rootTree: named)))
  }

  private static func judge(_ findings: [Finding]) -> String? {
    for finding in findings {
      guard Rule.named(finding.rule) != nil else { return "finding without a rule: \(finding)" }
      let texts = [finding.place, finding.message, finding.consequence, finding.fix]
      if texts.joined().unicodeScalars.contains(where: { $0.properties.generalCategory == .control }
      ) {
        return "a control character in \(finding)"
      }
    }
    return nil
  }
}

// The good files: one link of two peers, on addresses of QEMU's virt machine.
extension CellFuzzer {
  private static func region(
    _ start: UInt64, _ size: UInt64, _ flags: MemoryFlags
  ) -> MemoryRegion {
    MemoryRegion(physicalStart: start, virtualStart: start, size: size, flags: flags)
  }

  private static func link(isRoot: Bool) -> (regions: [MemoryRegion], device: PCIDevice) {
    let shared: MemoryFlags = isRoot ? [] : .rootShared
    var device = PCIDevice()
    device.rawType = PCIDevice.Kind.ivshmem.rawValue
    device.bdf = 2 << 3
    device.barMasks[0] = 0xffff_f000
    device.sharedMemoryID = isRoot ? 0 : 1
    device.sharedMemoryPeers = 2
    device.sharedMemoryProtocol = isRoot ? 0xc002 : 0x8002
    let empty = MemoryRegion(physicalStart: 0, virtualStart: 0, size: 0, flags: [])
    return (
      [
        region(0x7fa0_0000, 0x1000, shared.union(.read)),
        region(0x7fa0_1000, 0xd_f000, shared.union([.read, .write])), empty, empty,
      ], device
    )
  }

  private static func chip(_ spi: Int) -> IRQChip {
    var chip = IRQChip()
    chip.address = 0x0800_0000
    chip.pinBase = 32
    chip.pinBitmap[spi / 32] = 0xf << UInt32(spi % 32)
    return chip
  }

  private static var goodSystem: SystemConfiguration {
    var system = SystemConfiguration()
    system.hypervisorMemory = region(0x7fc0_0000, 0x40_0000, [])
    system.mmconfigBase = 0x0700_0000
    system.pciIsVirtual = 1
    system.pciDomain = 1
    system.gicVersion = 3
    system.maintenanceIRQ = 25
    system.gicdBase = 0x0800_0000
    system.gicrBase = 0x080a_0000
    let link = link(isRoot: true)
    system.rootCell.nameBytes.replaceSubrange(0..<4, with: Array("root".utf8))
    system.rootCell.cpuSet[0] = 0xf
    system.rootCell.memoryRegions =
      link.regions + [region(0x4000_0000, 0x3fa0_0000, [.read, .write, .execute])]
    system.rootCell.pciDevices = [link.device]
    system.rootCell.irqchips = [chip(96)]
    system.rootCell.vpciIRQBase = 96
    return system
  }

  private static var goodGuest: CellConfiguration {
    var guest = CellConfiguration()
    let link = link(isRoot: false)
    guest.nameBytes.replaceSubrange(0..<5, with: Array("linux".utf8))
    guest.cpuSet[0] = 0xc
    guest.flags = .passiveCommRegion
    guest.cpuResetAddress = 0x7000_0000
    var comm = region(0x8000_0000, 0x1000, [.read, .write, .commRegion])
    comm.physicalStart = 0
    guest.memoryRegions =
      link.regions + [
        region(0x7000_0000, 0x800_0000, [.read, .write, .execute, .dma, .loadable]), comm,
      ]
    guest.pciDevices = [link.device]
    guest.irqchips = [chip(108)]
    guest.vpciIRQBase = 108
    return guest
  }
}
