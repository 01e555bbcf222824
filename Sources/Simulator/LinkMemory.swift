import CLinux
import IVShmem
import LinuxSupport
import SharedMemory

/// The shared memory of a link: sections with a descriptor each, so that the kernel enforces their
/// rights; or, as soon as a virtual machine is a peer, all of them in one.
///
/// A machine has one BAR for all sections and maps it by one descriptor. Whoever holds that may map
/// all of it for writing: rights then hold for those who keep to them.
@safe
final class LinkMemory {
  let states: Section
  /// The read/write section if there is one, then the output sections.
  let sections: [Section]
  /// All sections, as a machine maps them; `nil` without machines.
  let whole: SectionBacking?
  private let geometry: LinkGeometry

  init(_ geometry: LinkGeometry, for options: SimulatorOptions) throws(SystemError) {
    self.geometry = geometry
    let peers = Int(geometry.maxPeers)
    var parts: [Range<Int>] = []
    if geometry.readWriteSize > 0 { parts.append(geometry.readWrite) }
    if geometry.outputSize > 0 {
      for peer in 0..<peers { parts.append(geometry.output(of: PeerID(UInt16(peer)))) }
    }
    let stateTable = 0..<geometry.stateTableSize
    guard !options.machines.isEmpty || options.memoryPath != nil else {
      whole = nil
      states = try Section(name: "state-table", size: stateTable.count)
      try states.seal(forbidsWriters: true)
      var sections: [Section] = []
      for part in parts {
        let section = try Section(
          name: part == geometry.readWrite ? "rw" : "output", size: part.count)
        try section.seal(forbidsWriters: false)
        sections.append(section)
      }
      self.sections = sections
      return
    }
    let whole: SectionBacking
    if let path = options.memoryPath {
      whole = try SectionBacking(path: path, size: Self.fileSize(geometry))
    } else {
      whole = try SectionBacking(name: "link", size: Int(Self.barSize(geometry)))
      _ = try SystemError.check(cl_seal_size(whole.descriptor.number))
    }
    self.whole = whole
    states = Section(part: stateTable, of: whole)
    sections = parts.map { Section(part: $0, of: whole) }
  }

  /// Bytes of BAR 2: PCI knows powers of two only.
  static func barSize(_ geometry: LinkGeometry) -> UInt64 {
    var size: UInt64 = 4096
    while size < UInt64(geometry.totalSize) { size <<= 1 }
    return size
  }

  /// Bytes of a file that a machine takes for a part of its memory: a BAR, and whole MiB, as QEMU
  /// counts memory.
  static func fileSize(_ geometry: LinkGeometry) -> Int {
    max(1 << 20, Int(barSize(geometry)))
  }

  /// Reads for a machine that does not map the memory.
  func read(at offset: Int, count: Int) -> [UInt8] {
    guard let whole, offset >= 0, count >= 0, offset <= whole.size - count else {
      return [UInt8](repeating: 0xff, count: max(0, count))
    }
    // SAFETY: the backing is mapped as long as this object; the range was checked.
    let region = unsafe SharedRegion(unsafeBase: whole.base, count: whole.size)
    switch count {
    case 2 where offset & 1 == 0: return Self.bytes(UInt64(region.load16(offset)), 2)
    case 4 where offset & 3 == 0: return Self.bytes(UInt64(region.load32(offset)), 4)
    case 8 where offset & 7 == 0: return Self.bytes(region.load64(offset), 8)
    default: return (0..<count).map { region.load8(offset + $0) }
    }
  }

  /// Writes for a machine that does not map the memory; what `peer` may not write stays.
  func write(_ data: [UInt8], at offset: Int, by peer: PeerID) {
    guard let whole, offset >= 0, offset <= whole.size - data.count else { return }
    let places = offset..<offset + data.count
    func covers(_ section: Range<Int>) -> Bool {
      section.lowerBound <= places.lowerBound && places.upperBound <= section.upperBound
    }
    guard covers(geometry.readWrite) || covers(geometry.output(of: peer)) else { return }
    // SAFETY: as above.
    let region = unsafe SharedRegion(unsafeBase: whole.base, count: whole.size)
    let value = data.prefix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    switch data.count {
    case 2 where offset & 1 == 0: region.store16(UInt16(value), at: offset)
    case 4 where offset & 3 == 0: region.store32(UInt32(value), at: offset)
    case 8 where offset & 7 == 0: region.store64(value, at: offset)
    default: for (index, byte) in data.enumerated() { region.store8(byte, at: offset + index) }
    }
  }

  private static func bytes(_ value: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) }
  }
}
