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
  @usableFromInline let states: PrivateRing<UInt8>
  /// In-order queues: heads in the order they were taken, and what was written to each.
  @usableFromInline let order: PrivateRing<UInt16>
  @usableFromInline let writtenByHead: PrivateRing<UInt32>
  @usableFromInline let size: UInt16
  @usableFromInline let chainLimit: Int
  @usableFromInline let features: QueueFeatures
  @usableFromInline let generation: UInt32
  /// The next entry of the available ring to take, and how far the driver was seen to be.
  @usableFromInline var nextAvailable = RingIndex(0)
  @usableFromInline var seenAvailable = RingIndex(0)
  /// The next used element to write, and how far the driver was told.
  @usableFromInline var nextUsed = RingIndex(0)
  @usableFromInline var publishedUsed = RingIndex(0)
  /// In-order queues: the oldest chain that was not yet returned, and how many wait behind it.
  @usableFromInline var nextOrdered = RingIndex(0)
  @usableFromInline var heldBackCount: UInt16 = 0
  @usableFromInline var hasFailed = false
  @usableFromInline var counts = QueueCounters()

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
  /// - Parameters:
  ///   - generation: differs between any two queues whose tickets could be mixed up.
  ///   - resumption: where an earlier device stopped; `nil` for a queue nobody has used, whose
  ///     used ring is then initialised. Not with IN_ORDER: the order of what is in flight is lost.
  @inline(never)
  public init(
    _ configuration: QueueConfiguration, in region: SharedRegion, access: AccessMap,
    arena: inout PrivateArena, generation: UInt32 = 1, resuming resumption: QueueResumption? = nil
  ) throws(QueueError) {
    let rings = try CheckedRings(configuration, in: region, access: access, side: .device)
    let count = Int(configuration.size.rawValue)
    guard let states = arena.ring(of: count, initial: Self.free),
      let order = arena.ring(of: count, initial: UInt16(0)),
      let written = arena.ring(of: count, initial: UInt32(0))
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
    chainLimit = configuration.maximumChainLength
    features = configuration.features
    // Generation 0 belongs to `ChainTicket.none`; a counter that wrapped must not accept it.
    self.generation = generation == 0 ? 1 : generation
    // Notifications start suppressed: the owner arms before it sleeps. With EVENT_IDX the index
    // alone does it (VIRTIO 1.4, 2.7.10.2).
    usedHead.store16(features.contains(.eventIndex) ? 0 : Flag.noNotify, 0, field: 0)
    guard let resumption else {
      availableEvent.store16(size, 0)
      usedHead.store16Releasing(0, 0, field: 2)
      return
    }
    precondition(!features.contains(.inOrder), "what is in flight has lost its order")
    // Only the device writes this index, so it is where the last device stopped; a driver that
    // changed it has confused itself.
    nextUsed = RingIndex(usedHead.load16Acquiring(0, field: 2))
    publishedUsed = nextUsed
    switch resumption {
    case .at(let index): nextAvailable = RingIndex(index)
    case .afterInFlight(let count): nextAvailable = RingIndex(nextUsed.rawValue &+ count)
    }
    seenAvailable = nextAvailable
    availableEvent.store16(nextAvailable.rawValue &+ size, 0)
  }

  /// The number of descriptors.
  public var capacity: Int { Int(size) }
  /// Chains taken and not yet returned.
  @inlinable
  public var inFlightCount: Int {
    Int(nextAvailable.distance(from: nextUsed) &- heldBackCount)
  }
  /// Whether an error of the driver stopped this queue.
  @inlinable
  public var isPoisoned: Bool { hasFailed }
  /// What was counted since the queue was made.
  public var counters: QueueCounters { counts }

  // MARK: Taking

  /// Takes the next available chain into `segments`, or returns `nil` when there is none.
  ///
  /// - Throws: what the driver did wrong; the queue is poisoned then.
  /// - Complexity: O(descriptors of the chain), at most the agreed chain length.
  @inlinable @inline(__always)
  public mutating func takeChain(
    into segments: inout ChainSegments
  ) throws(QueueError) -> TakenChain? {
    if nextAvailable == seenAvailable {
      guard try look() else { return nil }
    }
    let head = availableRing.load16(Int(nextAvailable.rawValue))
    guard head < size else { throw poison(.headOutOfRange(head, size: size)) }
    guard states[head] == Self.free else { throw poison(.headInFlight(head)) }
    do throws(QueueError) {
      try walk(from: head, into: &segments)
    } catch {
      segments.removeAll()
      throw poison(error)
    }
    if features.contains(.inOrder) { order[nextAvailable.rawValue] = head }
    states[head] = Self.taken
    nextAvailable.advance()
    return TakenChain(head: head, generation: generation)
  }

  /// Takes a chain again that an earlier device had taken and not returned, before anything new is
  /// taken; its head comes from the books of that device (vhost-user inflight tracking).
  ///
  /// - Throws: as ``takeChain(into:)``; the queue is poisoned then.
  public mutating func takeAgain(
    _ head: UInt16, into segments: inout ChainSegments
  ) throws(QueueError) -> TakenChain {
    guard !hasFailed else { throw .poisoned }
    guard head < size else { throw poison(.headOutOfRange(head, size: size)) }
    guard states[head] == Self.free else { throw poison(.headInFlight(head)) }
    do throws(QueueError) {
      try walk(from: head, into: &segments)
    } catch {
      segments.removeAll()
      throw poison(error)
    }
    states[head] = Self.taken
    return TakenChain(head: head, generation: generation)
  }

  /// Whether the chain that starts with `head` was taken and not returned.
  @inlinable
  public func isInFlight(_ head: UInt16) -> Bool { head < size && states[head] != Self.free }

  /// Looks how far the driver is, when everything seen so far was taken.
  @inlinable @inline(__always)
  mutating func look() throws(QueueError) -> Bool {
    guard !hasFailed else { throw .poisoned }
    // Pairs with the driver's release of `idx` (VIRTIO 1.4, 2.7.13.3.1): ring entries and
    // descriptors behind it are visible.
    let published = RingIndex(availableHead.load16Acquiring(0, field: 2))
    let pending = published.distance(from: nextAvailable)
    if pending == 0 { return false }
    guard pending <= size else { throw poison(.tooManyAvailable(pending: pending, size: size)) }
    seenAvailable = published
    return true
  }

  @usableFromInline @inline(never)
  mutating func poison(_ error: QueueError) -> QueueError {
    hasFailed = true
    // What was seen no longer counts: every later take looks, and finds the queue poisoned.
    seenAvailable = nextAvailable
    return error
  }

  /// Reads each descriptor of a chain once and checks it: first the readable part, then the
  /// writable one.
  ///
  /// Mutating, as everything on this path, although it changes nothing here: a borrowed `self`
  /// would be copied to the stack.
  @inlinable @inline(__always)
  mutating func walk(from head: UInt16, into segments: inout ChainSegments) throws(QueueError) {
    var chain = OpenChain()
    let readables = segments.readables.prefix(chainLimit)
    var descriptor = RingDescriptor(descriptors, head)
    while descriptor.flags & (Flag.write | Flag.indirect) == 0 {
      try appendReadable(descriptor, &chain, to: readables)
      guard descriptor.hasNext else {
        chain.endReadable()
        return try finish(chain, segments: &segments)
      }
      descriptor = try following(descriptor)
    }
    chain.endReadable()
    let writables = segments.writables.prefix(chainLimit)
    while descriptor.flags & Flag.indirect == 0 {
      try appendWritable(descriptor, &chain, to: writables)
      guard descriptor.hasNext else { return try finish(chain, segments: &segments) }
      descriptor = try following(descriptor)
    }
    try finish(walkIndirect(descriptor, chain, readables, writables), segments: &segments)
  }

  @inlinable @inline(__always)
  mutating func following(_ descriptor: RingDescriptor) throws(QueueError) -> RingDescriptor {
    guard descriptor.next < size else {
      throw .nextOutOfRange(descriptor.next, size: size)
    }
    return RingDescriptor(descriptors, descriptor.next)
  }

  @inlinable @inline(__always)
  mutating func finish(
    _ chain: OpenChain, segments: inout ChainSegments
  ) throws(QueueError) {
    // 2^32 itself is refused too: `len` of a used element could not name it.
    guard chain.bytes &- 1 < UInt64(UInt32.max) else { throw .chainByteCount(chain.bytes) }
    segments.adopt(chain)
  }

  @inlinable @inline(__always)
  mutating func appendReadable(
    _ descriptor: RingDescriptor, _ chain: inout OpenChain, to table: PrivateTable<ReadableRange>
  ) throws(QueueError) {
    guard table.contains(index: chain.count) else { throw .chainTooLong(limit: table.count) }
    // A descriptor without a byte may point anywhere: the specification does not forbid it.
    guard let range = access.readable(descriptor.claim) ?? (descriptor.count == 0 ? .empty : nil)
    else { throw descriptor.outside(writable: false) }
    table[chain.count] = range
    chain.add(descriptor.count)
  }

  @inlinable @inline(__always)
  mutating func appendWritable(
    _ descriptor: RingDescriptor, _ chain: inout OpenChain, to table: PrivateTable<WritableRange>
  ) throws(QueueError) {
    guard descriptor.flags & Flag.write != 0 else { throw .readableAfterWritable }
    guard table.contains(index: chain.count) else { throw .chainTooLong(limit: table.count) }
    guard let range = access.writable(descriptor.claim) ?? (descriptor.count == 0 ? .empty : nil)
    else { throw descriptor.outside(writable: true) }
    table[chain.count] = range
    chain.add(descriptor.count)
  }

  /// Walks a table of its own (VIRTIO 1.4, 2.7.5.3): never nested, never continued behind it.
  @usableFromInline @inline(never)
  mutating func walkIndirect(
    _ outer: RingDescriptor, _ found: OpenChain, _ readables: PrivateTable<ReadableRange>,
    _ writables: PrivateTable<WritableRange>
  ) throws(QueueError) -> OpenChain {
    guard features.contains(.indirectDescriptors), !outer.hasNext, outer.count > 0,
      outer.count % 16 == 0
    else { throw .badIndirect(length: outer.count, flags: outer.flags) }
    guard let table = access.readable(outer.claim), table.offset & 7 == 0
    else { throw outer.outside(writable: false) }
    let entries = table.count / 16
    var chain = found
    var index = 0
    while true {
      let start = table.offset + 16 * index
      let descriptor = RingDescriptor(
        address: region.load64(start), rest: region.load64(start + 8))
      guard descriptor.flags & Flag.indirect == 0 else {
        throw .badIndirect(length: outer.count, flags: descriptor.flags)
      }
      if descriptor.flags & Flag.write == 0, !chain.hasWritable {
        try appendReadable(descriptor, &chain, to: readables)
        chain.endReadable()
      } else {
        try appendWritable(descriptor, &chain, to: writables)
      }
      guard descriptor.hasNext else { return chain }
      index = Int(descriptor.next)
      guard index < entries else {
        throw .nextOutOfRange(descriptor.next, size: UInt16(clamping: entries))
      }
    }
  }

  // MARK: Returning

  /// Returns `chain`, into which the device wrote `byteCount` bytes. The driver sees it after
  /// ``publish()``. A chain of another queue is our bug and traps.
  @inlinable @inline(__always)
  public mutating func complete(_ chain: consuming TakenChain, written byteCount: UInt32) {
    let isLive = complete(chain.giveBack(), written: byteCount)
    precondition(isLive, "a chain was returned to a queue it does not come from")
  }

  /// Returns the chain behind `ticket`; `false` when the queue it came from was reset meanwhile.
  /// Completing a ticket twice is our bug and traps.
  #if CELLMATE_SMALL
    @inline(never) @discardableResult
  #else
    @inlinable @inline(__always) @discardableResult
  #endif
  public mutating func complete(_ ticket: ChainTicket, written byteCount: UInt32) -> Bool {
    guard ticket.generation == generation else { return false }
    precondition(states[ticket.head] == Self.taken, "a chain was returned twice")
    if features.contains(.inOrder) {
      states[ticket.head] = Self.heldBack
      writtenByHead[ticket.head] = byteCount
      heldBackCount &+= 1
      releaseInOrder()
    } else {
      states[ticket.head] = Self.free
      pushUsed(ticket.head, byteCount)
    }
    return true
  }

  @inlinable @inline(__always)
  mutating func pushUsed(_ head: UInt16, _ byteCount: UInt32) {
    // Elements lie at 4 modulo 8: two 32-bit stores, never one of 64.
    usedRing.store32(UInt32(head), Int(nextUsed.rawValue), field: 0)
    usedRing.store32(byteCount, Int(nextUsed.rawValue), field: 4)
    nextUsed.advance()
  }

  /// Emits what is complete up to the oldest chain that is not (VIRTIO 1.4, 2.7.9), one element a
  /// chain: the batch form would save stores, and lose the byte counts of all but the last.
  @usableFromInline
  mutating func releaseInOrder() {
    // Bounded by the ring: at most `size` chains are held back.
    while nextOrdered != nextAvailable {
      let head = order[nextOrdered.rawValue]
      guard states[head] == Self.heldBack else { return }
      states[head] = Self.free
      heldBackCount &-= 1
      pushUsed(head, writtenByHead[head])
      nextOrdered.advance()
    }
  }

  /// Shows the driver everything completed so far, once for the whole batch; returns whether it
  /// wants a notification (VIRTIO 1.4, 2.7.7 and 2.7.10). Does nothing, without a fence, when
  /// nothing was completed since the last time.
  @inlinable
  public mutating func publish() -> Bool {
    let old = publishedUsed
    guard publishQuietly() else { return false }
    // Pairs with the driver's fence between arming and its last look: either it sees the new
    // index, or this side sees its event index. Otherwise a notification is lost.
    Ordering.fullFence()
    let notifies =
      features.contains(.eventIndex)
      ? nextUsed.passes(event: usedEvent.load16(0), since: old)
      : availableHead.load16(0, field: 0) & Flag.noInterrupt == 0
    counts.notifications &+= notifies ? 1 : 0
    return notifies
  }

  /// Shows the driver everything completed so far and does not ask whether it sleeps: for a driver
  /// that is known to look by itself (a polled link), which saves the full fence. Returns whether
  /// there was anything to show.
  @inlinable @discardableResult
  public mutating func publishQuietly() -> Bool {
    guard publishedUsed != nextUsed else { return false }
    // Releases the elements: the driver sees `idx` move only once they are whole.
    usedHead.store16Releasing(nextUsed.rawValue, 0, field: 2)
    counts.chains &+= UInt64(nextUsed.distance(from: publishedUsed))
    publishedUsed = nextUsed
    return true
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
      availableEvent.store16(nextAvailable.rawValue, 0)
    } else {
      usedHead.store16(0, 0, field: 0)
    }
  }

  /// Whether the driver has made chains available that were not yet taken.
  @inlinable
  public func hasPending() -> Bool {
    !hasFailed && RingIndex(availableHead.load16Acquiring(0, field: 2)) != nextAvailable
  }

  /// Where the device stands, for status displays: next available and next used index.
  public var indices: (available: RingIndex, used: RingIndex) { (nextAvailable, nextUsed) }
}

#if CELLMATE_WATCH
  extension DeviceQueue {
    /// Takes a ban of the part of the ring back that this side writes.
    public func allowUsedRing() {
      usedHead.allow()
      usedRing.allow()
      availableEvent.allow()
    }

    /// Whether the chain behind a ticket of this queue is not with the device any more; `false` for
    /// tickets of its predecessors.
    public func hasReturned(_ ticket: ChainTicket) -> Bool {
      ticket.generation == generation && states[ticket.head] != Self.taken
    }
  }

  extension TakenChain {
    /// What ``detach()`` would name it, without giving it away.
    public var ticket: ChainTicket { ChainTicket(head: head, generation: generation) }
  }
#endif
