public import SharedMemory

/// The device's side of a split virtqueue (VIRTIO 1.4, 2.7): takes the chains the driver made
/// available and returns them as used.
///
/// The driver owns the other half of this memory and is not trusted: every shared field is read
/// once, checked, then used. Empty, broken and reset are three answers: `nil`, a thrown error that
/// poisons the queue, and a new queue. Nothing here allocates.
public struct DeviceQueue: ~Copyable {
  @usableFromInline let region: SharedRegion
  @usableFromInline let access: AccessMap
  @usableFromInline let descriptors: SharedTable<16>
  // {flags, idx} of either ring is one four-byte entry; the entries follow.
  @usableFromInline let availableHead: SharedTable<4>
  @usableFromInline let availableRing: SharedTable<2>
  @usableFromInline let usedEvent: SharedTable<2>
  @usableFromInline let usedHead: SharedTable<4>
  @usableFromInline let usedRing: SharedTable<8>
  @usableFromInline let availableEvent: SharedTable<2>
  /// One byte a head: free, taken, or used but held back for order.
  @usableFromInline let states: PrivateTable<UInt8>
  /// In-order queues: heads in the order they were taken, and what was written to each.
  @usableFromInline let order: PrivateTable<UInt16>
  @usableFromInline let writtenByHead: PrivateTable<UInt32>
  @usableFromInline let size: UInt16
  @usableFromInline let mask: UInt16
  @usableFromInline let chainLimit: Int
  @usableFromInline let features: QueueFeatures
  @usableFromInline let generation: UInt32
  @usableFromInline var nextAvailable: UInt16 = 0
  @usableFromInline var seenAvailable: UInt16 = 0
  @usableFromInline var nextUsed: UInt16 = 0
  @usableFromInline var publishedUsed: UInt16 = 0
  @usableFromInline var nextOrdered: UInt16 = 0
  @usableFromInline var chainsInFlight = 0
  @usableFromInline var hasFailed = false

  @inlinable static var free: UInt8 { 0 }
  @inlinable static var taken: UInt8 { 1 }
  @inlinable static var heldBack: UInt8 { 2 }

  /// Private memory one queue of this size needs, in bytes.
  public static func privateBytes(size: QueueSize, maximumChainLength: Int) -> Int {
    // States, order, written bytes; each table starts on a cache line.
    let count = Int(size.rawValue)
    return count + 2 * count + 4 * count + 4 * 64
  }

  /// Makes the queue and initialises its used ring, which the driver may be unable to write.
  ///
  /// The caller tells the driver that the queue is ready only after this (docs/protocol.md,
  /// "Queues").
  ///
  /// - Parameter generation: differs between any two queues whose tickets could be mixed up.
  public init(
    _ configuration: QueueConfiguration, in region: SharedRegion, access: AccessMap,
    arena: inout PrivateArena, generation: UInt32 = 1
  ) throws(QueueError) {
    let rings = try CheckedRings(configuration, in: region, access: access, side: .device)
    let count = Int(configuration.size.rawValue)
    guard let states = arena.table(of: count, initial: Self.free),
      let order = arena.table(of: count, initial: UInt16(0)),
      let written = arena.table(of: count, initial: UInt32(0))
    else { throw .noPrivateMemory }
    self.region = region
    self.access = access
    descriptors = rings.descriptors
    availableHead = rings.availableHead
    availableRing = rings.availableRing
    usedEvent = rings.usedEvent
    usedHead = rings.usedHead
    usedRing = rings.usedRing
    availableEvent = rings.availableEvent
    self.states = states
    self.order = order
    writtenByHead = written
    size = configuration.size.rawValue
    mask = size &- 1
    chainLimit = configuration.maximumChainLength
    features = configuration.features
    self.generation = generation
    // Notifications start suppressed: the owner arms before it sleeps.
    usedHead.store16(Flag.noNotify, 0, field: 0)
    availableEvent.store16(size, 0)
    usedHead.store16Releasing(0, 0, field: 2)
  }

  /// Chains taken and not yet returned.
  @inlinable
  public var inFlightCount: Int { chainsInFlight }
  /// Whether an error of the driver stopped this queue.
  @inlinable
  public var isPoisoned: Bool { hasFailed }

  // MARK: Taking

  /// Takes the next available chain into `segments`, or returns `nil` when there is none.
  ///
  /// - Throws: what the driver did wrong; the queue is poisoned then.
  @inlinable @inline(__always)
  public mutating func takeChain(
    into segments: inout ChainSegments
  ) throws(QueueError) -> TakenChain? {
    guard !hasFailed else { throw .poisoned }
    if nextAvailable == seenAvailable {
      // Pairs with the driver's release of `idx` (VIRTIO 1.4, 2.7.13.3.1): ring entries and
      // descriptors behind it are visible.
      let published = availableHead.load16Acquiring(0, field: 2)
      let pending = published &- nextAvailable
      if pending == 0 { return nil }
      guard pending <= size else { throw poison(.tooManyAvailable(pending: pending, size: size)) }
      seenAvailable = published
    }
    let head = availableRing.load16(Int(nextAvailable))
    guard head < size else { throw poison(.headOutOfRange(head, size: size)) }
    guard states[Int(head)] == Self.free else { throw poison(.headInFlight(head)) }
    do throws(QueueError) {
      try walk(from: head, into: &segments)
    } catch { throw poison(error) }
    if features.contains(.inOrder) { order[Int(nextAvailable & mask)] = head }
    states[Int(head)] = Self.taken
    chainsInFlight &+= 1
    nextAvailable &+= 1
    return TakenChain(head: head, generation: generation)
  }

  @usableFromInline
  mutating func poison(_ error: QueueError) -> QueueError {
    hasFailed = true
    return error
  }

  /// Reads each descriptor of a chain once, as two 64-bit words, and checks it.
  ///
  /// Mutating, though nothing changes: a borrow would copy the whole queue (measured: 4 times the
  /// time of a short chain).
  @inlinable @inline(__always)
  mutating func walk(from head: UInt16, into segments: inout ChainSegments) throws(QueueError) {
    segments.removeAll()
    var index = head
    var length = 0
    while true {
      let address = descriptors.load64(Int(index), field: 0)
      let rest = descriptors.load64(Int(index), field: 8)
      let flags = UInt16(truncatingIfNeeded: rest &>> 32)
      length &+= 1
      guard length <= chainLimit, length <= segments.capacity else {
        throw .chainTooLong(limit: min(chainLimit, segments.capacity))
      }
      if flags & Flag.indirect != 0 {
        try walkIndirect(address, rest, length, into: &segments)
        break
      }
      try append(address, UInt32(truncatingIfNeeded: rest), flags, to: &segments)
      if flags & Flag.next == 0 { break }
      index = UInt16(truncatingIfNeeded: rest &>> 48)
      guard index < size else { throw .nextOutOfRange(index, size: size) }
    }
    let total = UInt64(segments.readableByteCount) &+ UInt64(segments.writableByteCount)
    guard total > 0, total <= UInt64(UInt32.max) else { throw .chainByteCount(total) }
  }

  @inlinable @inline(__always)
  mutating func append(
    _ address: UInt64, _ count: UInt32, _ flags: UInt16, to segments: inout ChainSegments
  ) throws(QueueError) {
    let claim = ClaimedRange(address: address, count: count)
    if flags & Flag.write != 0 {
      guard let range = access.writable(claim) else {
        throw .bufferOutside(address: address, count: count, writable: true)
      }
      segments.append(range)
    } else {
      guard segments.writableCount == 0 else { throw .readableAfterWritable }
      guard let range = access.readable(claim) else {
        throw .bufferOutside(address: address, count: count, writable: false)
      }
      segments.append(range)
    }
  }

  /// Walks a table of its own (VIRTIO 1.4, 2.7.5.3): never nested, never continued behind it.
  @usableFromInline @inline(never)
  mutating func walkIndirect(
    _ address: UInt64, _ rest: UInt64, _ direct: Int, into segments: inout ChainSegments
  ) throws(QueueError) {
    let count = UInt32(truncatingIfNeeded: rest)
    let flags = UInt16(truncatingIfNeeded: rest >> 32)
    guard features.contains(.indirectDescriptors), flags & Flag.next == 0, count > 0,
      count % 16 == 0
    else { throw .badIndirect(length: count, flags: flags) }
    guard let table = access.readable(ClaimedRange(address: address, count: count)),
      table.offset & 15 == 0
    else { throw .bufferOutside(address: address, count: count, writable: false) }
    let entries = table.count / 16
    let limit = min(chainLimit, segments.capacity)
    var index = 0
    var length = direct - 1
    while true {
      length += 1
      guard length <= limit else { throw .chainTooLong(limit: limit) }
      let start = table.offset + 16 * index
      let address = region.load64(start)
      let rest = region.load64(start + 8)
      let flags = UInt16(truncatingIfNeeded: rest >> 32)
      guard flags & Flag.indirect == 0 else { throw .badIndirect(length: count, flags: flags) }
      try append(address, UInt32(truncatingIfNeeded: rest), flags, to: &segments)
      if flags & Flag.next == 0 { return }
      index = Int(rest >> 48)
      guard index < entries else {
        throw .nextOutOfRange(UInt16(rest >> 48), size: UInt16(clamping: entries))
      }
    }
  }

  // MARK: Returning

  /// Returns `chain`, into which the device wrote `byteCount` bytes. The driver sees it after
  /// ``publish()``.
  @inlinable @inline(__always)
  public mutating func complete(_ chain: consuming TakenChain, written byteCount: UInt32) {
    let isLive = complete(chain.giveBack(), written: byteCount)
    precondition(isLive, "a chain was returned to a queue it does not come from")
  }

  /// Returns the chain behind `ticket`; `false` when the queue it came from was reset meanwhile.
  /// Completing a ticket twice is our bug and traps.
  @inlinable @inline(__always) @discardableResult
  public mutating func complete(_ ticket: ChainTicket, written byteCount: UInt32) -> Bool {
    guard ticket.generation == generation else { return false }
    let head = Int(ticket.head)
    precondition(states[head] == Self.taken, "a chain was returned twice")
    chainsInFlight &-= 1
    if features.contains(.inOrder) {
      states[head] = Self.heldBack
      writtenByHead[head] = byteCount
      releaseInOrder()
    } else {
      states[head] = Self.free
      pushUsed(ticket.head, byteCount)
    }
    return true
  }

  @inlinable @inline(__always)
  mutating func pushUsed(_ head: UInt16, _ byteCount: UInt32) {
    // Elements lie at 4 modulo 8: two 32-bit stores, never one of 64.
    usedRing.store32(UInt32(head), Int(nextUsed), field: 0)
    usedRing.store32(byteCount, Int(nextUsed), field: 4)
    nextUsed &+= 1
  }

  @usableFromInline
  mutating func releaseInOrder() {
    // Bounded by the ring: at most `size` chains are held back.
    while nextOrdered != nextAvailable {
      let head = order[Int(nextOrdered & mask)]
      guard states[Int(head)] == Self.heldBack else { return }
      states[Int(head)] = Self.free
      pushUsed(head, writtenByHead[Int(head)])
      nextOrdered &+= 1
    }
  }

  /// Shows the driver everything completed so far, once for the whole batch; returns whether it
  /// wants a notification.
  @inlinable
  public mutating func publish() -> Bool {
    let old = publishedUsed
    guard old != nextUsed else { return false }
    // Releases the elements: the driver sees `idx` move only once they are whole.
    usedHead.store16Releasing(nextUsed, 0, field: 2)
    publishedUsed = nextUsed
    // Pairs with the driver's fence between arming and its last look: either it sees the new
    // index, or this side sees its event index. Otherwise a notification is lost.
    Ordering.fullFence()
    if features.contains(.eventIndex) {
      return passes(event: usedEvent.load16(0), new: nextUsed, old: old)
    }
    return availableHead.load16(0, field: 0) & Flag.noInterrupt == 0
  }

  /// Shows the driver everything completed so far without asking whether it wants to know: for a
  /// driver that is known to poll. Saves the fence of ``publish()``.
  @inlinable
  public mutating func publishQuietly() {
    guard publishedUsed != nextUsed else { return }
    // Releases the elements, as in `publish`.
    usedHead.store16Releasing(nextUsed, 0, field: 2)
    publishedUsed = nextUsed
  }

  // MARK: Notifications from the driver

  /// Asks the driver to stay quiet while the device looks by itself.
  @inlinable
  public mutating func suppressNotifications() {
    if !features.contains(.eventIndex) { usedHead.store16(Flag.noNotify, 0, field: 0) }
    // With EVENT_IDX the old event index lies behind: nothing passes it before the next wrap.
  }

  /// Asks the driver for a notification at its next chain. No fence: the owner arms everything,
  /// does one full fence, then looks (docs/protocol.md, "Sleeping").
  @inlinable
  public mutating func armNotifications() {
    if features.contains(.eventIndex) {
      availableEvent.store16(nextAvailable, 0)
    } else {
      usedHead.store16(0, 0, field: 0)
    }
  }

  /// Whether the driver has made chains available that were not yet taken.
  @inlinable
  public func hasPending() -> Bool {
    !hasFailed && availableHead.load16Acquiring(0, field: 2) != nextAvailable
  }

  /// Where the device stands, for status displays: next available and next used index.
  public var indices: (available: UInt16, used: UInt16) { (nextAvailable, nextUsed) }
}
