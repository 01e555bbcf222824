import CellFormat

extension Explanation {
  /// The explanation for people, in the order in which a person asks: what it is, CPUs, memory,
  /// interrupts, links, console, and what else there is. Ends with a newline.
  public var text: String {
    let parts = [
      headLines, system.map(Self.systemLines) ?? [], memoryLines, interruptLines, linkLines,
      deviceLines, consoleLines, otherLines,
    ]
    return parts.filter { !$0.isEmpty }.map { $0.joined(separator: "\n") + "\n" }
      .joined(separator: "\n")
  }

  private var headLines: [String] {
    let what = kind == "system" ? "System configuration with root cell" : "Guest cell"
    let processor = architecture.map { "for \($0), " } ?? ""
    var table = TextTable(indent: 2)
    table.add(
      "CPUs", Wording.ranges(cpus) + (cpuSetBytes == 8 ? "" : " (set of \(cpuSetBytes) bytes)"))
    if kind == "cell" || resetAddress != "0x0" { table.add("start address", resetAddress) }
    for name in flags.names {
      let meaning = CellFlags.named.first { $0.name == name }?.meaning ?? "unknown bits"
      table.add("flag \(name)", meaning)
    }
    if messageReplyTimeout != "0x0" { table.add("message timeout", messageReplyTimeout) }
    if id != 0 { table.add("id", "\(id) (files have 0, the driver sets it)") }
    return [
      "\(file): \(what) \"\(name)\"",
      "  \(processor)format revision \(revision), \(bytes) bytes",
    ] + table.lines
  }

  private static func systemLines(_ system: SystemText) -> [String] {
    var table = TextTable(indent: 2)
    table.add(
      "hypervisor memory", "\(system.hypervisorStart), \(Self.sizeText(system.hypervisorSize))")
    let console = system.debugConsole
    table.add("debug console", "\(console.typeText) at \(console.address)")
    let domain = system.pciDomain == 0xffff ? "chosen by Linux" : "\(system.pciDomain)"
    table.add(
      "PCI",
      "\(system.pciIsVirtual ? "virtual" : "physical") host bridge, ECAM \(system.ecam), "
        + "buses 0-\(system.lastBus), domain \(domain)")
    let bases = [
      ("GICD", system.gicd), ("GICR", system.gicr), ("GICC", system.gicc), ("GICH", system.gich),
      ("GICV", system.gicv),
    ].filter { $0.1 != "0x0" }.map { "\($0.0) \($0.1)" }
    table.add(
      "interrupt controller",
      "GICv\(system.gicVersion), \(bases.joined(separator: ", ")), "
        + "maintenance interrupt \(system.maintenanceInterrupt)")
    for iommu in system.iommus {
      table.add(
        "IOMMU \(iommu.slot)", "type \(iommu.type) at \(iommu.base), \(sizeText(iommu.size))")
    }
    if !system.flags.names.isEmpty {
      table.add("flags", system.flags.names.joined(separator: " "))
    }
    return ["System"] + table.lines
  }

  /// `4 MiB` from `0x400000`.
  private static func sizeText(_ hex: String) -> String {
    Wording.size(UInt64(hex.dropFirst(2), radix: 16) ?? 0)
  }

  private var memoryLines: [String] {
    let empty = memory.count { $0.size == "0x0" }
    var table = TextTable(indent: 2)
    if !memory.isEmpty { table.add("#", "physical", "in the cell", "size", "for what", "flags") }
    for region in memory {
      let start = UInt64(region.physicalStart.dropFirst(2), radix: 16) ?? 0
      let size = UInt64(region.size.dropFirst(2), radix: 16) ?? 0
      let isComm = region.flags.names.contains("COMM_REGION")
      guard size > 0 || start > 0 else {
        table.add("\(region.index)", "-", "-", "empty", region.purpose)
        continue
      }
      table.add(
        "\(region.index)", isComm ? "given by the hypervisor" : Wording.span(start, size),
        region.cellStart == region.physicalStart ? "same" : region.cellStart, region.sizeText,
        region.purpose, region.flags.names.joined(separator: " "))
    }
    var lines = ["Memory: \(memory.count) regions" + (empty > 0 ? ", \(empty) of them empty" : "")]
    lines += table.lines
    if kind == "cell" {
      lines.append("  RAM for Linux (READ WRITE EXECUTE DMA): \(Self.sizeText(linuxMemory))")
    }
    let used = Set(memory.flatMap(\.flags.names))
    let meanings = MemoryFlags.named.filter { used.contains($0.name) }
    guard !meanings.isEmpty else { return lines }
    var legend = TextTable(indent: 4)
    for flag in meanings { legend.add(flag.name, flag.meaning) }
    return lines + ["  The flags:"] + legend.lines
  }

  private var interruptLines: [String] {
    var table = TextTable(indent: 2)
    let ids = Wording.ranges(interrupts.spis.map { $0 + 32 })
    let spis = Wording.ranges(interrupts.spis)
    table.add("owned", "SPI \(spis)" + (interrupts.spis.isEmpty ? "" : " (INTID \(ids))"))
    if !interrupts.privateInterrupts.isEmpty {
      table.add("private", "INTID \(Wording.ranges(interrupts.privateInterrupts))")
    }
    let base = interrupts.virtualPCIBase
    if base != 0 || !links.isEmpty {
      table.add(
        "virtual PCI",
        "INTA to INTD are SPI \(base)-\(base + 3) (INTID \(base + 32)-\(base + 35))")
    }
    for chip in interrupts.irqchips {
      table.add(
        "irqchip",
        "\(chip.address), pins from INTID \(chip.pinBase): "
          + (chip.interruptIDs.isEmpty ? "none" : Wording.ranges(chip.interruptIDs)))
    }
    return ["Interrupts"] + table.lines
  }

  private var linkLines: [String] {
    guard !links.isEmpty else { return ["Links: none"] }
    return ["Links: \(links.count)"] + links.flatMap(Self.lines)
  }

  private static func lines(_ link: Link) -> [String] {
    var table = TextTable(indent: 4)
    table.add("peer", "\(link.id) of \(link.peerCount)")
    let owner = link.ownsInterrupt ? "owned by the cell" : "NOT owned by the cell"
    table.add("interrupt", "\(link.pin), SPI \(link.spi) (INTID \(link.interruptID)), \(owner)")
    if link.msixVectors > 0 { table.add("MSI-X", "\(link.msixVectors) vectors") }
    for (place, section) in link.sections.enumerated() {
      let name = section.name + (place == link.id + 2 ? " (own)" : "")
      guard section.size != "0x0" else {
        table.add(name, "empty (region \(section.region))")
        continue
      }
      let isSame = section.cellStart == section.physicalStart
      let names = section.flags.names.filter { ["READ", "WRITE", "EXECUTE"].contains($0) }
      table.add(
        name, section.physicalStart + (isSame ? "" : ", in the cell \(section.cellStart)"),
        section.sizeText, names.isEmpty ? "no rights" : names.joined(separator: " "))
    }
    if link.isCut {
      table.add("cut off", "\(link.sections.count) of \(link.peerCount + 2) sections exist")
    }
    for peer in link.peers {
      let place = peer.hasSameAddresses ? "same addresses" : "OTHER ADDRESSES"
      table.add("peer \(peer.id) is", "\(peer.cell) (\(peer.file)), \(peer.protocolText), \(place)")
    }
    return [
      "  \(link.bdf)  \(link.protocolText) (protocol \(link.protocol)), domain \(link.domain)"
    ] + table.lines
  }

  private var deviceLines: [String] {
    guard !pciDevices.isEmpty else { return [] }
    var table = TextTable(indent: 2)
    for device in pciDevices {
      let type = PCIDevice.Kind(rawValue: UInt8(clamping: device.type)).map { "\($0)" }
      table.add(
        device.bdf, type ?? "unknown type \(device.type)", "domain \(device.domain)",
        "\(device.capabilities.count) capabilities", "\(device.msiVectors) MSI",
        "\(device.msixVectors) MSI-X")
    }
    return ["Physical PCI devices: \(pciDevices.count)"] + table.lines
  }

  private var consoleLines: [String] {
    guard let console else { return ["Console: none named"] }
    var line = "Console: \(console.typeText) at \(console.address), \(Self.sizeText(console.size))"
    if !console.flags.names.isEmpty { line += ", " + console.flags.names.joined(separator: " ") }
    if console.divider != 0 { line += ", divider \(console.divider)" }
    if console.clockRegister != "0x0" {
      line += ", clock gate \(console.clockGate) at \(console.clockRegister)"
    }
    return [line]
  }

  private var otherLines: [String] {
    var lines: [String] = []
    if !streamIDs.isEmpty { lines.append("Stream ids: \(streamIDs.joined(separator: ", "))") }
    for cache in caches { lines.append("Cache: ways from \(cache.start), \(cache.size) of them") }
    for range in ports { lines.append("I/O ports: \(range.base), \(range.length) of them") }
    return lines
  }
}
