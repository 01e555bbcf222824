import CellFormat

/// SplitMix64: small, seeded, the same everywhere.
struct SeededGenerator: RandomNumberGenerator {
  var state: UInt64
  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }

  mutating func word<Word: FixedWidthInteger>() -> Word { Word(truncatingIfNeeded: next()) }
  mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
  mutating func bytes(_ count: Int) -> [UInt8] { (0..<count).map { _ in word() } }
}

/// Configurations with every field random: valid for the format, whatever they would mean.
enum RandomCells {
  static func file(_ random: inout SeededGenerator) -> ConfigurationFile {
    let revision: FormatRevision = random.below(3) == 0 ? .thirteen : .fourteen
    let architecture = revision == .thirteen ? nil : Architecture.allCases[random.below(3)]
    var cell = cell(&random)
    cell.revision = revision
    cell.architecture = architecture
    guard random.below(2) == 0 else { return .cell(cell) }
    return .system(system(cell, &random))
  }

  static func system(
    _ root: CellConfiguration, _ random: inout SeededGenerator
  ) -> SystemConfiguration {
    var system = SystemConfiguration()
    system.flags = random.word()
    system.hypervisorMemory = region(&random)
    system.debugConsole = console(&random)
    system.mmconfigBase = random.word()
    system.mmconfigEndBus = random.word()
    system.pciIsVirtual = random.word()
    system.pciDomain = random.word()
    for index in 0..<8 {
      system.iommus[index].type = random.word()
      system.iommus[index].base = random.word()
      system.iommus[index].size = random.word()
      system.iommus[index].specific = random.bytes(12)
    }
    system.maintenanceIRQ = random.word()
    system.gicVersion = random.word()
    system.padding = random.word()
    system.gicdBase = random.word()
    system.giccBase = random.word()
    system.gichBase = random.word()
    system.gicvBase = random.word()
    system.gicrBase = random.word()
    system.rootSignature = random.bytes(8)
    system.rootCell = root
    return system
  }

  static func cell(_ random: inout SeededGenerator) -> CellConfiguration {
    var cell = CellConfiguration()
    cell.nameBytes = random.bytes(32)
    cell.id = random.word()
    cell.flags = CellFlags(rawValue: random.word())
    cell.cpuSet = random.bytes(random.below(20))
    cell.vpciIRQBase = random.word()
    cell.cpuResetAddress = random.word()
    cell.messageReplyTimeout = random.word()
    cell.console = console(&random)
    cell.memoryRegions = (0..<random.below(6)).map { _ in region(&random) }
    cell.cacheRegions = (0..<random.below(4)).map { _ in
      var cache = CacheRegion()
      cache.start = random.word()
      cache.size = random.word()
      cache.type = random.word()
      cache.padding = random.word()
      cache.flags = random.word()
      return cache
    }
    cell.irqchips = (0..<random.below(4)).map { _ in
      var chip = IRQChip()
      chip.address = random.word()
      chip.id = random.word()
      chip.pinBase = random.word()
      chip.pinBitmap = (0..<4).map { _ in random.word() }
      return chip
    }
    cell.portRanges = (0..<random.below(4)).map { _ in
      var range = PortRange()
      range.base = random.word()
      range.length = random.word()
      return range
    }
    cell.pciDevices = (0..<random.below(4)).map { _ in device(&random) }
    cell.pciCapabilities = (0..<random.below(4)).map { _ in
      var capability = PCICapability()
      capability.id = random.word()
      capability.start = random.word()
      capability.length = random.word()
      capability.flags = random.word()
      return capability
    }
    cell.streamIDs = (0..<random.below(4)).map { _ in random.word() }
    return cell
  }

  static func region(_ random: inout SeededGenerator) -> MemoryRegion {
    MemoryRegion(
      physicalStart: random.word(), virtualStart: random.word(), size: random.word(),
      flags: MemoryFlags(rawValue: random.word()))
  }

  static func console(_ random: inout SeededGenerator) -> Console {
    var console = Console()
    console.address = random.word()
    console.size = random.word()
    console.rawType = random.word()
    console.flags = random.word()
    console.divider = random.word()
    console.gateNumber = random.word()
    console.clockRegister = random.word()
    return console
  }

  static func device(_ random: inout SeededGenerator) -> PCIDevice {
    var device = PCIDevice()
    device.rawType = random.word()
    device.iommu = random.word()
    device.domain = random.word()
    device.bdf = random.word()
    device.barMasks = (0..<6).map { _ in random.word() }
    device.capabilitiesStart = random.word()
    device.capabilityCount = random.word()
    device.msiVectorCount = random.word()
    device.msiBits = random.word()
    device.msixVectorCount = random.word()
    device.msixRegionSize = random.word()
    device.msixAddress = random.word()
    device.sharedMemoryStart = random.word()
    device.sharedMemoryID = random.word()
    device.sharedMemoryPeers = random.word()
    device.sharedMemoryProtocol = random.word()
    return device
  }
}
