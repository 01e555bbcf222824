import LinkFormat
import SharedMemory

/// The header of one link in shared memory: single words, nothing remembered.
struct SiemensWords {
  let region: SharedRegion
  /// Where the section starts in the region.
  let base: Int

  func offset(_ field: SiemensHeader.Field) -> Int { base + field.rawValue }
  func load16(_ field: SiemensHeader.Field) -> UInt16 { region.load16(offset(field)) }
  func load32(_ field: SiemensHeader.Field) -> UInt32 { region.load32(offset(field)) }
  func load64(_ field: SiemensHeader.Field) -> UInt64 { region.load64(offset(field)) }
  func store8(_ value: UInt8, _ field: SiemensHeader.Field) {
    region.store8(value, at: offset(field))
  }
  func store16(_ value: UInt16, _ field: SiemensHeader.Field) {
    region.store16(value, at: offset(field))
  }
  func store32(_ value: UInt32, _ field: SiemensHeader.Field) {
    region.store32(value, at: offset(field))
  }
  func store64(_ value: UInt64, _ field: SiemensHeader.Field) {
    region.store64(value, at: offset(field))
  }
  /// The open transaction; what was stored before it is visible afterwards.
  var transaction: UInt32 { region.load32Acquiring(offset(.writeTransaction)) }
  /// Whether a transaction waits; a look without ordering, for the hot path.
  var hasTransaction: Bool { region.load32(offset(.writeTransaction)) != 0 }
  func configurationByte(_ index: Int) -> UInt8 {
    region.load8(base + SiemensHeader.configuration + index)
  }
  func storeConfiguration(_ value: UInt8, _ index: Int) {
    region.store8(value, at: base + SiemensHeader.configuration + index)
  }
}
