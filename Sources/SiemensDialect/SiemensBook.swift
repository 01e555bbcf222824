import IVShmem
import SharedMemory
import VirtioDevice

/// One queue as the driver has set it up: captured at its transactions, kept private.
struct SiemensBank: BitwiseCopyable {
  var size: UInt16
  var driverVector: UInt16 = 0
  var isEnabled = false
  var descriptors: UInt64 = 0
  var driver: UInt64 = 0
  var device: UInt64 = 0
}

/// What was negotiated with a front-end, and which chains are in flight, written down in memory
/// that outlives the back-end: the next one goes on from there and the guest does not notice.
///
/// Somebody keeps this memory together with the device's open descriptor (closing that writes
/// State 0, which breaks the Linux driver for good). What was negotiated lies there twice and one
/// word says which copy counts, so that a back-end that dies in the middle of writing leaves the
/// other one. The reader checks everything as if a front-end had written it.
struct SiemensBook: Sendable {
  private enum Header {
    static var magic: Int { 0x00 }
    static var version: Int { 0x08 }
    static var deviceID: Int { 0x0c }
    static var queueCount: Int { 0x10 }
    static var queueSize: Int { 0x14 }
    static var configurationSize: Int { 0x18 }
    static var sectionSize: Int { 0x1c }
    static var own: Int { 0x20 }
    /// 1 or 2: the copy that counts; 0: none.
    static var current: Int { 0x24 }
    static var size: Int { 0x40 }
  }
  private enum State {
    static var features: Int { 0x00 }
    static var status: Int { 0x08 }
    static var phase: Int { 0x0c }
    static var selectedQueue: Int { 0x10 }
    static var size: Int { 0x20 }
  }
  private enum Bank {
    static var size: Int { 0x00 }
    static var driverVector: Int { 0x02 }
    static var isEnabled: Int { 0x04 }
    static var descriptors: Int { 0x08 }
    static var driver: Int { 0x10 }
    static var device: Int { 0x18 }
    static var stride: Int { 0x20 }
  }
  private enum Ring {
    static var usedIndex: Int { 0x00 }
    static var lastBatchHead: Int { 0x02 }
    static var size: Int { 0x10 }
  }
  private enum Entry {
    static var isInFlight: Int { 0x00 }
    static var next: Int { 0x02 }
    static var order: Int { 0x08 }
    static var size: Int { 0x10 }
  }

  /// "CMsbook1", little endian.
  private static var magic: UInt64 { 0x316b_6f6f_6273_4d43 }

  private let region: SharedRegion
  private let queueCount: Int
  private let queueSize: Int

  /// Bytes a book takes.
  static func byteCount(queues: Int, size: Int) -> Int {
    Header.size + 2 * stateSize(queues) + queues * (Ring.size + Entry.size * size)
  }

  private static func stateSize(_ queues: Int) -> Int { State.size + Bank.stride * queues }

  /// A book in `region`; `nil` when it is too small. Nothing is read or written yet.
  init?(region: SharedRegion, queues: Int, size: Int) {
    guard region.count >= Self.byteCount(queues: queues, size: size) else { return nil }
    self.region = region
    queueCount = queues
    queueSize = size
  }

  // MARK: Whose book it is

  private func identity(_ identity: RegisterFile.Identity, _ plan: SiemensPlan) -> InlineArray<
    6, UInt32
  > {
    [
      identity.deviceID, UInt32(queueCount), UInt32(queueSize),
      UInt32(identity.configurationSize), UInt32(plan.section.count), UInt32(plan.own.rawValue),
    ]
  }

  /// Starts the book over.
  func begin(_ identity: RegisterFile.Identity, _ plan: SiemensPlan) {
    region.store64(0, at: Header.magic)
    region.store32(0, at: Header.current)
    let words = self.identity(identity, plan)
    for index in words.indices { region.store32(words[index], at: Header.deviceID + 4 * index) }
    for queue in 0..<queueCount { clear(queue: queue) }
    region.store32(1, at: Header.version)
    region.store64Releasing(Self.magic, at: Header.magic)
  }

  /// Whether the book was kept by a back-end of the same device on the same link.
  func belongs(to identity: RegisterFile.Identity, _ plan: SiemensPlan) -> Bool {
    guard region.load64(Header.magic) == Self.magic, region.load32(Header.version) == 1 else {
      return false
    }
    let words = self.identity(identity, plan)
    for index in words.indices where region.load32(Header.deviceID + 4 * index) != words[index] {
      return false
    }
    return true
  }

  // MARK: What was negotiated

  /// What lies in one copy.
  struct Negotiated {
    var features = FeatureSet()
    var status = DeviceStatus()
    var phase = SiemensPhase.withdrawn
    var selectedQueue: UInt32 = 0
  }

  private func copy(_ number: UInt32) -> Int {
    Header.size + Int(number - 1) * Self.stateSize(queueCount)
  }

  /// Writes the copy that does not count, then makes it count.
  func save(_ state: Negotiated, banks: PrivateTable<SiemensBank>) {
    let next: UInt32 = region.load32(Header.current) == 1 ? 2 : 1
    let start = copy(next)
    region.store64(state.features.rawValue, at: start + State.features)
    region.store32(UInt32(state.status.rawValue), at: start + State.status)
    region.store32(state.phase.rawValue, at: start + State.phase)
    region.store32(state.selectedQueue, at: start + State.selectedQueue)
    for queue in 0..<queueCount {
      let bank = banks[queue]
      let place = start + State.size + Bank.stride * queue
      region.store16(bank.size, at: place + Bank.size)
      region.store16(bank.driverVector, at: place + Bank.driverVector)
      region.store32(bank.isEnabled ? 1 : 0, at: place + Bank.isEnabled)
      region.store64(bank.descriptors, at: place + Bank.descriptors)
      region.store64(bank.driver, at: place + Bank.driver)
      region.store64(bank.device, at: place + Bank.device)
    }
    // Pairs with nobody but the next process: whoever sees the number sees the copy.
    region.store32Releasing(next, at: Header.current)
  }

  /// Reads the copy that counts; `nil` when there is none.
  func load(banks: PrivateTable<SiemensBank>) -> Negotiated? {
    let current = region.load32Acquiring(Header.current)
    guard current == 1 || current == 2 else { return nil }
    let start = copy(current)
    guard let phase = SiemensPhase(rawValue: region.load32(start + State.phase)) else {
      return nil
    }
    for queue in 0..<queueCount {
      let place = start + State.size + Bank.stride * queue
      banks[queue] = SiemensBank(
        size: region.load16(place + Bank.size),
        driverVector: region.load16(place + Bank.driverVector),
        isEnabled: region.load32(place + Bank.isEnabled) == 1,
        descriptors: region.load64(place + Bank.descriptors),
        driver: region.load64(place + Bank.driver), device: region.load64(place + Bank.device))
    }
    return Negotiated(
      features: FeatureSet(rawValue: region.load64(start + State.features)),
      status: DeviceStatus(
        rawValue: UInt8(truncatingIfNeeded: region.load32(start + State.status))),
      phase: phase, selectedQueue: region.load32(start + State.selectedQueue))
  }

  // MARK: Chains in flight

  @inline(never)
  private func ring(_ queue: Int) -> Int {
    Header.size + 2 * Self.stateSize(queueCount) + queue * (Ring.size + Entry.size * queueSize)
  }

  @inline(never)
  private func entry(_ queue: Int, _ head: UInt16) -> Int {
    precondition(Int(head) < queueSize)
    return ring(queue) + Ring.size + Entry.size * Int(head)
  }

  /// Nothing of a queue is in flight.
  @inline(never)
  func clear(queue: Int) {
    region.store32(0, at: ring(queue))
    for head in 0..<UInt16(queueSize) {
      region.store8(0, at: entry(queue, head) + Entry.isInFlight)
    }
  }

  /// A chain was taken.
  func began(_ head: UInt16, queue: Int, order: UInt64) {
    let entry = entry(queue, head)
    region.store64(order, at: entry + Entry.order)
    region.store8(1, at: entry + Entry.isInFlight)
  }

  /// A chain was returned; it is published with the next ``published(_:queue:usedIndex:)``.
  func ended(_ head: UInt16, queue: Int) {
    let ring = ring(queue)
    region.store16(
      region.load16(ring + Ring.lastBatchHead), at: entry(queue, head) + Entry.next)
    region.store16(head, at: ring + Ring.lastBatchHead)
  }

  /// The ring's used index has moved: what was returned before is no longer in flight.
  func published(_ heads: borrowing ReturnedChains, queue: Int, usedIndex: UInt16) {
    for index in 0..<heads.count(queue) {
      region.store8(0, at: entry(queue, heads[queue, index]) + Entry.isInFlight)
    }
    region.store16(usedIndex, at: ring(queue) + Ring.usedIndex)
  }

  /// What was in flight, oldest first, in `heads`; how many. `usedIndex` is the ring's: a batch
  /// that the driver was shown but that is still written down here is taken off now.
  func recover(
    queue: Int, usedIndex: UInt16, size: UInt16, into heads: PrivateTable<UInt16>
  ) -> UInt16 {
    let ring = ring(queue)
    let limit = min(size, UInt16(queueSize))
    var head = region.load16(ring + Ring.lastBatchHead)
    // A batch is never longer than the ring.
    for _ in 0..<min(usedIndex &- region.load16(ring + Ring.usedIndex), limit) {
      guard head < limit else { break }
      region.store8(0, at: entry(queue, head) + Entry.isInFlight)
      head = region.load16(entry(queue, head) + Entry.next)
    }
    region.store16(usedIndex, at: ring + Ring.usedIndex)
    var found = 0
    for head in 0..<limit
    where region.load8(entry(queue, head) + Entry.isInFlight) == 1 {
      let order = region.load64(entry(queue, head) + Entry.order)
      var place = found
      while place > 0, region.load64(entry(queue, heads[place - 1]) + Entry.order) > order {
        heads[place] = heads[place - 1]
        place -= 1
      }
      heads[place] = head
      found += 1
    }
    return UInt16(found)
  }
}

/// The chains a device has returned on each queue since the last publication.
struct ReturnedChains: ~Copyable {
  private let heads: PrivateTable<UInt16>
  private let size: Int
  private var counts = InlineArray<32, Int>(repeating: 0)

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
