import CellFormat

/// A section of a link: which link, and which place in it.
struct SectionPlace: Hashable {
  let bdf: UInt16
  /// 0 state table, 1 read/write, 2 and up the output sections.
  let section: Int
}

/// One cell's end of an ivshmem link, with its sections found among the memory regions.
struct LinkEnd {
  let device: PCIDevice
  /// Index of the device among the cell's PCI devices.
  let index: Int
  /// Indices of the sections' regions; shorter than the link has sections when the table of
  /// regions ends before.
  let regions: Range<Int>

  /// The ivshmem devices of a cell.
  static func all(of cell: CellConfiguration) -> [LinkEnd] {
    cell.pciDevices.indices.filter { cell.pciDevices[$0].kind == .ivshmem }
      .map { LinkEnd($0, of: cell) }
  }

  /// The end that PCI device `index` of the cell describes.
  init(_ index: Int, of cell: CellConfiguration) {
    device = cell.pciDevices[index]
    self.index = index
    let count = cell.memoryRegions.count
    let first = min(Int(device.sharedMemoryStart), count)
    let end = min(Int(device.sharedMemoryStart) + device.sharedMemoryRegionCount, count)
    regions = first..<end
  }

  /// Whether some sections would lie behind the last memory region.
  var isCut: Bool { regions.count < device.sharedMemoryRegionCount }
  var name: String { Wording.bdf(device.bdf) }
  /// 0 to 3 for INTA to INTD.
  var pin: Int { device.deviceNumber & 3 }
  /// `INTC`.
  var pinName: String { "INT" + ["A", "B", "C", "D"][pin] }

  /// The SPI of its pin.
  func spi(in cell: CellConfiguration) -> UInt64 { UInt64(cell.vpciIRQBase) + UInt64(pin) }
}

/// What a memory region is for, as far as its flags and the links tell.
enum RegionPurpose: Hashable {
  case section(SectionPlace)
  case commRegion, empty, device, sharedMemory, ram, readOnly, other

  /// The purposes of all memory regions of a cell.
  static func all(of cell: CellConfiguration) -> [RegionPurpose] {
    var places: [Int: SectionPlace] = [:]
    for end in LinkEnd.all(of: cell) {
      for (section, region) in end.regions.enumerated() where places[region] == nil {
        places[region] = SectionPlace(bdf: end.device.bdf, section: section)
      }
    }
    return cell.memoryRegions.enumerated().map { index, region in
      if let place = places[index] { return .section(place) }
      return RegionPurpose(region)
    }
  }

  private init(_ region: MemoryRegion) {
    let flags = region.flags
    if flags.contains(.commRegion) {
      self = .commRegion
    } else if region.size == 0 {
      self = .empty
    } else if flags.contains(.io) {
      self = .device
    } else if flags.contains(.rootShared) {
      self = .sharedMemory
    } else if flags.isSuperset(of: [.read, .write]) {
      self = .ram
    } else {
      self = flags.contains(.read) ? .readOnly : .other
    }
  }

  /// `RAM`, `link 00:02.0 state table`.
  var text: String {
    switch self {
    case .section(let place):
      "link \(Wording.bdf(place.bdf)) \(Wording.section(place.section))"
    case .commRegion: "communication region"
    case .empty: "empty slot"
    case .device: "device registers"
    case .sharedMemory: "memory shared with the root"
    case .ram: "RAM"
    case .readOnly: "read-only memory"
    case .other: "memory"
    }
  }
}
