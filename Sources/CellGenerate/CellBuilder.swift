import CellFormat

/// A configuration and what each of its regions and devices is for: C sources and pages say it.
struct DescribedConfiguration {
  var file: ConfigurationFile
  /// Base name: `imx8mp-linux`.
  var fileName: String
  var regionNotes: [String] = []
  var deviceNotes: [String] = []
}

/// Builds the configurations of a layout.
struct CellBuilder {
  let layout: Layout
  var board: BoardDescription { layout.board }

  /// The root cell, then the guests in the order of the setup.
  func all() -> [DescribedConfiguration] { [root()] + layout.cells.map(guest) }

  func fileName(of cell: PlacedCell) -> String { "\(layout.setup.name)-\(cell.name)" }

  private func root() -> DescribedConfiguration {
    var system = SystemConfiguration()
    system.flags = 1
    system.hypervisorMemory = MemoryRegion(
      physicalStart: board.hypervisor.start, virtualStart: 0, size: board.hypervisor.size,
      flags: [])
    system.debugConsole = console(size: true)
    system.mmconfigBase = board.ecam
    system.pciIsVirtual = 1
    system.pciDomain = UInt16(board.pciDomain)
    if let iommu = board.iommu {
      system.iommus[0].type = iommu.type
      system.iommus[0].base = iommu.registers.start
      system.iommus[0].size = UInt32(iommu.registers.size)
      system.rootCell.streamIDs = iommu.rootStreams
    }
    system.maintenanceIRQ = UInt8(board.maintenanceIRQ)
    system.gicVersion = 3
    system.gicdBase = board.distributor.start
    system.gicrBase = board.redistributor.start
    system.rootCell.nameBytes = nameBytes(layout.setup.name)
    system.rootCell.cpuSet = cpuSet(Array(board.cpus.indices))
    system.rootCell.vpciIRQBase = UInt32(board.rootSPI)
    system.rootCell.irqchips = stride(from: 0, to: board.spiCount, by: 128).map { first in
      irqchip(first: first, Array(first..<first + 128))
    }
    var result = DescribedConfiguration(
      file: .system(system), fileName: layout.setup.name)
    addLinks(layout.links, isRoot: true, to: &system.rootCell, &result)
    for region in layout.rootRegions {
      let flags: MemoryFlags =
        switch region.access {
        case .rwx: [.read, .write, .execute]
        case .rw: [.read, .write]
        case .io: [.read, .write, .io]
        }
      system.rootCell.memoryRegions.append(identity(region.span, flags))
      result.regionNotes.append(region.name)
    }
    result.file = .system(system)
    return result
  }

  private func guest(_ placed: PlacedCell) -> DescribedConfiguration {
    var cell = CellConfiguration()
    cell.nameBytes = nameBytes(placed.name)
    cell.flags = [.passiveCommRegion, .virtualConsolePermitted]
    cell.cpuSet = cpuSet(placed.wish.cpus.value)
    cell.vpciIRQBase = UInt32(placed.vpciBase)
    cell.irqchips = Dictionary(grouping: placed.spis) { $0 / 128 * 128 }
      .sorted { $0.key < $1.key }.map { irqchip(first: $0.key, $0.value) }
    var result = DescribedConfiguration(file: .cell(cell), fileName: fileName(of: placed))
    addLinks(layout.links(of: placed), isRoot: false, to: &cell, &result)
    func add(_ note: String, _ region: MemoryRegion) {
      cell.memoryRegions.append(region)
      result.regionNotes.append(note)
    }
    switch placed.wish.console.value {
    case .own(let name):
      if let uart = board.uart(name) {
        cell.console = console(uart)
        add("\(name), the guest's alone", identity(page(of: uart), [.read, .write, .io]))
      }
    case .debug:
      cell.console = console(size: false)
      if let uart = board.uart(board.debugUART) {
        add(
          "\(uart.name), shared with the root cell",
          identity(page(of: uart), [.read, .write, .io, .rootShared]))
      }
    }
    let memory: MemoryFlags = [.read, .write, .execute, .dma, .loadable]
    if let loader = placed.loader {
      add(
        "Linux loader",
        MemoryRegion(
          physicalStart: loader.start, virtualStart: 0, size: loader.size,
          flags: [.read, .write, .execute, .loadable]))
      add("RAM", identity(placed.ram, memory))
    } else {
      add(
        "RAM",
        MemoryRegion(
          physicalStart: placed.ram.start, virtualStart: 0, size: placed.ram.size, flags: memory))
    }
    add(
      "communication region",
      MemoryRegion(
        physicalStart: 0, virtualStart: commRegion.start, size: commRegion.size,
        flags: [.read, .write, .commRegion]))
    result.file = .cell(cell)
    return result
  }

  /// The regions and the device of each link, as the side that a cell is.
  private func addLinks(
    _ links: [PlacedLink], isRoot: Bool, to cell: inout CellConfiguration,
    _ result: inout DescribedConfiguration
  ) {
    let shared: MemoryFlags = isRoot ? [] : [.rootShared]
    let own = isRoot ? 0 : 1
    for link in links {
      var device = PCIDevice()
      device.domain = UInt16(board.pciDomain)
      device.bdf = UInt16(link.device << 3)
      device.barMasks[0] = 0xffff_f000
      device.sharedMemoryStart = UInt32(cell.memoryRegions.count)
      device.sharedMemoryID = UInt8(own)
      device.sharedMemoryPeers = 2
      device.sharedMemoryProtocol = isRoot ? link.protocols.back : link.protocols.front
      cell.pciDevices.append(device)
      result.deviceNotes.append(
        "\(link.name): \(link.wish.kind.rawValue), \(isRoot ? "back-end" : "front-end")")
      let notes = ["state table", "read/write section", "output of peer 0", "output of peer 1"]
      for (index, span) in link.sections.enumerated() {
        guard span.size > 0 else {
          cell.memoryRegions.append(
            MemoryRegion(physicalStart: 0, virtualStart: 0, size: 0, flags: []))
          result.regionNotes.append("\(link.name): \(notes[index]), empty")
          continue
        }
        let isWritable = index == 1 || index == 2 + own
        cell.memoryRegions.append(
          identity(span, shared.union(isWritable ? [.read, .write] : [.read])))
        result.regionNotes.append("\(link.name): \(notes[index])")
      }
    }
  }

  private func identity(_ span: Span, _ flags: MemoryFlags) -> MemoryRegion {
    MemoryRegion(
      physicalStart: span.start, virtualStart: span.start, size: span.size, flags: flags)
  }
  private func page(of uart: BoardUART) -> Span { uart.registers }

  private func irqchip(first: Int, _ spis: [Int]) -> IRQChip {
    var chip = IRQChip()
    chip.address = board.distributor.start
    chip.pinBase = UInt32(32 + first)
    for spi in spis { chip.pinBitmap[(spi - first) / 32] |= 1 << UInt32((spi - first) % 32) }
    return chip
  }

  private func cpuSet(_ cpus: [Int]) -> [UInt8] {
    var bytes: [UInt8] = Array(repeating: 0, count: 8)
    for cpu in cpus { bytes[cpu / 8] |= 1 << UInt8(cpu % 8) }
    return bytes
  }

  private func nameBytes(_ name: String) -> [UInt8] {
    let bytes = Array(name.utf8.prefix(31))
    return bytes + Array(repeating: 0, count: 32 - bytes.count)
  }

  private func console(size: Bool) -> Console {
    guard let uart = board.uart(board.debugUART) else { return Console() }
    var console = console(uart)
    if size { console.size = 0x1000 }
    return console
  }

  private func console(_ uart: BoardUART) -> Console {
    var console = Console()
    console.address = uart.registers.start
    console.rawType =
      switch uart.kind {
      case .pl011: Console.Kind.pl011.rawValue
      case .imx: Console.Kind.imx.rawValue
      case .lpuart: Console.Kind.imxLPUART.rawValue
      }
    console.flags = 3
    return console
  }
}
