import CellFormat

/// The published structures of revision 14, spelled out as numbers and on purpose without any
/// use of the decoder's own: where a field lies, how wide it is, and where it has to show up.
enum PublishedLayout {
  /// One field of a structure.
  struct Field {
    let offset: Int
    let width: Int
    let name: String
    let value: @Sendable (ConfigurationFile) -> UInt64

    init(
      _ offset: Int, _ width: Int, _ name: String,
      _ value: @escaping @Sendable (ConfigurationFile) -> UInt64
    ) {
      self.offset = offset
      self.width = width
      self.name = name
      self.value = value
    }
  }

  /// Bytes as one little-endian number; of more than 8 bytes the exclusive or of the words.
  static func number(_ bytes: some Sequence<UInt8>) -> UInt64 {
    bytes.enumerated().reduce(0) { $0 ^ UInt64($1.element) << UInt64($1.offset % 8 * 8) }
  }

  /// cell_desc, 132 bytes, without signature, revision and the counts at 0x30 to 0x50.
  static let cell: [Field] =
    [
      Field(0x08, 32, "name") { number($0.cell.nameBytes) },
      Field(0x28, 4, "id") { UInt64($0.cell.id) },
      Field(0x2c, 4, "flags") { UInt64($0.cell.flags.rawValue) },
      Field(0x50, 4, "vpci_irq_base") { UInt64($0.cell.vpciIRQBase) },
      Field(0x54, 8, "cpu_reset_address") { $0.cell.cpuResetAddress },
      Field(0x5c, 8, "msg_reply_timeout") { $0.cell.messageReplyTimeout },
    ] + console(0x64) { $0.cell.console }

  static func console(
    _ at: Int, _ get: @escaping @Sendable (ConfigurationFile) -> Console
  ) -> [Field] {
    [
      Field(at, 8, "console.address") { get($0).address },
      Field(at + 8, 4, "console.size") { UInt64(get($0).size) },
      Field(at + 12, 2, "console.type") { UInt64(get($0).rawType) },
      Field(at + 14, 2, "console.flags") { UInt64(get($0).flags) },
      Field(at + 16, 4, "console.divider") { UInt64(get($0).divider) },
      Field(at + 20, 4, "console.gate_nr") { UInt64(get($0).gateNumber) },
      Field(at + 24, 8, "console.clock_reg") { get($0).clockRegister },
    ]
  }

  static func memory(
    _ at: Int, _ get: @escaping @Sendable (ConfigurationFile) -> MemoryRegion
  ) -> [Field] {
    [
      Field(at, 8, "phys_start") { get($0).physicalStart },
      Field(at + 8, 8, "virt_start") { get($0).virtualStart },
      Field(at + 16, 8, "size") { get($0).size },
      Field(at + 24, 8, "flags") { get($0).flags.rawValue },
    ]
  }

  static func cache(_ at: Int, _ index: Int) -> [Field] {
    [
      Field(at, 4, "cache.start") { UInt64($0.cell.cacheRegions[index].start) },
      Field(at + 4, 4, "cache.size") { UInt64($0.cell.cacheRegions[index].size) },
      Field(at + 8, 1, "cache.type") { UInt64($0.cell.cacheRegions[index].type) },
      Field(at + 9, 1, "cache.padding") { UInt64($0.cell.cacheRegions[index].padding) },
      Field(at + 10, 2, "cache.flags") { UInt64($0.cell.cacheRegions[index].flags) },
    ]
  }

  static func irqchip(_ at: Int, _ index: Int) -> [Field] {
    [
      Field(at, 8, "irqchip.address") { $0.cell.irqchips[index].address },
      Field(at + 8, 4, "irqchip.id") { UInt64($0.cell.irqchips[index].id) },
      Field(at + 12, 4, "irqchip.pin_base") { UInt64($0.cell.irqchips[index].pinBase) },
    ]
      + (0..<4).map { word in
        Field(at + 16 + 4 * word, 4, "irqchip.pin_bitmap[\(word)]") {
          UInt64($0.cell.irqchips[index].pinBitmap[word])
        }
      }
  }

  static func port(_ at: Int, _ index: Int) -> [Field] {
    [
      Field(at, 2, "pio.base") { UInt64($0.cell.portRanges[index].base) },
      Field(at + 2, 2, "pio.length") { UInt64($0.cell.portRanges[index].length) },
    ]
  }

  static func device(_ at: Int, _ index: Int) -> [Field] {
    @Sendable func device(_ file: ConfigurationFile) -> PCIDevice { file.cell.pciDevices[index] }
    return [
      Field(at, 1, "type") { UInt64(device($0).rawType) },
      Field(at + 1, 1, "iommu") { UInt64(device($0).iommu) },
      Field(at + 2, 2, "domain") { UInt64(device($0).domain) },
      Field(at + 4, 2, "bdf") { UInt64(device($0).bdf) },
      Field(at + 0x1e, 2, "caps_start") { UInt64(device($0).capabilitiesStart) },
      Field(at + 0x20, 2, "num_caps") { UInt64(device($0).capabilityCount) },
      Field(at + 0x22, 1, "num_msi_vectors") { UInt64(device($0).msiVectorCount) },
      Field(at + 0x23, 1, "msi bits") { UInt64(device($0).msiBits) },
      Field(at + 0x24, 2, "num_msix_vectors") { UInt64(device($0).msixVectorCount) },
      Field(at + 0x26, 2, "msix_region_size") { UInt64(device($0).msixRegionSize) },
      Field(at + 0x28, 8, "msix_address") { device($0).msixAddress },
      Field(at + 0x30, 4, "shmem_regions_start") { UInt64(device($0).sharedMemoryStart) },
      Field(at + 0x34, 1, "shmem_dev_id") { UInt64(device($0).sharedMemoryID) },
      Field(at + 0x35, 1, "shmem_peers") { UInt64(device($0).sharedMemoryPeers) },
      Field(at + 0x36, 2, "shmem_protocol") { UInt64(device($0).sharedMemoryProtocol) },
    ]
      + (0..<6).map { bar in
        Field(at + 6 + 4 * bar, 4, "bar_mask[\(bar)]") { UInt64(device($0).barMasks[bar]) }
      }
  }

  static func capability(_ at: Int, _ index: Int) -> [Field] {
    [
      Field(at, 2, "cap.id") { UInt64($0.cell.pciCapabilities[index].id) },
      Field(at + 2, 2, "cap.start") { UInt64($0.cell.pciCapabilities[index].start) },
      Field(at + 4, 2, "cap.len") { UInt64($0.cell.pciCapabilities[index].length) },
      Field(at + 6, 2, "cap.flags") { UInt64($0.cell.pciCapabilities[index].flags) },
    ]
  }

  /// jailhouse_system up to its embedded cell_desc at 0x164, without signature and revision.
  static let system: [Field] = {
    @Sendable func system(_ file: ConfigurationFile) -> SystemConfiguration {
      guard case .system(let system) = file else { return SystemConfiguration() }
      return system
    }
    var fields = [
      Field(0x08, 4, "flags") { UInt64(system($0).flags) },
      Field(0x4c, 8, "pci_mmconfig_base") { system($0).mmconfigBase },
      Field(0x54, 1, "pci_mmconfig_end_bus") { UInt64(system($0).mmconfigEndBus) },
      Field(0x55, 1, "pci_is_virtual") { UInt64(system($0).pciIsVirtual) },
      Field(0x56, 2, "pci_domain") { UInt64(system($0).pciDomain) },
      Field(0x138, 1, "maintenance_irq") { UInt64(system($0).maintenanceIRQ) },
      Field(0x139, 1, "gic_version") { UInt64(system($0).gicVersion) },
      Field(0x13a, 2, "padding") { UInt64(system($0).padding) },
      Field(0x13c, 8, "gicd_base") { system($0).gicdBase },
      Field(0x144, 8, "gicc_base") { system($0).giccBase },
      Field(0x14c, 8, "gich_base") { system($0).gichBase },
      Field(0x154, 8, "gicv_base") { system($0).gicvBase },
      Field(0x15c, 8, "gicr_base") { system($0).gicrBase },
      Field(0x164, 8, "root cell signature") { number(system($0).rootSignature) },
    ]
    fields += memory(0x0c) { system($0).hypervisorMemory }
    fields += console(0x2c) { system($0).debugConsole }
    for slot in 0..<8 {
      let at = 0x58 + 28 * slot
      fields += [
        Field(at, 4, "iommu[\(slot)].type") { UInt64(system($0).iommus[slot].type) },
        Field(at + 4, 8, "iommu[\(slot)].base") { system($0).iommus[slot].base },
        Field(at + 12, 4, "iommu[\(slot)].size") { UInt64(system($0).iommus[slot].size) },
        Field(at + 16, 12, "iommu[\(slot)].union") { number(system($0).iommus[slot].specific) },
      ]
    }
    return fields
  }()
}
