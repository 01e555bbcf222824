import CLinux
import LinuxSupport
import SharedMemory

/// What a device has taken and not returned, written down in memory that the front-end keeps when
/// the back-end dies (vhost-user specification, "Inflight I/O tracking", split virtqueue).
///
/// The order of stores is the specification's; the reader is the next back-end process, so program
/// order is all that matters. The front-end can write this memory: what is read is checked.
@safe
struct InflightRegion: ~Copyable {
  private enum Header {
    static var version: Int { 8 }
    static var descriptorCount: Int { 10 }
    static var lastBatchHead: Int { 12 }
    static var usedIndex: Int { 14 }
    static var size: Int { 16 }
  }
  private enum Entry {
    static var size: Int { 16 }
    static var inFlight: Int { 0 }
    static var next: Int { 6 }
    static var counter: Int { 8 }
  }

  private let base: UnsafeMutableRawPointer
  private let mapped: Int
  private let guardNumber: Int
  private let region: SharedRegion
  private let queueCount: Int
  private let queueSize: Int
  /// Where the queues' parts start behind `base`.
  private let start: Int
  /// The next value of the counter that orders what was taken.
  private var counter: UInt64 = 1

  /// Bytes for `queues` queues of `size` entries.
  static func bytes(queues: Int, size: Int) -> UInt64 { UInt64(queues * stride(size)) }

  private static func stride(_ size: Int) -> Int { (Header.size + Entry.size * size + 63) & ~63 }

  /// Maps the region behind `descriptor`. What an earlier back-end left there is kept.
  @inline(never)
  static func map(
    _ descriptor: borrowing Descriptor, size: UInt64, offset: UInt64, queues: Int, queueSize: Int
  ) throws(VhostUserError) -> InflightRegion {
    let needed = bytes(queues: queues, size: queueSize)
    var facts = cl_file_facts()
    let end = offset.addingReportingOverflow(size)
    guard size >= needed, queues > 0, queues <= 32, queueSize > 0, queueSize <= 32768,
      !end.overflow, unsafe cl_file_facts_of(descriptor.number, &facts) >= 0,
      end.partialValue <= facts.size
    else { throw .inflight(size: size, needed: needed) }
    let skipped = Int(offset & 4095)
    guard skipped & 63 == 0 else { throw .inflight(size: size, needed: needed) }
    let whole = (Int(needed) + skipped + 4095) & ~4095
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(whole, &error) else { throw failure(Int(-error)) }
    let mapped = unsafe cl_map_file_at(base, whole, descriptor.number, offset - UInt64(skipped))
    let guardNumber = mapped < 0 ? mapped : unsafe cl_guard_add(base, whole)
    guard guardNumber >= 0 else {
      unsafe cl_unmap(base, whole)
      throw failure(guardNumber)
    }
    return unsafe InflightRegion(
      base, whole, guardNumber, skipped, queues: queues, queueSize: queueSize)
  }

  private static func failure(_ result: Int) -> VhostUserError {
    .system(
      request: VhostUserRequest.setInflight.rawValue,
      SystemError(Int32(truncatingIfNeeded: -result)))
  }

  private init(
    _ base: UnsafeMutableRawPointer, _ mapped: Int, _ guardNumber: Int, _ start: Int,
    queues: Int, queueSize: Int
  ) {
    unsafe self.base = base
    self.mapped = mapped
    self.guardNumber = guardNumber
    unsafe region = SharedRegion(unsafeBase: base, count: mapped)
    self.start = start
    queueCount = queues
    self.queueSize = queueSize
  }

  deinit {
    cl_guard_remove(guardNumber)
    unsafe cl_unmap(base, mapped)
  }

  @inline(never)
  private func header(_ queue: Int) -> Int { start + queue * Self.stride(queueSize) }

  @inline(never)
  private func entry(_ queue: Int, _ head: UInt16) -> Int {
    header(queue) + Header.size + Entry.size * Int(head)
  }

  private func holds(_ queue: Int, _ head: UInt16) -> Bool {
    queue < queueCount && Int(head) < queueSize
  }

  // MARK: Writing down

  /// A chain was taken.
  mutating func began(_ head: UInt16, queue: Int) {
    guard holds(queue, head) else { return }
    let entry = entry(queue, head)
    region.store64(counter, at: entry + Entry.counter)
    counter &+= 1
    region.store8(1, at: entry + Entry.inFlight)
  }

  /// A chain was returned, and is published with the next ``published(queue:usedIndex:)``.
  @inline(never)
  mutating func ended(_ head: UInt16, queue: Int) {
    guard holds(queue, head) else { return }
    let header = header(queue)
    region.store16(
      region.load16(header + Header.lastBatchHead), at: entry(queue, head) + Entry.next)
    region.store16(head, at: header + Header.lastBatchHead)
  }

  /// The queue's used index was moved: what was returned before it is no longer in flight.
  mutating func published(
    _ heads: borrowing ReturnedHeads, queue: Int, usedIndex: UInt16
  ) {
    for index in 0..<heads.count(queue) {
      let head = heads[queue, index]
      if holds(queue, head) { region.store8(0, at: entry(queue, head) + Entry.inFlight) }
    }
    if queue < queueCount { region.store16(usedIndex, at: header(queue) + Header.usedIndex) }
  }

  // MARK: Reading back

  /// What an earlier device had in flight when it died, oldest first, in `heads`; how many.
  ///
  /// `usedIndex` is that of the ring: a batch that was published but not yet taken off the books
  /// is taken off them now.
  mutating func recover(
    queue: Int, usedIndex: UInt16, size: UInt16, into heads: PrivateTable<UInt16>
  ) -> Int {
    guard queue < queueCount else { return 0 }
    let header = header(queue)
    guard region.load16(header + Header.version) == 1 else {
      region.store16(UInt16(queueSize), at: header + Header.descriptorCount)
      region.store16(usedIndex, at: header + Header.usedIndex)
      region.store16(1, at: header + Header.version)
      return 0
    }
    let missed = usedIndex &- region.load16(header + Header.usedIndex)
    var head = region.load16(header + Header.lastBatchHead)
    // A batch is never longer than the ring.
    for _ in 0..<min(missed, size) {
      guard holds(queue, head) else { break }
      region.store8(0, at: entry(queue, head) + Entry.inFlight)
      head = region.load16(entry(queue, head) + Entry.next)
    }
    region.store16(usedIndex, at: header + Header.usedIndex)
    var found = 0
    for head in 0..<min(size, UInt16(truncatingIfNeeded: queueSize)) {
      guard region.load8(entry(queue, head) + Entry.inFlight) == 1 else { continue }
      insert(head, queue, &found, heads)
    }
    return found
  }

  /// Puts a head where its counter belongs; the counter of this process goes on behind the largest.
  private mutating func insert(
    _ head: UInt16, _ queue: Int, _ found: inout Int, _ heads: PrivateTable<UInt16>
  ) {
    let order = region.load64(entry(queue, head) + Entry.counter)
    if order >= counter, order < .max { counter = order + 1 }
    var place = found
    while place > 0, region.load64(entry(queue, heads[place - 1]) + Entry.counter) > order {
      heads[place] = heads[place - 1]
      place -= 1
    }
    heads[place] = head
    found += 1
  }
}

/// The heads a device has returned on each queue since the last publication.
struct ReturnedHeads: ~Copyable {
  private let heads: PrivateTable<UInt16>
  private let size: Int
  private var counts = InlineArray<32, Int>(repeating: 0)

  /// Room for `queues` queues of `size` entries; `nil` when `arena` is too small.
  init?(queues: Int, size: Int, arena: inout PrivateArena) {
    guard let heads = arena.table(of: queues * size, initial: UInt16(0)) else { return nil }
    self.heads = heads
    self.size = size
  }

  func count(_ queue: Int) -> Int { counts[queue] }

  subscript(queue: Int, index: Int) -> UInt16 { heads[queue * size + index] }

  /// A queue has at most as many chains out as it has entries.
  mutating func add(_ head: UInt16, queue: Int) {
    heads[queue * size + counts[queue]] = head
    counts[queue] += 1
  }

  mutating func clear(_ queue: Int) { counts[queue] = 0 }
}
