import CellFormat

extension Explanation {
  init(
    _ file: ConfigurationFile, name: String,
    others: [(name: String, file: ConfigurationFile)]
  ) {
    let cell = file.cell
    self.file = name
    bytes = file.encoded().count
    revision = Int(cell.revision.rawValue)
    architecture = cell.architecture.map { "\($0)" }
    self.name = Wording.line(cell.name)
    id = Int(cell.id)
    flags = Flags(value: Wording.hex(cell.flags.rawValue), names: cell.flags.names)
    cpus = cell.cpus
    cpuSetBytes = cell.cpuSet.count
    resetAddress = Wording.hex(cell.cpuResetAddress)
    messageReplyTimeout = Wording.hex(cell.messageReplyTimeout)
    if case .system(let system) = file {
      kind = "system"
      self.system = SystemText(system)
    } else {
      kind = "cell"
      system = nil
    }
    let purposes = RegionPurpose.all(of: cell)
    memory = cell.memoryRegions.enumerated().map { index, region in
      Region(
        index: index, purpose: purposes[index].text,
        physicalStart: Wording.hex(region.physicalStart),
        cellStart: Wording.hex(region.virtualStart), size: Wording.hex(region.size),
        sizeText: Wording.size(region.size), flags: Flags(region.flags))
    }
    linuxMemory = Wording.hex(saturatingSum(cell.linuxMemory.map(\.size)))
    interrupts = Interrupts(cell)
    let owned = Set(cell.interruptIDs)
    let ends = others.map { other in
      OtherEnds(
        file: other.name, cell: other.file.cell,
        byBDF: Dictionary(grouping: LinkEnd.all(of: other.file.cell), by: \.device.bdf))
    }
    links = LinkEnd.all(of: cell).map { Link($0, in: cell, interrupts: owned, others: ends) }
    pciDevices = cell.pciDevices.enumerated().filter { $0.element.kind != .ivshmem }
      .map { Device($0.element, index: $0.offset, in: cell) }
    console = cell.console == Console() ? nil : ConsoleText(cell.console)
    caches = cell.cacheRegions.map {
      Cache(start: Int($0.start), size: Int($0.size), type: Int($0.type), flags: Int($0.flags))
    }
    ports = cell.portRanges.map { Ports(base: Wording.hex($0.base), length: Int($0.length)) }
    streamIDs = cell.streamIDs.map { Wording.hex($0) }
  }
}

extension Explanation.Flags {
  init(_ flags: MemoryFlags) {
    self.init(value: Wording.hex(flags.rawValue), names: flags.names)
  }
}

extension Explanation.ConsoleText {
  init(_ console: Console) {
    type = Int(console.rawType)
    typeText = Wording.console(console)
    address = Wording.hex(console.address)
    size = Wording.hex(console.size)
    flags = Explanation.Flags(value: Wording.hex(console.flags), names: console.flagNameList)
    divider = Int(console.divider)
    clockGate = Int(console.gateNumber)
    clockRegister = Wording.hex(console.clockRegister)
  }
}

extension Explanation.SystemText {
  init(_ system: SystemConfiguration) {
    let names = flagNames(
      UInt64(system.flags), [FlagName(mask: 1, name: "VIRTUAL_DEBUG_CONSOLE", meaning: "")])
    flags = Explanation.Flags(value: Wording.hex(system.flags), names: names)
    hypervisorStart = Wording.hex(system.hypervisorMemory.physicalStart)
    hypervisorSize = Wording.hex(system.hypervisorMemory.size)
    debugConsole = Explanation.ConsoleText(system.debugConsole)
    ecam = Wording.hex(system.mmconfigBase)
    lastBus = Int(system.mmconfigEndBus)
    pciIsVirtual = system.pciIsVirtual != 0
    pciDomain = Int(system.pciDomain)
    gicVersion = Int(system.gicVersion)
    maintenanceInterrupt = Int(system.maintenanceIRQ)
    gicd = Wording.hex(system.gicdBase)
    gicc = Wording.hex(system.giccBase)
    gich = Wording.hex(system.gichBase)
    gicv = Wording.hex(system.gicvBase)
    gicr = Wording.hex(system.gicrBase)
    iommus = system.iommus.enumerated().filter { $0.element != IOMMU() }.map { slot, iommu in
      Explanation.IOMMUText(
        slot: slot, type: Int(iommu.type), base: Wording.hex(iommu.base),
        size: Wording.hex(iommu.size))
    }
  }
}

extension Explanation.Interrupts {
  init(_ cell: CellConfiguration) {
    virtualPCIBase = Int(cell.vpciIRQBase)
    let all = cell.interruptIDs
    spis = all.filter { $0 >= 32 }.map { $0 - 32 }
    privateInterrupts = all.filter { $0 < 32 }
    irqchips = cell.irqchips.map { chip in
      Explanation.Chip(
        address: Wording.hex(chip.address), id: Int(chip.id), pinBase: Int(chip.pinBase),
        interruptIDs: chip.interruptIDs)
    }
  }
}

/// The links of another file, to find the other ends of a link.
struct OtherEnds {
  let file: String
  let cell: CellConfiguration
  let byBDF: [UInt16: [LinkEnd]]
}

extension Explanation.Link {
  /// A link has at most 12 ends; a hostile file could repeat one BDF thousands of times.
  private static let shownEnds = 12

  init(
    _ end: LinkEnd, in cell: CellConfiguration, interrupts: Set<Int>, others: [OtherEnds]
  ) {
    let device = end.device
    bdf = end.name
    self.device = end.index
    domain = Int(device.domain)
    self.protocol = Wording.hex(device.sharedMemoryProtocol)
    protocolText = Wording.linkProtocol(device.sharedMemoryProtocol)
    id = Int(device.sharedMemoryID)
    peerCount = Int(device.sharedMemoryPeers)
    pin = end.pinName
    spi = Int(end.spi(in: cell))
    interruptID = spi + 32
    ownsInterrupt = interrupts.contains(interruptID)
    msixVectors = Int(device.msixVectorCount)
    barMasks = device.barMasks.map { Wording.hex($0) }
    firstRegion = Int(device.sharedMemoryStart)
    isCut = end.isCut
    let regions = end.regions.map { cell.memoryRegions[$0] }
    sections = regions.enumerated().map { section, region in
      Explanation.Section(
        name: Wording.section(section), region: end.regions.lowerBound + section,
        physicalStart: Wording.hex(region.physicalStart),
        cellStart: Wording.hex(region.virtualStart), size: Wording.hex(region.size),
        sizeText: Wording.size(region.size), flags: Explanation.Flags(region.flags))
    }
    func places(_ regions: [MemoryRegion]) -> [[UInt64]] {
      regions.map { $0.size == 0 ? [0, 0] : [$0.physicalStart, $0.size] }
    }
    peers = others.flatMap { other in
      (other.byBDF[device.bdf] ?? []).prefix(Self.shownEnds).map { peer in
        Explanation.Peer(
          file: other.file, cell: Wording.line(other.cell.name),
          id: Int(peer.device.sharedMemoryID),
          protocol: Wording.hex(peer.device.sharedMemoryProtocol),
          protocolText: Wording.linkProtocol(peer.device.sharedMemoryProtocol),
          hasSameAddresses: places(peer.regions.map { other.cell.memoryRegions[$0] })
            == places(regions))
      }
    }
  }
}

extension Explanation.Device {
  init(_ device: PCIDevice, index: Int, in cell: CellConfiguration) {
    self.index = index
    type = Int(device.rawType)
    bdf = Wording.bdf(device.bdf)
    domain = Int(device.domain)
    iommu = Int(device.iommu)
    barMasks = device.barMasks.map { Wording.hex($0) }
    let first = min(Int(device.capabilitiesStart), cell.pciCapabilities.count)
    let last = min(first + Int(device.capabilityCount), cell.pciCapabilities.count)
    capabilities = cell.pciCapabilities[first..<last].map {
      Explanation.Capability(
        id: Wording.hex($0.id), start: Int($0.start), length: Int($0.length), flags: Int($0.flags))
    }
    msiVectors = Int(device.msiVectorCount)
    msixVectors = Int(device.msixVectorCount)
    msixAddress = Wording.hex(device.msixAddress)
  }
}
