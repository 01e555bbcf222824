import CellFormat

/// What a box on the map stands for; each has a colour in the legend.
enum MapKind: Hashable {
  case hypervisor, ecam, interruptController, iommu
  case ram, device, sharedMemory, other, commRegion
  case section(SectionPlace)
}

/// A stretch of physical addresses in a column.
struct MapItem {
  let column: Int
  /// Index of the memory region; `nil` for what belongs to the system and not to a cell.
  let region: Int?
  let start: UInt64
  /// The first address behind it; what would pass 2^64 is cut off there.
  let end: UInt64
  let kind: MapKind
  let label: String
  /// A second line, where there is room.
  let note: String
  /// Everything about it, shown when pointed at.
  let detail: String
  let flags: MemoryFlags
  let size: UInt64

  var section: SectionPlace? {
    if case .section(let place) = kind { place } else { nil }
  }
}

/// A column: the system's own ranges, or the regions of one cell.
struct MapColumn {
  enum Role { case platform, root, guest }
  let role: Role
  let title: String
  let subtitle: String
  let file: String
  var items: [MapItem] = []
  /// Regions without a place of their own: the communication region, which the hypervisor
  /// provides, and what covers nothing.
  var loose: [MapItem] = []
  var emptySlots = 0
  let links: [LinkEnd]
}

extension MapColumn {
  /// Columns of a file: of a system two, its own and its root cell.
  static func columns(
    name: String, file: ConfigurationFile, first: Int
  ) -> [MapColumn] {
    guard case .system(let system) = file else {
      return [cell(file.cell, role: .guest, file: name, number: first)]
    }
    return [
      platform(system, file: name, number: first),
      cell(system.rootCell, role: .root, file: name, number: first + 1),
    ]
  }

  private static func cell(
    _ cell: CellConfiguration, role: Role, file: String, number: Int
  ) -> MapColumn {
    let cpus = cell.cpus
    let shown = Wording.ranges(cpus)
    var column = MapColumn(
      role: role, title: Wording.line(cell.name.isEmpty ? "(no name)" : cell.name),
      subtitle: (role == .root ? "root cell, " : "") + (cpus.count == 1 ? "CPU " : "CPUs ") + shown,
      file: file, links: LinkEnd.all(of: cell))
    for (index, purpose) in RegionPurpose.all(of: cell).enumerated() {
      let region = cell.memoryRegions[index]
      let console = cell.console
      let isConsole =
        console.rawType != 0 && console.address >= region.physicalStart
        && console.address - region.physicalStart < region.size && role == .guest
      let item = MapItem(
        region, index: index, purpose: purpose, column: number, isConsole: isConsole)
      if region.size == 0 {
        column.emptySlots += 1
      } else if item.kind == .commRegion || item.end <= item.start {
        column.loose.append(item)
      } else {
        column.items.append(item)
      }
    }
    return column
  }

  private static func platform(
    _ system: SystemConfiguration, file: String, number: Int
  ) -> MapColumn {
    var column = MapColumn(
      role: .platform, title: "system", subtitle: "hypervisor's own", file: file, links: [])
    func add(_ start: UInt64, _ size: UInt64, _ kind: MapKind, _ label: String, _ what: String) {
      guard start != 0, size != 0 else { return }
      let (end, isOver) = start.addingReportingOverflow(size)
      let item = MapItem(
        column: number, region: nil, start: start, end: isOver ? .max : end, kind: kind,
        label: label, note: "",
        detail: "\(what): \(Wording.span(start, size)), \(Wording.size(size))",
        flags: MemoryFlags(), size: size)
      if item.end > item.start { column.items.append(item) }
    }
    let memory = system.hypervisorMemory
    add(memory.physicalStart, memory.size, .hypervisor, "hypervisor", "memory of the hypervisor")
    let window = (UInt64(system.mmconfigEndBus) + 1) << 20
    add(system.mmconfigBase, window, .ecam, "ECAM", "PCI configuration space (ECAM), trapped")
    let links = LinkEnd.all(of: system.rootCell).count
    let behind = system.mmconfigBase.addingReportingOverflow(window)
    if system.pciIsVirtual != 0, system.mmconfigBase != 0, !behind.overflow {
      // The driver's overlay gives the root two pages a link right behind the bus.
      add(
        behind.partialValue, UInt64(links) * 0x2000, .ecam, "BARs",
        "registers of the root's \(links) links, trapped")
    }
    add(system.gicdBase, 0x1_0000, .interruptController, "GICD", "interrupt distributor")
    let redistributors = UInt64(max(1, system.rootCell.cpus.count)) * 0x2_0000
    add(
      system.gicrBase, redistributors, .interruptController, "GICR",
      "redistributors, 128 KiB a root CPU")
    add(system.giccBase, 0x2000, .interruptController, "GICC", "CPU interface")
    add(system.gichBase, 0x2000, .interruptController, "GICH", "hypervisor interface")
    add(system.gicvBase, 0x2000, .interruptController, "GICV", "virtual CPU interface")
    for (slot, iommu) in system.iommus.enumerated() where iommu.type != 0 {
      add(iommu.base, UInt64(iommu.size), .iommu, "IOMMU \(slot)", "registers of an IOMMU")
    }
    return column
  }
}

extension MapItem {
  fileprivate init(
    _ region: MemoryRegion, index: Int, purpose: RegionPurpose, column: Int, isConsole: Bool
  ) {
    self.column = column
    self.region = index
    start = region.physicalStart
    let (end, isOver) = start.addingReportingOverflow(region.size)
    self.end = isOver ? .max : end
    let flags = region.flags
    self.flags = flags
    size = region.size
    let rights = flags.rights
    switch purpose {
    case .section(let place):
      kind = .section(place)
      let names = ["state", "R/W"]
      let name = place.section < 2 ? names[place.section] : "out \(place.section - 2)"
      label = "\(Wording.bdf(place.bdf)) \(name)" + (place.section == 1 ? "" : " \(rights)")
    case .commRegion:
      kind = .commRegion
      label = "comm at \(Wording.hex(region.virtualStart))"
    case .device:
      kind = .device
      label = (isConsole ? "console " : "MMIO ") + rights
    case .sharedMemory:
      kind = .sharedMemory
      label = "shared \(rights)"
    case .ram:
      kind = .ram
      label = "RAM \(rights)" + (flags.contains(.loadable) ? ", loadable" : "")
    case .readOnly, .other, .empty:
      kind = .other
      label = "memory \(rights)"
    }
    let isMoved = region.virtualStart != region.physicalStart
    note = isMoved ? "cell sees \(Wording.hex(region.virtualStart))" : ""
    detail =
      "region \(index), \(purpose.text): \(Wording.span(start, region.size)), "
      + "\(Wording.size(region.size)), "
      + (isMoved ? "the cell sees it at \(Wording.hex(region.virtualStart)), " : "")
      + (flags.names.isEmpty ? "no rights" : flags.names.joined(separator: " "))
  }
}
