/// Writes little-endian fields.
struct FieldWriter {
  var bytes: [UInt8] = []

  mutating func word(_ value: some FixedWidthInteger) {
    for index in 0..<value.bitWidth / 8 {
      bytes.append(UInt8(truncatingIfNeeded: value >> (8 * index)))
    }
  }
  /// Exactly `count` bytes: a field has its width whatever the array holds.
  mutating func fixed(_ field: [UInt8], _ count: Int) {
    bytes += field.prefix(count)
    bytes += Array(repeating: 0, count: max(0, count - field.count))
  }
}

extension ConfigurationFile {
  /// The bytes of the file: of a decoded file the very same that were decoded.
  public func encoded() -> [UInt8] {
    var writer = FieldWriter()
    let cell = cell
    let isSystem = if case .system = self { true } else { false }
    switch cell.revision {
    case .thirteen: writer.fixed(Array((isSystem ? "JHSYST" : "JHCELL").utf8), 6)
    case .fourteen:
      writer.fixed(Array((isSystem ? "JHSYS" : "JHCLL").utf8), 5)
      writer.word((cell.architecture ?? .arm64).rawValue)
    }
    writer.word(cell.revision.rawValue)
    if case .system(let system) = self {
      system.encodeHeader(&writer)
      writer.fixed(system.rootSignature, 8)
    }
    cell.encode(&writer)
    return writer.bytes
  }
}

extension SystemConfiguration {
  fileprivate func encodeHeader(_ writer: inout FieldWriter) {
    writer.word(flags)
    hypervisorMemory.encode(&writer)
    debugConsole.encode(&writer)
    writer.word(mmconfigBase)
    writer.word(mmconfigEndBus)
    writer.word(pciIsVirtual)
    writer.word(pciDomain)
    for index in 0..<8 {
      let iommu = index < iommus.count ? iommus[index] : IOMMU()
      writer.word(iommu.type)
      writer.word(iommu.base)
      writer.word(iommu.size)
      writer.fixed(iommu.specific, 12)
    }
    writer.word(maintenanceIRQ)
    writer.word(gicVersion)
    writer.word(padding)
    for base in [gicdBase, giccBase, gichBase, gicvBase, gicrBase] { writer.word(base) }
  }
}

extension CellConfiguration {
  fileprivate func encode(_ writer: inout FieldWriter) {
    writer.fixed(nameBytes, 32)
    writer.word(id)
    writer.word(flags.rawValue)
    for count in [
      cpuSet.count, memoryRegions.count, cacheRegions.count, irqchips.count, portRanges.count,
      pciDevices.count, pciCapabilities.count, streamIDs.count,
    ] { writer.word(UInt32(count)) }
    writer.word(vpciIRQBase)
    writer.word(cpuResetAddress)
    writer.word(messageReplyTimeout)
    console.encode(&writer)
    writer.bytes += cpuSet
    for region in memoryRegions { region.encode(&writer) }
    for cache in cacheRegions {
      writer.word(cache.start)
      writer.word(cache.size)
      writer.word(cache.type)
      writer.word(cache.padding)
      writer.word(cache.flags)
    }
    for chip in irqchips {
      writer.word(chip.address)
      writer.word(chip.id)
      writer.word(chip.pinBase)
      for word in 0..<4 { writer.word(word < chip.pinBitmap.count ? chip.pinBitmap[word] : 0) }
    }
    for range in portRanges {
      writer.word(range.base)
      writer.word(range.length)
    }
    for device in pciDevices { device.encode(&writer) }
    for capability in pciCapabilities {
      writer.word(capability.id)
      writer.word(capability.start)
      writer.word(capability.length)
      writer.word(capability.flags)
    }
    for stream in streamIDs { writer.word(stream) }
  }
}

extension MemoryRegion {
  fileprivate func encode(_ writer: inout FieldWriter) {
    for field in [physicalStart, virtualStart, size, flags.rawValue] { writer.word(field) }
  }
}

extension Console {
  fileprivate func encode(_ writer: inout FieldWriter) {
    writer.word(address)
    writer.word(size)
    writer.word(rawType)
    writer.word(flags)
    writer.word(divider)
    writer.word(gateNumber)
    writer.word(clockRegister)
  }
}

extension PCIDevice {
  fileprivate func encode(_ writer: inout FieldWriter) {
    writer.word(rawType)
    writer.word(iommu)
    writer.word(domain)
    writer.word(bdf)
    for bar in 0..<6 { writer.word(bar < barMasks.count ? barMasks[bar] : 0) }
    writer.word(capabilitiesStart)
    writer.word(capabilityCount)
    writer.word(msiVectorCount)
    writer.word(msiBits)
    writer.word(msixVectorCount)
    writer.word(msixRegionSize)
    writer.word(msixAddress)
    writer.word(sharedMemoryStart)
    writer.word(sharedMemoryID)
    writer.word(sharedMemoryPeers)
    writer.word(sharedMemoryProtocol)
  }
}
