import CellFormat

extension DifferenceCollector {
  mutating func compare(_ left: ConfigurationFile, _ right: ConfigurationFile) {
    func kind(_ file: ConfigurationFile) -> String {
      if case .system = file { "system" } else { "guest cell" }
    }
    changed("file", "kind", kind(left), kind(right))
    compare("file", Self.headFields(left.cell), Self.headFields(right.cell))
    if case .system(let old) = left, case .system(let new) = right {
      compare("system", Self.fields(old), Self.fields(new))
      for slot in 0..<min(old.iommus.count, new.iommus.count) {
        compare("IOMMU \(slot)", Self.fields(old.iommus[slot]), Self.fields(new.iommus[slot]))
      }
      compare(
        "debug console", Self.fields(old.debugConsole), Self.fields(new.debugConsole))
    }
    let (old, new) = (left.cell, right.cell)
    compareMemory(old, new)
    compareInterrupts(old, new)
    compareDevices(old, new)
    compare("console", Self.fields(old.console), Self.fields(new.console))
    compareRest(old, new)
  }

  private static func headFields(_ cell: CellConfiguration) -> [Field] {
    let name = Wording.line(cell.name)
    let rest = cell.nameBytes.dropFirst(cell.name.utf8.count)
    let hasRest = rest.contains { $0 != 0 } || cell.name.contains("\u{fffd}")
    return [
      ("revision", "\(cell.revision.rawValue)"),
      ("architecture", cell.architecture.map { "\($0)" } ?? "not said"),
      ("name", "\"\(name)\""),
      ("name field", hasRest ? hexBytes(cell.nameBytes) : "plain"),
      ("id", "\(cell.id)"),
      ("flags", flagText(cell.flags.names)),
      ("CPUs", Wording.ranges(cell.cpus)),
      ("size of the CPU set", "\(cell.cpuSet.count) bytes"),
      ("start address", Wording.hex(cell.cpuResetAddress)),
      ("message timeout", "\(cell.messageReplyTimeout)"),
      ("virtual PCI interrupt base", "SPI \(cell.vpciIRQBase)"),
    ]
  }

  static func flagText(_ names: [String]) -> String {
    names.isEmpty ? "none" : names.joined(separator: " ")
  }

  static func hexBytes(_ bytes: [UInt8]) -> String {
    bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
  }

  private static func fields(_ system: SystemConfiguration) -> [Field] {
    let memory = system.hypervisorMemory
    return [
      ("flags", Wording.hex(system.flags)),
      ("hypervisor memory", Wording.hex(memory.physicalStart)),
      ("hypervisor memory, virtual start", Wording.hex(memory.virtualStart)),
      ("size of hypervisor memory", Wording.hex(memory.size)),
      ("flags of hypervisor memory", flagText(memory.flags.names)),
      ("ECAM", Wording.hex(system.mmconfigBase)),
      ("last PCI bus", "\(system.mmconfigEndBus)"),
      ("virtual PCI", "\(system.pciIsVirtual)"),
      ("PCI domain", "\(system.pciDomain)"),
      ("maintenance interrupt", "\(system.maintenanceIRQ)"),
      ("GIC version", "\(system.gicVersion)"),
      ("GICD", Wording.hex(system.gicdBase)),
      ("GICC", Wording.hex(system.giccBase)),
      ("GICH", Wording.hex(system.gichBase)),
      ("GICV", Wording.hex(system.gicvBase)),
      ("GICR", Wording.hex(system.gicrBase)),
      ("padding", Wording.hex(system.padding)),
      ("signature of the root cell", hexBytes(system.rootSignature)),
    ]
  }

  private static func fields(_ iommu: IOMMU) -> [Field] {
    [
      ("type", "\(iommu.type)"), ("base", Wording.hex(iommu.base)),
      ("size", Wording.hex(iommu.size)), ("bytes of its type", hexBytes(iommu.specific)),
    ]
  }

  private static func fields(_ console: Console) -> [Field] {
    [
      ("type", Wording.console(console)), ("address", Wording.hex(console.address)),
      ("size", Wording.hex(console.size)), ("flags", flagText(console.flagNameList)),
      ("divider", "\(console.divider)"), ("clock gate", "\(console.gateNumber)"),
      ("clock register", Wording.hex(console.clockRegister)),
    ]
  }

  private mutating func compareRest(_ old: CellConfiguration, _ new: CellConfiguration) {
    func caches(_ cell: CellConfiguration) -> [String] {
      cell.cacheRegions.map {
        "ways \($0.start), \($0.size); type \($0.type); flags \(Wording.hex($0.flags)); "
          + "padding \($0.padding)"
      }
    }
    func ports(_ cell: CellConfiguration) -> [String] {
      cell.portRanges.map { "\(Wording.hex($0.base)), \($0.length) of them" }
    }
    func capabilities(_ cell: CellConfiguration) -> [String] {
      cell.pciCapabilities.map {
        "id \(Wording.hex($0.id)), start \(Wording.hex($0.start)), length \($0.length), "
          + "flags \(Wording.hex($0.flags))"
      }
    }
    compareLists("cache", caches(old), caches(new))
    compareLists("I/O ports", ports(old), ports(new))
    compareLists("PCI capability", capabilities(old), capabilities(new))
    match(
      old.streamIDs, new.streamIDs, by: { $0 }, place: { "stream id \(Wording.hex($0))" },
      text: { "\($0)" }, compare: { _, _, _ in })
  }

  private mutating func compareLists(_ what: String, _ old: [String], _ new: [String]) {
    for index in 0..<max(old.count, new.count) {
      let place = "\(what) \(index)"
      switch (index < old.count, index < new.count) {
      case (true, true): changed(place, "value", old[index], new[index])
      case (true, false): removed(place, old[index])
      default: added(place, new[index])
      }
    }
  }
}
