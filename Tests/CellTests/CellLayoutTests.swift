import CellFormat
import Testing

/// The decoder against `PublishedLayout`: each field is written at its published offset and has
/// to show up in the model, there and nowhere else.
@Suite struct CellLayoutTests {
  /// Two elements of every array behind the header, so that the stride is tested too.
  static let arrays: [(countOffset: Int, size: Int)] = [
    (0x34, 32), (0x38, 12), (0x3c, 32), (0x40, 4), (0x44, 56), (0x48, 8), (0x4c, 4),
  ]

  static func put(_ value: UInt64, _ width: Int, at offset: Int, in bytes: inout [UInt8]) {
    for index in 0..<width {
      bytes[offset + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
  }

  /// An otherwise empty file with an 8-byte CPU set and two elements of everything.
  static func blank(isSystem: Bool) -> [UInt8] {
    let description = isSystem ? 0x164 : 0
    let tail = arrays.reduce(0) { $0 + 2 * $1.size }
    var bytes = [UInt8](repeating: 0, count: (isSystem ? 488 : 132) + 8 + tail)
    bytes.replaceSubrange(0..<5, with: Array((isSystem ? "JHSYS" : "JHCLL").utf8))
    bytes[5] = 2
    bytes[6] = 14
    put(8, 4, at: description + 0x30, in: &bytes)
    for array in arrays { put(2, 4, at: description + array.countOffset, in: &bytes) }
    return bytes
  }

  /// All fields of a file of that kind, at their offsets in the file.
  static func fields(isSystem: Bool) -> [PublishedLayout.Field] {
    typealias Field = PublishedLayout.Field
    let shift = isSystem ? 0x164 : 0
    var fields = PublishedLayout.cell.map { Field($0.offset + shift, $0.width, $0.name, $0.value) }
    if isSystem { fields += PublishedLayout.system }
    var at = isSystem ? 488 : 132
    fields.append(Field(at, 8, "cpu set") { PublishedLayout.number($0.cell.cpuSet) })
    at += 8
    for index in 0..<2 {
      fields += PublishedLayout.memory(at + 32 * index) { $0.cell.memoryRegions[index] }
    }
    at += 64
    for index in 0..<2 { fields += PublishedLayout.cache(at + 12 * index, index) }
    at += 24
    for index in 0..<2 { fields += PublishedLayout.irqchip(at + 32 * index, index) }
    at += 64
    for index in 0..<2 { fields += PublishedLayout.port(at + 4 * index, index) }
    at += 8
    for index in 0..<2 { fields += PublishedLayout.device(at + 56 * index, index) }
    at += 112
    for index in 0..<2 { fields += PublishedLayout.capability(at + 8 * index, index) }
    at += 16
    for index in 0..<2 {
      fields.append(Field(at + 4 * index, 4, "stream id") { UInt64($0.cell.streamIDs[index]) })
    }
    return fields
  }

  @Test(arguments: [false, true]) func everyByteBelongsToOneField(isSystem: Bool) {
    let size = Self.blank(isSystem: isSystem).count
    var owners = [Int](repeating: 0, count: size)
    for field in Self.fields(isSystem: isSystem) {
      for at in field.offset..<field.offset + field.width { owners[at] += 1 }
    }
    // Signature, architecture, revision; the CPU set's size and the seven counts.
    for at in 0..<8 { owners[at] += 1 }
    let description = isSystem ? 0x164 : 0
    for at in description + 0x30..<description + 0x50 { owners[at] += 1 }
    #expect(owners == [Int](repeating: 1, count: size))
  }

  @Test(arguments: [false, true]) func everyFieldIsWhereThePublishedStructureHasIt(
    isSystem: Bool
  ) throws {
    let blank = Self.blank(isSystem: isSystem)
    let fields = Self.fields(isSystem: isSystem)
    for (index, field) in fields.enumerated() {
      var bytes = blank
      for at in 0..<field.width { bytes[field.offset + at] = UInt8(0xa1 &+ at * 3) }
      let expected = PublishedLayout.number(bytes[field.offset..<field.offset + field.width])
      let file = try ConfigurationFile(decoding: bytes)
      #expect(field.value(file) == expected, "\(field.name) at \(field.offset)")
      for (other, quiet) in fields.enumerated() where other != index {
        #expect(quiet.value(file) == 0, "\(field.name) leaks into \(quiet.name)")
      }
      #expect(file.encoded() == bytes)
    }
  }

  @Test func publishedSizes() {
    // Bytes an element adds to a file, found by adding one.
    func growth(_ change: (inout CellConfiguration) -> Void) -> Int {
      var cell = CellConfiguration()
      let before = ConfigurationFile.cell(cell).encoded().count
      change(&cell)
      return ConfigurationFile.cell(cell).encoded().count - before
    }
    let empty = MemoryRegion(physicalStart: 0, virtualStart: 0, size: 0, flags: [])
    #expect(growth { $0.memoryRegions = [empty] } == 32)
    #expect(growth { $0.cacheRegions = [CacheRegion()] } == 12)
    #expect(growth { $0.irqchips = [IRQChip()] } == 32)
    #expect(growth { $0.portRanges = [PortRange()] } == 4)
    #expect(growth { $0.pciDevices = [PCIDevice()] } == 56)
    #expect(growth { $0.pciCapabilities = [PCICapability()] } == 8)
    #expect(growth { $0.streamIDs = [0] } == 4)
    #expect(growth { $0.cpuSet += [0] } == 1)
  }
}
