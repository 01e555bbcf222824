import SharedMemory

/// The three parts of a queue after their addresses were compared with what this side may touch.
struct CheckedRings {
  /// Who is about to use the rings: it decides which part has to be writable.
  enum Side { case device, driver }

  let descriptors: SharedTable<16>
  let availableHead: SharedTable<4>
  let availableRing: SharedTable<2>
  let usedEvent: SharedTable<2>
  let usedHead: SharedTable<4>
  let usedRing: SharedTable<8>
  let availableEvent: SharedTable<2>

  init(
    _ configuration: QueueConfiguration, in region: SharedRegion, access: AccessMap, side: Side
  ) throws(QueueError) {
    let count = Int(configuration.size.rawValue)
    let layout = QueueLayout(configuration.size)
    let isDriver = side == .driver
    let table = try Self.offset(
      configuration.descriptorTable, layout.descriptorTable, 16, access, writable: isDriver)
    let available = try Self.offset(
      configuration.availableRing, layout.availableRing, 2, access, writable: isDriver)
    let used = try Self.offset(
      configuration.usedRing, layout.usedRing, 4, access, writable: !isDriver)
    guard let descriptors: SharedTable<16> = region.table(at: table, entryCount: count),
      let availableHead: SharedTable<4> = region.table(at: available, entryCount: 1),
      let availableRing: SharedTable<2> = region.table(at: available + 4, entryCount: count),
      let usedEvent: SharedTable<2> = region.table(at: available + 4 + 2 * count, entryCount: 1),
      let usedHead: SharedTable<4> = region.table(at: used, entryCount: 1),
      let usedRing: SharedTable<8> = region.table(at: used + 4, entryCount: count),
      let availableEvent: SharedTable<2> = region.table(at: used + 4 + 8 * count, entryCount: 1)
    else { preconditionFailure("checked ranges lie inside the region") }
    self.descriptors = descriptors
    self.availableHead = availableHead
    self.availableRing = availableRing
    self.usedEvent = usedEvent
    self.usedHead = usedHead
    self.usedRing = usedRing
    self.availableEvent = availableEvent
  }

  @inline(never)
  private static func offset(
    _ address: UInt64, _ count: Int, _ alignment: Int, _ access: AccessMap, writable: Bool
  ) throws(QueueError) -> Int {
    let claim = ClaimedRange(address: address, count: UInt32(count))
    let offset = writable ? access.writable(claim)?.offset : access.readable(claim)?.offset
    guard let offset, offset & (alignment - 1) == 0 else {
      throw .ringOutside(address: address, writable: writable)
    }
    return offset
  }
}
