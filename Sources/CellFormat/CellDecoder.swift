/// Why a file is no cell configuration: what was seen, what was expected, and where.
public struct FormatError: Error, Hashable, Sendable {
  /// The rule: `E01` (signature, revision, architecture) or `E02` (length).
  public let rule: String
  /// Offset in the file.
  public let offset: Int
  /// One line.
  public let message: String
}

/// Reads little-endian fields; no count or offset of the file is trusted.
struct FieldReader {
  let bytes: [UInt8]
  var offset = 0

  mutating func take(_ count: Int, _ what: String) throws(FormatError) -> ArraySlice<UInt8> {
    guard count <= bytes.count - offset else {
      throw FormatError(
        rule: "E02", offset: offset,
        message: "\(what) needs \(count) bytes at offset \(offset), the file has "
          + "\(bytes.count - offset) left; it was cut off, or a count in its header is wrong")
    }
    defer { offset += count }
    return bytes[offset..<offset + count]
  }

  mutating func word<Word: FixedWidthInteger>(_ what: String) throws(FormatError) -> Word {
    let slice = try take(Word.bitWidth / 8, what)
    return slice.reversed().reduce(Word(0)) { $0 << 8 | Word(truncatingIfNeeded: $1) }
  }
}

extension ConfigurationFile {
  static let systemSize = 488
  static let cellSize = 132

  /// Decodes a `.cell` file; every byte has to be accounted for.
  public init(decoding bytes: [UInt8]) throws(FormatError) {
    var reader = FieldReader(bytes: bytes)
    let head = try reader.take(8, "the signature")
    let start = Array(head)
    func text(_ count: Int) -> String { String(decoding: start.prefix(count), as: UTF8.self) }
    let revision = UInt16(start[6]) | UInt16(start[7]) << 8
    let isSystem: Bool
    var architecture: Architecture?
    switch (text(5), text(6)) {
    case (_, "JHSYST"), (_, "JHCELL"):
      isSystem = text(6) == "JHSYST"
      guard revision == 13 else { throw Self.wrongRevision(revision, expected: 13) }
    case ("JHSYS", _), ("JHCLL", _):
      isSystem = text(5) == "JHSYS"
      guard revision == 14 else { throw Self.wrongRevision(revision, expected: 14) }
      guard let known = Architecture(rawValue: start[5]) else {
        throw FormatError(
          rule: "E01", offset: 5,
          message: "architecture \(start[5]); known are 0 x86, 1 arm, 2 arm64")
      }
      architecture = known
    default:
      let seen = start.prefix(6).map { byte in
        (0x20..<0x7f).contains(byte) ? String(UnicodeScalar(byte)) : "."
      }.joined()
      throw FormatError(
        rule: "E01", offset: 0,
        message: "the file starts with \"\(seen)\", not with JHSYS or JHCLL (revision 14), "
          + "JHSYST or JHCELL (revision 13): no Jailhouse configuration")
    }
    let kind: FormatRevision = revision == 13 ? .thirteen : .fourteen
    if isSystem {
      var system = SystemConfiguration()
      try system.decodeHeader(&reader)
      system.rootSignature = Array(try reader.take(8, "the root cell's signature"))
      system.rootCell.revision = kind
      system.rootCell.architecture = architecture
      try system.rootCell.decode(&reader)
      self = .system(system)
    } else {
      var cell = CellConfiguration()
      cell.revision = kind
      cell.architecture = architecture
      try cell.decode(&reader)
      self = .cell(cell)
    }
    guard reader.offset == bytes.count else {
      throw FormatError(
        rule: "E02", offset: reader.offset,
        message: "\(bytes.count - reader.offset) bytes behind the last array; a count in the "
          + "header is wrong, or something was appended")
    }
  }

  private static func wrongRevision(_ seen: UInt16, expected: UInt16) -> FormatError {
    FormatError(
      rule: "E01", offset: 6,
      message: "revision \(seen) with a signature of revision \(expected); 13 and 14 can be read: "
        + "build the configuration again with a Jailhouse of that age")
  }
}

extension SystemConfiguration {
  fileprivate mutating func decodeHeader(_ reader: inout FieldReader) throws(FormatError) {
    flags = try reader.word("flags")
    hypervisorMemory = try MemoryRegion(&reader, "hypervisor_memory")
    debugConsole = try Console(&reader, "debug_console")
    mmconfigBase = try reader.word("pci_mmconfig_base")
    mmconfigEndBus = try reader.word("pci_mmconfig_end_bus")
    pciIsVirtual = try reader.word("pci_is_virtual")
    pciDomain = try reader.word("pci_domain")
    for index in iommus.indices {
      iommus[index].type = try reader.word("iommu type")
      iommus[index].base = try reader.word("iommu base")
      iommus[index].size = try reader.word("iommu size")
      iommus[index].specific = Array(try reader.take(12, "iommu"))
    }
    maintenanceIRQ = try reader.word("maintenance_irq")
    gicVersion = try reader.word("gic_version")
    padding = try reader.word("padding")
    gicdBase = try reader.word("gicd_base")
    giccBase = try reader.word("gicc_base")
    gichBase = try reader.word("gich_base")
    gicvBase = try reader.word("gicv_base")
    gicrBase = try reader.word("gicr_base")
  }
}

extension CellConfiguration {
  /// Decodes what follows the 8 bytes of signature, architecture and revision.
  fileprivate mutating func decode(_ reader: inout FieldReader) throws(FormatError) {
    nameBytes = Array(try reader.take(32, "the name"))
    id = try reader.word("id")
    flags = CellFlags(rawValue: try reader.word("flags"))
    let cpuSetSize: UInt32 = try reader.word("cpu_set_size")
    let memoryCount: UInt32 = try reader.word("num_memory_regions")
    let cacheCount: UInt32 = try reader.word("num_cache_regions")
    let irqchipCount: UInt32 = try reader.word("num_irqchips")
    let portCount: UInt32 = try reader.word("num_pio_regions")
    let deviceCount: UInt32 = try reader.word("num_pci_devices")
    let capabilityCount: UInt32 = try reader.word("num_pci_caps")
    let streamCount: UInt32 = try reader.word("num_stream_ids")
    vpciIRQBase = try reader.word("vpci_irq_base")
    cpuResetAddress = try reader.word("cpu_reset_address")
    messageReplyTimeout = try reader.word("msg_reply_timeout")
    console = try Console(&reader, "console")
    cpuSet = Array(try reader.take(Int(cpuSetSize), "the cpu set"))
    // The length is checked before the loop, so that a wrong count ends here and not after
    // four thousand million elements.
    try reader.expect(memoryCount, 32, "memory regions")
    for _ in 0..<memoryCount { memoryRegions.append(try MemoryRegion(&reader, "a memory region")) }
    try reader.expect(cacheCount, 12, "cache regions")
    for _ in 0..<cacheCount {
      var cache = CacheRegion()
      cache.start = try reader.word("cache")
      cache.size = try reader.word("cache")
      cache.type = try reader.word("cache")
      cache.padding = try reader.word("cache")
      cache.flags = try reader.word("cache")
      cacheRegions.append(cache)
    }
    try reader.expect(irqchipCount, 32, "irqchips")
    for _ in 0..<irqchipCount {
      var chip = IRQChip()
      chip.address = try reader.word("irqchip")
      chip.id = try reader.word("irqchip")
      chip.pinBase = try reader.word("irqchip")
      for word in 0..<4 { chip.pinBitmap[word] = try reader.word("irqchip") }
      irqchips.append(chip)
    }
    try reader.expect(portCount, 4, "port ranges")
    for _ in 0..<portCount {
      var range = PortRange()
      range.base = try reader.word("pio")
      range.length = try reader.word("pio")
      portRanges.append(range)
    }
    try reader.expect(deviceCount, 56, "PCI devices")
    for _ in 0..<deviceCount { pciDevices.append(try PCIDevice(&reader)) }
    try reader.expect(capabilityCount, 8, "PCI capabilities")
    for _ in 0..<capabilityCount {
      var capability = PCICapability()
      capability.id = try reader.word("capability")
      capability.start = try reader.word("capability")
      capability.length = try reader.word("capability")
      capability.flags = try reader.word("capability")
      pciCapabilities.append(capability)
    }
    try reader.expect(streamCount, 4, "stream ids")
    for _ in 0..<streamCount { streamIDs.append(try reader.word("stream id")) }
  }
}

extension FieldReader {
  func expect(_ count: UInt32, _ size: Int, _ what: String) throws(FormatError) {
    let need = Int(count) * size
    guard need <= bytes.count - offset else {
      throw FormatError(
        rule: "E02", offset: offset,
        message: "\(count) \(what) need \(need) bytes at offset \(offset), the file has "
          + "\(bytes.count - offset) left; it was cut off, or the count is wrong")
    }
  }
}

extension MemoryRegion {
  init(_ reader: inout FieldReader, _ what: String) throws(FormatError) {
    let physical: UInt64 = try reader.word(what)
    let virtual: UInt64 = try reader.word(what)
    let size: UInt64 = try reader.word(what)
    self.init(
      physicalStart: physical, virtualStart: virtual, size: size,
      flags: MemoryFlags(rawValue: try reader.word(what)))
  }
}

extension Console {
  init(_ reader: inout FieldReader, _ what: String) throws(FormatError) {
    self.init()
    address = try reader.word(what)
    size = try reader.word(what)
    rawType = try reader.word(what)
    flags = try reader.word(what)
    divider = try reader.word(what)
    gateNumber = try reader.word(what)
    clockRegister = try reader.word(what)
  }
}

extension PCIDevice {
  init(_ reader: inout FieldReader) throws(FormatError) {
    self.init()
    let what = "a PCI device"
    rawType = try reader.word(what)
    iommu = try reader.word(what)
    domain = try reader.word(what)
    bdf = try reader.word(what)
    for bar in barMasks.indices { barMasks[bar] = try reader.word(what) }
    capabilitiesStart = try reader.word(what)
    capabilityCount = try reader.word(what)
    msiVectorCount = try reader.word(what)
    msiBits = try reader.word(what)
    msixVectorCount = try reader.word(what)
    msixRegionSize = try reader.word(what)
    msixAddress = try reader.word(what)
    sharedMemoryStart = try reader.word(what)
    sharedMemoryID = try reader.word(what)
    sharedMemoryPeers = try reader.word(what)
    sharedMemoryProtocol = try reader.word(what)
  }
}
