import CellCheck
import CellFormat
import DeviceTree
import Testing

/// Random systems: whatever a file says, the checker ends, soon, with findings that have a rule.
@Suite struct CheckFuzzTests {
  static func number(_ generator: inout SplitMix) -> UInt64 {
    switch Int.random(in: 0..<6, using: &generator) {
    case 0:
      [0, 1, 0xfff, 0x1000, .max, .max - 0xfff, 1 << 48, 1 << 63].randomElement(
        using: &generator) ?? 0
    case 1: .random(in: 0 ... .max, using: &generator)
    default: .random(in: 0..<0x10_0000, using: &generator) << 12
    }
  }

  static func damage(_ cell: inout CellConfiguration, _ generator: inout SplitMix) {
    for _ in 0..<Int.random(in: 0...3, using: &generator) where !cell.memoryRegions.isEmpty {
      let index = Int.random(in: 0..<cell.memoryRegions.count, using: &generator)
      switch Int.random(in: 0..<6, using: &generator) {
      case 0: cell.memoryRegions[index].physicalStart = number(&generator)
      case 1: cell.memoryRegions[index].virtualStart = number(&generator)
      case 2: cell.memoryRegions[index].size = number(&generator)
      case 3: cell.memoryRegions[index].flags = MemoryFlags(rawValue: number(&generator))
      case 4: cell.memoryRegions.remove(at: index)
      default: cell.memoryRegions.append(cell.memoryRegions[index])
      }
    }
    for index in cell.pciDevices.indices where Bool.random(using: &generator) {
      switch Int.random(in: 0..<7, using: &generator) {
      case 0: cell.pciDevices[index].bdf = .random(in: 0 ... .max, using: &generator)
      case 1: cell.pciDevices[index].sharedMemoryStart = .random(in: 0 ... .max, using: &generator)
      case 2: cell.pciDevices[index].sharedMemoryID = .random(in: 0 ... .max, using: &generator)
      case 3: cell.pciDevices[index].sharedMemoryPeers = .random(in: 0 ... .max, using: &generator)
      case 4:
        cell.pciDevices[index].sharedMemoryProtocol = .random(in: 0 ... .max, using: &generator)
      case 5: cell.pciDevices[index].barMasks = []
      default: cell.pciDevices.append(cell.pciDevices[index])
      }
    }
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: cell.vpciIRQBase = .random(in: 0 ... .max, using: &generator)
    case 1: cell.cpuSet = []
    case 2: cell.cpuSet = Array(repeating: 0xff, count: 64)
    case 3: cell.irqchips += cell.irqchips
    case 4:
      cell.irqchips = cell.irqchips.map { old in
        var chip = old
        chip.pinBase = .random(in: 0 ... .max, using: &generator)
        chip.pinBitmap = []
        return chip
      }
    case 5: cell.cpuResetAddress = number(&generator)
    case 6: cell.nameBytes = []
    default: cell.console.address = number(&generator)
    }
  }

  static func damage(_ node: inout TestNode, _ generator: inout SplitMix) {
    for index in node.properties.indices where Int.random(in: 0..<8, using: &generator) == 0 {
      let size = Int.random(in: 0...12, using: &generator)
      node.properties[index].1 = (0..<size).flatMap { _ in
        bigEndian(UInt32(truncatingIfNeeded: number(&generator)))
      }
    }
    for index in node.children.indices { damage(&node.children[index], &generator) }
  }

  @Test func randomSystemsEndWithFindings() throws {
    let clock = ContinuousClock()
    let start = clock.now
    var findings = 0
    let rounds = 500
    for seed in 0..<rounds {
      var generator = SplitMix(seed: UInt64(seed))
      var system = TestSystem()
      system.addTrees()
      damage(&system, &generator)
      let set = try system.set()
      let found = check(set)
      findings += found.count
      for finding in found { #expect(Rule.named(finding.rule) != nil) }
      if seed % 100 == 0 { #expect(check(set) == found) }
    }
    let seconds = clock.now - start
    print("checker fuzz: \(rounds) systems, \(findings) findings, \(seconds)")
    #expect(findings > rounds)
  }

  private func damage(_ system: inout TestSystem, _ generator: inout SplitMix) {
    Self.damage(&system.root.rootCell, &generator)
    Self.damage(&system.linux, &generator)
    Self.damage(&system.bare, &generator)
    if var tree = system.linuxTree {
      Self.damage(&tree, &generator)
      system.linuxTree = tree
    }
    if var tree = system.rootTree {
      Self.damage(&tree, &generator)
      system.rootTree = tree
    }
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: system.root.mmconfigBase = Self.number(&generator)
    case 1: system.root.mmconfigEndBus = 255
    case 2: system.root.gicrBase = Self.number(&generator)
    case 3: system.root.hypervisorMemory.size = Self.number(&generator)
    case 4: system.root.gicVersion = 7
    case 5: system.hasRoot = false
    case 6: system.root.iommus = []
    default: system.root.rootCell.architecture = .x86
    }
  }

  /// A file can hold very many elements that all collide; the work must not grow with their pairs.
  @Test func largeHostileFilesEnd() throws {
    var system = TestSystem()
    let region = TestSystem.region(0x6000_0000, 0x1000_0000, [.read, .write, .rootShared])
    system.linux.memoryRegions += Array(repeating: region, count: 20_000)
    system.bare.memoryRegions += Array(repeating: region, count: 20_000)
    system.root.rootCell.memoryRegions += Array(repeating: region, count: 20_000)
    let devices = (0..<20_000).map { index in
      TestSystem.device(
        0, regions: UInt32(index), id: UInt8(index % 12), peers: 12, kind: 0x8002)
    }
    system.linux.pciDevices += devices.enumerated().map { index, device in
      var device = device
      device.bdf = UInt16(truncatingIfNeeded: index)
      return device
    }
    system.root.rootCell.pciDevices += devices
    let findings = check(try system.set())
    #expect(findings.count > 20)
    #expect(findings.count < 60 * Checks.findingsPerRuleAndFile)
  }
}

enum Checks {
  /// As the checker has it.
  static let findingsPerRuleAndFile = 24
}
