public import SharedMemory

/// Why the driver side cannot add a chain now; our own state, not the peer's fault.
public enum AddError: Error, Equatable, Sendable {
  /// Not enough free descriptors; take used chains first.
  case full
  /// An earlier error of the device stopped this queue.
  case poisoned
  /// The chain is empty or longer than the queue allows.
  case chainLength(Int, limit: Int)
}

/// A chain the device has used.
public struct UsedChain: Equatable, Sendable {
  /// What the caller named the chain.
  public let token: UInt32
  /// Bytes the device says it wrote; at most what it was given.
  public let written: UInt32

  @usableFromInline
  init(token: UInt32, written: UInt32) {
    self.token = token
    self.written = written
  }
}

/// The driver's side of a split virtqueue (VIRTIO 1.4, 2.7).
///
/// Free descriptors, lengths and tokens live in private shadows; shared memory is written and,
/// except for the device's used ring, never read back. What the device returns is checked against
/// what it was given.
public struct DriverQueue: ~Copyable {
  @usableFromInline let access: AccessMap
  @usableFromInline let region: SharedRegion
  @usableFromInline let descriptors: SharedTable<16>
  @usableFromInline let availableHead: SharedTable<4>
  @usableFromInline let availableRing: SharedTable<2>
  @usableFromInline let usedEvent: SharedTable<2>
  @usableFromInline let usedHead: SharedTable<4>
  @usableFromInline let usedRing: SharedTable<8>
  @usableFromInline let availableEvent: SharedTable<2>
  /// Which descriptor follows which, among the free ones and inside a chain.
  @usableFromInline let nextFree: PrivateRing<UInt16>
  /// What is known about the chain that starts at each descriptor.
  @usableFromInline let shadows: PrivateRing<Shadow>
  /// In-order queues: heads in the order they were made available.
  @usableFromInline let order: PrivateRing<UInt16>
  @usableFromInline let size: UInt16
  @usableFromInline let chainLimit: Int
  @usableFromInline let features: QueueFeatures
  /// Where the indirect tables start, and how many entries each of them has; 0 when there are none.
  @usableFromInline let indirectStart: Int
  @usableFromInline let indirectEntries: Int
  @usableFromInline var freeHead: UInt16 = 0
  @usableFromInline var freeDescriptors: UInt16
  /// The next entry of the available ring to write, and how far the device was told.
  @usableFromInline var nextAvailable = RingIndex(0)
  @usableFromInline var publishedAvailable = RingIndex(0)
  /// The next used element to take, and how far the device was seen to be.
  @usableFromInline var nextUsed = RingIndex(0)
  @usableFromInline var seenUsed = RingIndex(0)
  /// In-order queues: whether an element that stands for several chains is being taken apart.
  @usableFromInline var hasBatch = false
  @usableFromInline var batchEnd: UInt16 = 0
  @usableFromInline var batchWritten: UInt32 = 0
  @usableFromInline var hasFailed = false
  @usableFromInline var counts = QueueCounters()

  /// What the driver knows about one chain. Never in shared memory.
  @usableFromInline
  struct Shadow: BitwiseCopyable {
    @usableFromInline var token: UInt32 = 0
    /// Bytes the device may write.
    @usableFromInline var limit: UInt32 = 0
    /// Descriptors of the ring the chain occupies; 0 when none is in flight.
    @usableFromInline var length: UInt16 = 0
    /// The last of them.
    @usableFromInline var last: UInt16 = 0

    @inlinable @inline(__always)
    init(token: UInt32 = 0, limit: UInt32 = 0, length: UInt16 = 0, last: UInt16 = 0) {
      self.token = token
      self.limit = limit
      self.length = length
      self.last = last
    }
  }

  /// Private memory one queue of this size needs, in bytes.
  public static func privateBytes(size: QueueSize) -> Int { 16 * Int(size.rawValue) + 4 * 64 }

  /// Makes the driver side and clears the rings it may write.
  ///
  /// - Parameters:
  ///   - access: what this side may write; the used ring only has to be readable.
  ///   - indirectTables: room for one table of 16-byte descriptors a queue entry, 16-byte aligned,
  ///     in memory this side writes; `nil` makes direct chains only.
  public init(
    _ configuration: QueueConfiguration, in region: SharedRegion, access: AccessMap,
    arena: inout PrivateArena, indirectTables: BufferSegment? = nil
  ) throws(QueueError) {
    let rings = try CheckedRings(configuration, in: region, access: access, side: .driver)
    let count = Int(configuration.size.rawValue)
    guard let nextFree = arena.ring(of: count, initial: UInt16(0)),
      let shadows = arena.ring(of: count, initial: Shadow()),
      let order = arena.ring(of: count, initial: UInt16(0))
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
    self.nextFree = nextFree
    self.shadows = shadows
    self.order = order
    size = configuration.size.rawValue
    // No chain is longer than the queue, indirect ones neither (VIRTIO 1.4, 2.7.5.3.1).
    chainLimit = min(configuration.maximumChainLength, count)
    features = configuration.features
    let tables =
      configuration.features.contains(.indirectDescriptors) ? indirectTables ?? .empty : .empty
    precondition(tables.offset & 15 == 0, "indirect tables are aligned to 16 bytes")
    indirectStart = tables.offset
    indirectEntries = tables.count / 16 / count
    freeDescriptors = size
    for index in 0..<size { nextFree[index] = (index &+ 1) & (size &- 1) }
    // Notifications start suppressed; with EVENT_IDX by the index alone (VIRTIO 1.4, 2.7.7.1).
    let flags = features.contains(.eventIndex) ? 0 : Flag.noInterrupt
    availableHead.store16(flags, 0, field: 0)
    usedEvent.store16(size, 0)
    availableHead.store16Releasing(0, 0, field: 2)
  }

  /// Whether an error of the device stopped this queue.
  public var isPoisoned: Bool { hasFailed }
  /// Chains the device has.
  public var inFlightCount: Int { Int(nextAvailable.distance(from: nextUsed)) }
  /// Descriptors that are free.
  public var freeDescriptorCount: Int { Int(freeDescriptors) }
  /// Where the driver stands, for status displays: next available and next used index.
  public var indices: (available: RingIndex, used: RingIndex) { (nextAvailable, nextUsed) }
  /// What was counted since the queue was made.
  public var counters: QueueCounters { counts }

  // MARK: Adding

  /// Adds a chain of the given buffers; the device sees it after ``publish()``. `token` comes
  /// back with the used chain.
  ///
  /// - Throws: that there is no room now, or never; nothing was added then.
  #if CELLMATE_SMALL
    @inline(never)
  #else
    @inlinable @inline(__always)
  #endif
  public mutating func add(
    readable: Span<BufferSegment>, writable: Span<BufferSegment>, token: UInt32
  ) throws(AddError) {
    var chain = try open(length: readable.count &+ writable.count)
    if chain.table < 0 {
      for position in readable.indices { putDirect(readable[position], flags: 0, &chain) }
      for position in writable.indices {
        putDirect(writable[position], flags: Flag.write, &chain)
      }
    } else {
      for position in readable.indices { putIndirect(readable[position], flags: 0, &chain) }
      for position in writable.indices {
        putIndirect(writable[position], flags: Flag.write, &chain)
      }
    }
    close(chain, token)
  }

  /// Adds a chain of a few buffers whose number is known where this is called: the first
  /// `readableCount` are for the device to read, the others to write.
  ///
  /// - Throws: that there is no room now, or never; nothing was added then.
  @inlinable @inline(__always)
  public mutating func add<let count: Int>(
    _ buffers: InlineArray<count, BufferSegment>, readableCount: Int, token: UInt32
  ) throws(AddError) {
    var chain = try open(length: count)
    if chain.table < 0 {
      for position in 0..<count {
        let flags = position < readableCount ? 0 : Flag.write
        putDirect(buffers[position], flags: flags, &chain)
      }
    } else {
      for position in 0..<count {
        let flags = position < readableCount ? 0 : Flag.write
        putIndirect(buffers[position], flags: flags, &chain)
      }
    }
    close(chain, token)
  }

  /// A chain that is being written.
  @usableFromInline
  struct PendingChain {
    @usableFromInline let head: UInt16
    /// Offset of its indirect table; -1 for a chain in the ring's own table.
    @usableFromInline let table: Int
    @usableFromInline let length: Int
    @usableFromInline var position = 0
    /// The descriptor to write next, and the one written last.
    @usableFromInline var index: UInt16
    @usableFromInline var last: UInt16
    /// All bytes, and those of them that the device may write.
    @usableFromInline var total: UInt64 = 0
    @usableFromInline var given: UInt64 = 0
    /// All lengths or-ed together: one comparison at the end finds a length that is none.
    @usableFromInline var lengthBits = 0

    @inlinable @inline(__always)
    init(head: UInt16, table: Int, length: Int) {
      self.head = head
      self.table = table
      self.length = length
      index = head
      last = head
    }

    /// Counts `buffer` in; the second half of its descriptor, without next.
    @inlinable @inline(__always)
    mutating func word(for buffer: BufferSegment, flags: UInt16) -> UInt64 {
      position &+= 1
      let count = UInt64(truncatingIfNeeded: buffer.count)
      lengthBits |= buffer.count
      total &+= count
      if flags & Flag.write != 0 { given &+= count }
      let all = position < length ? flags | Flag.next : flags
      return count | UInt64(all) &<< 32
    }
  }

  @inlinable @inline(__always)
  mutating func open(length: Int) throws(AddError) -> PendingChain {
    guard !hasFailed else { throw .poisoned }
    guard length > 0, length <= chainLimit else {
      throw .chainLength(length, limit: chainLimit)
    }
    let isIndirect = length > 1 && length <= indirectEntries
    guard (isIndirect ? 1 : length) <= Int(freeDescriptors) else { throw .full }
    let table = isIndirect ? indirectStart &+ 16 &* indirectEntries &* Int(freeHead) : -1
    return PendingChain(head: freeHead, table: table, length: length)
  }

  /// Writes the next descriptor of a chain in the ring's own table.
  @inlinable @inline(__always)
  mutating func putDirect(_ buffer: BufferSegment, flags: UInt16, _ chain: inout PendingChain) {
    let next = nextFree[chain.index]
    let word = chain.word(for: buffer, flags: flags)
    descriptors.store64(access.address(ofOffset: buffer.offset), Int(chain.index), field: 0)
    // The last one names a next, too, which its flags tell the device not to follow.
    descriptors.store64(word | UInt64(next) &<< 48, Int(chain.index), field: 8)
    chain.last = chain.index
    chain.index = next
  }

  /// Writes the next descriptor of a chain in an indirect table.
  @inlinable @inline(__always)
  mutating func putIndirect(_ buffer: BufferSegment, flags: UInt16, _ chain: inout PendingChain) {
    let start = chain.table &+ 16 &* chain.position
    let word = chain.word(for: buffer, flags: flags)
    let next = word & (1 << 32) == 0 ? 0 : UInt64(chain.position)
    region.store64(access.address(ofOffset: buffer.offset), at: start)
    region.store64(word | next &<< 48, at: start &+ 8)
  }

  #if CELLMATE_SMALL
    @usableFromInline @inline(never)
  #else
    @inlinable @inline(__always)
  #endif
  mutating func close(_ chain: PendingChain, _ token: UInt32) {
    precondition(chain.lengthBits >> 32 == 0, "a buffer has less than 2^32 bytes")
    precondition(chain.total <= UInt64(UInt32.max), "a chain has less than 2^32 bytes")
    var length = UInt16(truncatingIfNeeded: chain.length)
    var next = chain.index
    if chain.table >= 0 {
      length = 1
      next = nextFree[chain.head]
      descriptors.store64(
        access.address(ofOffset: chain.table), Int(chain.head), field: 0)
      descriptors.store64(
        UInt64(16 &* chain.length) | UInt64(Flag.indirect) &<< 32, Int(chain.head), field: 8)
    }
    freeHead = next
    freeDescriptors &-= length
    shadows[chain.head] = Shadow(
      token: token, limit: UInt32(truncatingIfNeeded: chain.given), length: length,
      last: chain.last)
    if features.contains(.inOrder) { order[nextAvailable.rawValue] = chain.head }
    availableRing.store16(chain.head, Int(nextAvailable.rawValue))
    nextAvailable.advance()
  }

  /// Shows the device everything added so far; returns whether it wants a notification
  /// (VIRTIO 1.4, 2.7.7 and 2.7.10). Does nothing, without a fence, when nothing was added.
  @inlinable
  public mutating func publish() -> Bool {
    let old = publishedAvailable
    guard publishQuietly() else { return false }
    // Pairs with the device's fence between arming and its last look. Otherwise a notification
    // is lost.
    Ordering.fullFence()
    let notifies =
      features.contains(.eventIndex)
      ? nextAvailable.passes(event: availableEvent.load16(0), since: old)
      : usedHead.load16(0, field: 0) & Flag.noNotify == 0
    counts.notifications &+= notifies ? 1 : 0
    return notifies
  }

  /// Shows the device everything added so far and does not ask whether it sleeps: for a device
  /// that is known to look by itself (a polled link), which saves the full fence. Returns whether
  /// there was anything to show.
  @inlinable @discardableResult
  public mutating func publishQuietly() -> Bool {
    guard publishedAvailable != nextAvailable else { return false }
    // Releases ring entries and descriptors (VIRTIO 1.4, 2.7.13.3.1).
    availableHead.store16Releasing(nextAvailable.rawValue, 0, field: 2)
    counts.chains &+= UInt64(nextAvailable.distance(from: publishedAvailable))
    publishedAvailable = nextAvailable
    return true
  }

  // MARK: Used chains

  /// The next chain the device has used, or `nil` when there is none.
  ///
  /// - Throws: what the device did wrong; the queue is poisoned then.
  #if CELLMATE_SMALL
    @inline(never)
  #else
    @inlinable @inline(__always)
  #endif
  public mutating func takeUsed() throws(QueueError) -> UsedChain? {
    if nextUsed == seenUsed {
      guard try look() else { return nil }
    }
    if features.contains(.inOrder) { return try takeUsedInOrder() }
    let id = usedRing.load32(Int(nextUsed.rawValue), field: 0)
    let written = usedRing.load32(Int(nextUsed.rawValue), field: 4)
    guard id < UInt32(size) else { throw poison(.usedUnknown(id)) }
    let head = UInt16(truncatingIfNeeded: id)
    let shadow = shadows[head]
    guard shadow.length != 0 else { throw poison(.usedUnknown(id)) }
    guard written <= shadow.limit else {
      throw poison(.writtenTooMuch(written, limit: shadow.limit))
    }
    // The chain's descriptors are linked in the private shadow already: only its end is mended.
    nextFree[shadow.last] = freeHead
    freeHead = head
    return retire(head, shadow, written)
  }

  /// Looks how far the device is, when everything seen so far was taken.
  @inlinable @inline(__always)
  mutating func look() throws(QueueError) -> Bool {
    guard !hasFailed else { throw .poisoned }
    // In order: a batch that claims more chains than the index moved by is the device's error.
    guard !hasBatch else { throw poison(.usedUnknown(UInt32(batchEnd))) }
    // Pairs with the device's release of `idx`: the elements behind it are whole.
    let published = RingIndex(usedHead.load16Acquiring(0, field: 2))
    let pending = published.distance(from: nextUsed)
    if pending == 0 { return false }
    let inFlight = publishedAvailable.distance(from: nextUsed)
    guard pending <= inFlight else {
      throw poison(.tooManyUsed(pending: pending, inFlight: inFlight))
    }
    seenUsed = published
    return true
  }

  @inlinable @inline(__always)
  mutating func retire(_ head: UInt16, _ shadow: Shadow, _ written: UInt32) -> UsedChain {
    freeDescriptors &+= shadow.length
    shadows[head] = Shadow()
    nextUsed.advance()
    return UsedChain(token: shadow.token, written: written)
  }

  /// In order, one element may stand for a whole batch: it names the last chain, and the index
  /// moves by the number of chains (VIRTIO 1.4, 2.7.9). The skipped ones count as used completely.
  ///
  /// Descriptors are used in ring order then (2.7.5.2): freed ones join the end of the free list,
  /// which is where they are linked already.
  @usableFromInline @inline(never)
  mutating func takeUsedInOrder() throws(QueueError) -> UsedChain? {
    let head = order[nextUsed.rawValue]
    let shadow = shadows[head]
    if !hasBatch {
      let id = usedRing.load32(Int(nextUsed.rawValue), field: 0)
      batchWritten = usedRing.load32(Int(nextUsed.rawValue), field: 4)
      guard id < UInt32(size), shadows[UInt16(id)].length != 0 else {
        throw poison(.usedUnknown(id))
      }
      batchEnd = UInt16(id)
      hasBatch = true
    }
    let isLast = head == batchEnd
    let written = isLast ? batchWritten : shadow.limit
    guard written <= shadow.limit else {
      throw poison(.writtenTooMuch(written, limit: shadow.limit))
    }
    if isLast { hasBatch = false }
    return retire(head, shadow, written)
  }

  @usableFromInline @inline(never)
  mutating func poison(_ error: QueueError) -> QueueError {
    hasFailed = true
    // What was seen no longer counts: every later take looks, and finds the queue poisoned.
    seenUsed = nextUsed
    return error
  }

  // MARK: Notifications from the device

  /// Asks the device to stay quiet while the driver looks by itself.
  @inlinable
  public mutating func suppressNotifications() {
    if !features.contains(.eventIndex) {
      availableHead.store16(Flag.noInterrupt, 0, field: 0)
    }
    // With EVENT_IDX the old event index lies behind: nothing passes it before the next wrap.
  }

  /// Asks the device for a notification after `count` more used chains (at least 1). No fence:
  /// the owner arms everything, does one full fence, then looks.
  @inlinable
  public mutating func armNotifications(after count: UInt16 = 1) {
    if features.contains(.eventIndex) {
      usedEvent.store16(nextUsed.rawValue &+ (count &- 1), 0)
    } else {
      availableHead.store16(0, 0, field: 0)
    }
  }

  /// Whether the device has used chains that were not yet taken.
  @inlinable
  public func hasPending() -> Bool {
    !hasFailed && RingIndex(usedHead.load16Acquiring(0, field: 2)) != nextUsed
  }

  /// Calls `body` with the token of every chain the device still has, for re-submission after it
  /// was restarted.
  public func forEachInFlight(_ body: (UInt32) -> Void) {
    for head in 0..<size where shadows[head].length != 0 { body(shadows[head].token) }
  }
}
