import CellFormat

/// Memory, interrupts and devices.
extension DifferenceCollector {
  private static func fields(_ region: MemoryRegion) -> [Field] {
    [
      ("physical start", Wording.hex(region.physicalStart)),
      ("start in the cell", Wording.hex(region.virtualStart)),
      ("size", "\(Wording.hex(region.size)) (\(Wording.size(region.size)))"),
      ("flags", flagText(region.flags.names)),
    ]
  }

  private static func text(_ region: MemoryRegion) -> String {
    let isMoved = region.virtualStart != region.physicalStart
    return Wording.span(region.physicalStart, region.size)
      + (isMoved ? ", in the cell \(Wording.hex(region.virtualStart))" : "")
      + ", \(Wording.size(region.size)), \(flagText(region.flags.names))"
  }

  private static func place(_ region: MemoryRegion) -> String {
    if region.flags.contains(.commRegion) {
      return "communication region at \(Wording.hex(region.virtualStart))"
    }
    return (region.size == 0 ? "empty region at " : "memory region at ")
      + Wording.hex(region.physicalStart)
  }

  /// Regions that are no sections of a link: those are compared with their link.
  mutating func compareMemory(_ old: CellConfiguration, _ new: CellConfiguration) {
    func others(_ cell: CellConfiguration) -> [MemoryRegion] {
      let sections = LinkEnd.all(of: cell).reduce(into: Set<Int>()) { $0.formUnion($1.regions) }
      return cell.memoryRegions.enumerated().filter { !sections.contains($0.offset) }
        .map(\.element)
    }
    // The communication region has no physical address of its own.
    match(
      others(old), others(new), by: Self.place, place: Self.place, text: Self.text,
      compare: { collector, left, right in
        collector.compare(Self.place(left), Self.fields(left), Self.fields(right))
      })
  }

  mutating func compareInterrupts(_ old: CellConfiguration, _ new: CellConfiguration) {
    struct Controller: Hashable {
      let address: UInt64
      let id: UInt32
    }
    func owned(_ cell: CellConfiguration) -> [Controller: Set<Int>] {
      cell.irqchips.reduce(into: [:]) { sets, chip in
        sets[Controller(address: chip.address, id: chip.id), default: []]
          .formUnion(chip.interruptIDs)
      }
    }
    let (left, right) = (owned(old), owned(new))
    for controller in Set(left.keys).union(right.keys)
      .sorted(by: { ($0.address, $0.id) < ($1.address, $1.id) })
    {
      let (before, after) = (left[controller] ?? [], right[controller] ?? [])
      guard before != after else { continue }
      let number = controller.id == 0 ? "" : " (id \(controller.id))"
      let place = "interrupts at \(Wording.hex(controller.address))\(number)"
      let gone = before.subtracting(after).sorted()
      let come = after.subtracting(before).sorted()
      if !gone.isEmpty { removed(place, Self.interrupts(gone)) }
      if !come.isEmpty { added(place, Self.interrupts(come)) }
    }
  }

  private static func interrupts(_ ids: [Int]) -> String {
    let spis = ids.filter { $0 >= 32 }.map { $0 - 32 }
    return "INTID \(Wording.ranges(ids))"
      + (spis.isEmpty ? "" : " (SPI \(Wording.ranges(spis)))")
  }

  private static func place(_ device: PCIDevice) -> String {
    (device.kind == .ivshmem ? "link " : "PCI device ") + Wording.bdf(device.bdf)
  }

  private static func text(_ cell: CellConfiguration, _ index: Int) -> String {
    let device = cell.pciDevices[index]
    guard device.kind == .ivshmem else { return "type \(device.rawType)" }
    let spans = sections(device, index, cell).regions.filter { $0.size > 0 }.map {
      "\(Wording.span($0.physicalStart, $0.size)) \($0.flags.rights)"
    }
    return Wording.linkProtocol(device.sharedMemoryProtocol)
      + ", peer \(device.sharedMemoryID) of \(device.sharedMemoryPeers), sections "
      + (spans.isEmpty ? "none" : spans.joined(separator: ", "))
  }

  mutating func compareDevices(_ old: CellConfiguration, _ new: CellConfiguration) {
    match(
      Array(old.pciDevices.indices), Array(new.pciDevices.indices).map { ~$0 },
      by: { ($0 >= 0 ? old.pciDevices[$0] : new.pciDevices[~$0]).bdf },
      place: { Self.place($0 >= 0 ? old.pciDevices[$0] : new.pciDevices[~$0]) },
      text: { index in
        index >= 0 ? Self.text(old, index) : Self.text(new, ~index)
      },
      compare: { collector, left, right in
        let (before, after) = (old.pciDevices[left], new.pciDevices[~right])
        let place = Self.place(before)
        collector.compare(place, Self.fields(before), Self.fields(after))
        collector.compareSections(
          place, Self.sections(before, left, old), Self.sections(after, ~right, new))
      })
  }

  private static func fields(_ device: PCIDevice) -> [Field] {
    var fields: [Field] = [
      ("type", device.kind.map { "\($0)" } ?? "unknown type \(device.rawType)"),
      ("domain", "\(device.domain)"), ("IOMMU", "\(device.iommu)"),
      ("first capability", "\(device.capabilitiesStart)"),
      ("number of capabilities", "\(device.capabilityCount)"),
      ("MSI vectors", "\(device.msiVectorCount)"),
      ("MSI bits", Wording.hex(device.msiBits)),
      ("MSI-X vectors", "\(device.msixVectorCount)"),
      ("size of the MSI-X table", "\(device.msixRegionSize)"),
      ("address of the MSI-X table", Wording.hex(device.msixAddress)),
      ("own id", "\(device.sharedMemoryID)"), ("peers", "\(device.sharedMemoryPeers)"),
      (
        "protocol",
        "\(Wording.hex(device.sharedMemoryProtocol)) "
          + "(\(Wording.linkProtocol(device.sharedMemoryProtocol)))"
      ),
    ]
    for (bar, mask) in device.barMasks.enumerated() {
      fields.append(("BAR \(bar) mask", Wording.hex(mask)))
    }
    if device.kind != .ivshmem {
      fields.append(("first region", "\(device.sharedMemoryStart)"))
    }
    return fields
  }

  /// The sections of a link; where the table of regions ends too early, the claim itself.
  private static func sections(
    _ device: PCIDevice, _ index: Int, _ cell: CellConfiguration
  ) -> (regions: [MemoryRegion], cut: String) {
    guard device.kind == .ivshmem else { return ([], "") }
    let end = LinkEnd(index, of: cell)
    let cut = end.isCut ? "first region \(device.sharedMemoryStart), cut off" : "complete"
    return (end.regions.map { cell.memoryRegions[$0] }, cut)
  }

  private mutating func compareSections(
    _ place: String, _ old: (regions: [MemoryRegion], cut: String),
    _ new: (regions: [MemoryRegion], cut: String)
  ) {
    changed(place, "sections", old.cut, new.cut)
    for section in 0..<max(old.regions.count, new.regions.count) {
      let name = "\(place), \(Wording.section(section))"
      switch (section < old.regions.count, section < new.regions.count) {
      case (true, true):
        compare(name, Self.fields(old.regions[section]), Self.fields(new.regions[section]))
      case (true, false): removed(name, Self.text(old.regions[section]))
      default: added(name, Self.text(new.regions[section]))
      }
    }
  }
}
