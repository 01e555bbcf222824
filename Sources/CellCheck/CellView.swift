import CellFormat

/// The INTIDs that the irqchip entries of a cell claim: 1024 bits.
struct InterruptSet: Hashable {
  private(set) var words = [UInt32](repeating: 0, count: 32)

  /// Adds an entry whose pin base is a multiple of 32 and whose end is below 1024; others are
  /// reported (E22) and do not count.
  mutating func add(_ chip: IRQChip) {
    guard chip.pinBase % 32 == 0, chip.pinBase <= 896 else { return }
    for word in 0..<min(4, chip.pinBitmap.count) {
      words[Int(chip.pinBase) / 32 + word] |= chip.pinBitmap[word]
    }
  }

  func contains(_ interrupt: Int) -> Bool {
    interrupt >= 0 && interrupt < 1024 && words[interrupt / 32] >> UInt32(interrupt % 32) & 1 != 0
  }

  /// The SPI numbers (INTID - 32) that are in both sets, ascending.
  func commonSPIs(_ other: InterruptSet) -> [Int] {
    (1..<32).flatMap { word in
      let both = words[word] & other.words[word]
      return both == 0
        ? [] : (0..<32).filter { both >> UInt32($0) & 1 != 0 }.map { word * 32 + $0 - 32 }
    }
  }
}

/// One cell's end of an ivshmem link.
struct Endpoint {
  /// Index of the device among the cell's PCI devices.
  let deviceIndex: Int
  let device: PCIDevice
  /// Index of the state table among the memory regions.
  let firstRegion: Int
  /// The sections that exist: all of them when `isComplete`.
  let sections: [MemoryRegion]
  let isComplete: Bool
  /// Regions behind the sections that would be output sections if this end named as many peers as
  /// another end of the link does (E11).
  let missedSections: [MemoryRegion]

  init(_ device: PCIDevice, index: Int, in cell: CellConfiguration, peersElsewhere: Int) {
    self.device = device
    deviceIndex = index
    firstRegion = Int(device.sharedMemoryStart)
    let end = firstRegion + device.sharedMemoryRegionCount
    isComplete = end <= cell.memoryRegions.count
    let from = min(firstRegion, cell.memoryRegions.count)
    let to = min(end, cell.memoryRegions.count)
    sections = Array(cell.memoryRegions[from..<to])
    let missed = max(0, min(peersElsewhere, 12) - Int(device.sharedMemoryPeers))
    let behind = cell.memoryRegions[to..<min(to + missed, cell.memoryRegions.count)]
    missedSections = Array(behind.prefix { $0.flags.contains(.rootShared) || $0.size == 0 })
  }

  var id: Int { Int(device.sharedMemoryID) }
  var peers: Int { Int(device.sharedMemoryPeers) }
  var isVirtio: Bool { device.sharedMemoryProtocol >= 0x8000 }
  /// `00:01.0`.
  var name: String { bdfText(device.bdf) }
}

/// Bus, device and function as Linux writes them.
func bdfText(_ bdf: UInt16) -> String {
  func two(_ value: UInt16) -> String { (value < 16 ? "0" : "") + String(value, radix: 16) }
  return "\(two(bdf >> 8)):\(two(bdf >> 3 & 31)).\(bdf & 7)"
}

/// The name of a section by its place in the link.
func sectionName(_ section: Int) -> String {
  switch section {
  case 0: "state table"
  case 1: "R/W section"
  default: "output section \(section - 2)"
  }
}

/// A cell as the rules look at it: with its links found, and with the places of its elements in
/// the file.
struct CellView {
  /// Position in `Checker.cells`.
  let index: Int
  let file: String
  let name: String
  let isRoot: Bool
  let cell: CellConfiguration
  let endpoints: [Endpoint]
  /// The first endpoint (index into `endpoints`) at a BDF.
  let endpointAtBDF: [UInt16: Int]
  /// Which endpoint (index into `endpoints`) a memory region belongs to.
  let endpointOfRegion: [Int: Int]
  /// The INTIDs the cell owns: of entries that name the distributor.
  let interrupts: InterruptSet
  let tree: CellSet.Tree?

  init(
    index: Int, member: CellSet.Member, distributor: UInt64?, tree: CellSet.Tree?,
    peers: [UInt16: Int] = [:]
  ) {
    self.index = index
    self.tree = tree
    file = member.file
    cell = member.configuration.cell
    name = cell.name
    if case .system = member.configuration { isRoot = true } else { isRoot = false }
    let cell = cell
    endpoints = cell.pciDevices.enumerated().filter { $0.element.kind == .ivshmem }
      .map {
        Endpoint(
          $0.element, index: $0.offset, in: cell, peersElsewhere: peers[$0.element.bdf] ?? 0)
      }
    var owners: [Int: Int] = [:]
    for (number, endpoint) in endpoints.enumerated() {
      for section in endpoint.sections.indices {
        owners[endpoint.firstRegion + section] = owners[endpoint.firstRegion + section] ?? number
      }
    }
    for (number, endpoint) in endpoints.enumerated() {
      for missed in endpoint.missedSections.indices {
        let region = endpoint.firstRegion + endpoint.sections.count + missed
        owners[region] = owners[region] ?? number
      }
    }
    endpointOfRegion = owners
    endpointAtBDF = Dictionary(
      endpoints.enumerated().map { ($0.element.device.bdf, $0.offset) },
      uniquingKeysWith: { first, _ in first })
    var interrupts = InterruptSet()
    for chip in cell.irqchips where distributor == nil || chip.address == distributor {
      interrupts.add(chip)
    }
    self.interrupts = interrupts
  }

  /// Offset of the cpu set in the file.
  private var arraysStart: Int { (isRoot ? 488 : 132) + cell.cpuSet.count }
  private var irqchipsStart: Int {
    arraysStart + 32 * cell.memoryRegions.count + 12 * cell.cacheRegions.count
  }
  private var devicesStart: Int {
    irqchipsStart + 32 * cell.irqchips.count + 4 * cell.portRanges.count
  }

  /// `memory region 12 (offset 0x3f4)`.
  func place(region: Int) -> String {
    var text = "memory region \(region) (offset \(hex(arraysStart + 32 * region)))"
    if let number = endpointOfRegion[region] {
      let endpoint = endpoints[number]
      text += ", \(sectionName(region - endpoint.firstRegion)) of link \(endpoint.name)"
    }
    return text
  }

  /// `irqchip 1 (offset 0x514)`.
  func place(irqchip: Int) -> String {
    "irqchip \(irqchip) (offset \(hex(irqchipsStart + 32 * irqchip)))"
  }

  /// `link 00:01.0, pci_device 1 (offset 0x61c)`.
  func place(_ endpoint: Endpoint) -> String {
    "link \(endpoint.name), \(place(device: endpoint.deviceIndex))"
  }

  /// `pci_device 1 (offset 0x61c)`.
  func place(device: Int) -> String {
    "pci_device \(device) (offset \(hex(devicesStart + 56 * device)))"
  }

  /// The regions as spans of physical addresses, empty ones and the communication region (whose
  /// physical address nobody reads) left out.
  var physicalSpans: [(index: Int, span: Span)] {
    cell.memoryRegions.enumerated().compactMap { index, region in
      guard !region.flags.contains(.commRegion) else { return nil }
      return Span(region.physicalStart, region.size).map { (index, $0) }
    }
  }

  /// The regions as the cell sees them, empty ones left out.
  var virtualSpans: [(index: Int, span: Span)] {
    cell.memoryRegions.enumerated().compactMap { index, region in
      Span(region.virtualStart, region.size).map { (index, $0) }
    }
  }

  /// The INTID of a device's INTx pin.
  func interrupt(of device: PCIDevice) -> Int {
    32 + Int(cell.vpciIRQBase) + (device.deviceNumber & 3)
  }

  /// Whether Linux looks meant to run here: there is a tree, or memory as only an operating system
  /// needs it in a cell that is called so, or whose CPU starts outside it, in the small region of
  /// the loader.
  var looksLikeLinux: Bool {
    guard !isRoot else { return false }
    if tree != nil { return true }
    let plain = cell.memoryRegions.filter(\.isPlainMemory)
    guard plain.contains(where: { $0.size >= 16 << 20 }) else { return false }
    if name.lowercased().contains("linux") { return true }
    return plain.contains { region in
      region.size <= 1 << 20
        && Span(region.virtualStart, region.size)?.contains(cell.cpuResetAddress) ?? false
    }
  }
}

extension MemoryRegion {
  /// Readable, writable and executable, and neither device, nor shared, nor the communication
  /// region: what a program would run in.
  var isPlainMemory: Bool {
    flags.isSuperset(of: [.read, .write, .execute])
      && flags.isDisjoint(with: [.io, .commRegion, .rootShared])
  }
}
