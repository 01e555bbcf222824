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
  @usableFromInline let nextFree: PrivateTable<UInt16>
  @usableFromInline let lengths: PrivateTable<UInt16>
  @usableFromInline let tokens: PrivateTable<UInt32>
  @usableFromInline let limits: PrivateTable<UInt32>
  @usableFromInline let order: PrivateTable<UInt16>
  @usableFromInline let size: UInt16
  @usableFromInline let mask: UInt16
  @usableFromInline let chainLimit: Int
  @usableFromInline let features: QueueFeatures
  @usableFromInline let indirectTables: BufferSegment?
  @usableFromInline let indirectEntries: Int
  @usableFromInline var freeHead: UInt16 = 0
  @usableFromInline var freeDescriptors: UInt16
  @usableFromInline var nextAvailable: UInt16 = 0
  @usableFromInline var publishedAvailable: UInt16 = 0
  @usableFromInline var nextUsed: UInt16 = 0
  @usableFromInline var seenUsed: UInt16 = 0
  @usableFromInline var chainsInFlight: UInt16 = 0
  @usableFromInline var nextOrdered: UInt16 = 0
  @usableFromInline var hasBatch = false
  @usableFromInline var batchEnd: UInt16 = 0
  @usableFromInline var batchWritten: UInt32 = 0
  @usableFromInline var hasFailed = false

  /// Private memory one queue of this size needs, in bytes.
  public static func privateBytes(size: QueueSize) -> Int { 14 * Int(size.rawValue) + 5 * 64 }

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
    guard let nextFree = arena.table(of: count, initial: UInt16(0)),
      let lengths = arena.table(of: count, initial: UInt16(0)),
      let tokens = arena.table(of: count, initial: UInt32(0)),
      let limits = arena.table(of: count, initial: UInt32(0)),
      let order = arena.table(of: count, initial: UInt16(0))
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
    self.lengths = lengths
    self.tokens = tokens
    self.limits = limits
    self.order = order
    size = configuration.size.rawValue
    mask = size &- 1
    chainLimit = configuration.maximumChainLength
    features = configuration.features
    let usesIndirect = configuration.features.contains(.indirectDescriptors)
    self.indirectTables = usesIndirect ? indirectTables : nil
    indirectEntries = usesIndirect ? (indirectTables?.count ?? 0) / 16 / count : 0
    freeDescriptors = size
    for index in 0..<count { nextFree[index] = UInt16(truncatingIfNeeded: index &+ 1) }
    availableHead.store16(Flag.noInterrupt, 0, field: 0)
    usedEvent.store16(size, 0)
    availableHead.store16Releasing(0, 0, field: 2)
  }

  /// Whether an error of the device stopped this queue.
  public var isPoisoned: Bool { hasFailed }
  /// Chains the device has.
  public var inFlightCount: Int { Int(chainsInFlight) }
  /// Descriptors that are free.
  public var freeDescriptorCount: Int { Int(freeDescriptors) }
  /// Where the driver stands, for status displays: next available and next used index.
  public var indices: (available: UInt16, used: UInt16) { (nextAvailable, nextUsed) }

  // MARK: Adding

  /// Adds a chain of the given buffers; the device sees it after ``publish()``. `token` comes
  /// back with the used chain.
  @inlinable @inline(__always)
  public mutating func add(
    readable: Span<BufferSegment>, writable: Span<BufferSegment>, token: UInt32
  ) throws(AddError) {
    let length = readable.count &+ writable.count
    guard !hasFailed else { throw .poisoned }
    guard length > 0, length <= chainLimit else {
      throw .chainLength(length, limit: chainLimit)
    }
    if length > 1, length <= indirectEntries, freeDescriptors > 0 {
      addIndirect(readable, writable, token, length)
      return
    }
    guard length <= Int(size) else { throw .chainLength(length, limit: Int(size)) }
    guard length <= Int(freeDescriptors) else { throw .full }
    let head = freeHead
    var index = head
    var remaining = length
    var given: UInt32 = 0
    for position in readable.indices {
      remaining &-= 1
      index = writeDirect(index, readable[position], 0, isLast: remaining == 0)
    }
    for position in writable.indices {
      remaining &-= 1
      given &+= UInt32(truncatingIfNeeded: writable[position].count)
      index = writeDirect(index, writable[position], Flag.write, isLast: remaining == 0)
    }
    freeHead = index
    makeAvailable(head, length: UInt16(truncatingIfNeeded: length), given, token)
  }

  // Mutating, though nothing of it changes: a borrow would copy the whole queue.
  @inlinable @inline(__always)
  mutating func writeDirect(
    _ index: UInt16, _ segment: BufferSegment, _ flags: UInt16, isLast: Bool
  ) -> UInt16 {
    let next = nextFree[Int(index)]
    let word = flags | (isLast ? 0 : Flag.next)
    descriptors.store64(access.address(ofOffset: segment.offset), Int(index), field: 0)
    descriptors.store64(
      UInt64(UInt32(truncatingIfNeeded: segment.count)) | UInt64(word) &<< 32
        | UInt64(isLast ? 0 : next) &<< 48,
      Int(index), field: 8)
    return next
  }

  @usableFromInline @inline(never)
  mutating func addIndirect(
    _ readable: Span<BufferSegment>, _ writable: Span<BufferSegment>, _ token: UInt32,
    _ length: Int
  ) {
    guard let indirectTables else { preconditionFailure("no room for indirect tables") }
    let head = freeHead
    let table = indirectTables.offset + 16 * indirectEntries * Int(head)
    var given: UInt32 = 0
    for position in 0..<length {
      let isWritable = position >= readable.count
      let segment = isWritable ? writable[position - readable.count] : readable[position]
      if isWritable { given &+= UInt32(truncatingIfNeeded: segment.count) }
      let flags = (isWritable ? Flag.write : 0) | (position + 1 < length ? Flag.next : 0)
      region.store64(access.address(ofOffset: segment.offset), at: table + 16 * position)
      region.store64(
        UInt64(UInt32(truncatingIfNeeded: segment.count)) | UInt64(flags) << 32
          | UInt64(position + 1 < length ? position + 1 : 0) << 48,
        at: table + 16 * position + 8)
    }
    freeHead = nextFree[Int(head)]
    descriptors.store64(access.address(ofOffset: table), Int(head), field: 0)
    descriptors.store64(
      UInt64(16 * length) | UInt64(Flag.indirect) << 32, Int(head), field: 8)
    makeAvailable(head, length: 1, given, token)
  }

  @inlinable @inline(__always)
  mutating func makeAvailable(
    _ head: UInt16, length: UInt16, _ given: UInt32, _ token: UInt32
  ) {
    freeDescriptors &-= length
    lengths[Int(head)] = length
    limits[Int(head)] = given
    tokens[Int(head)] = token
    if features.contains(.inOrder) { order[Int(nextAvailable & mask)] = head }
    availableRing.store16(head, Int(nextAvailable))
    nextAvailable &+= 1
    chainsInFlight &+= 1
  }

  /// Shows the device everything added so far; returns whether it wants a notification.
  @inlinable
  public mutating func publish() -> Bool {
    let old = publishedAvailable
    guard old != nextAvailable else { return false }
    // Releases ring entries and descriptors (VIRTIO 1.4, 2.7.13.3.1).
    availableHead.store16Releasing(nextAvailable, 0, field: 2)
    publishedAvailable = nextAvailable
    // Pairs with the device's fence between arming and its last look. Otherwise a notification
    // is lost.
    Ordering.fullFence()
    if features.contains(.eventIndex) {
      return passes(event: availableEvent.load16(0), new: nextAvailable, old: old)
    }
    return usedHead.load16(0, field: 0) & Flag.noNotify == 0
  }

  /// Shows the device everything added so far without asking whether it wants to know: for a
  /// device that is known to poll. Saves the fence of ``publish()``.
  @inlinable
  public mutating func publishQuietly() {
    guard publishedAvailable != nextAvailable else { return }
    // Releases ring entries and descriptors, as in `publish`.
    availableHead.store16Releasing(nextAvailable, 0, field: 2)
    publishedAvailable = nextAvailable
  }

  // MARK: Used chains

  /// The next chain the device has used, or `nil` when there is none.
  ///
  /// - Throws: what the device did wrong; the queue is poisoned then.
  @inlinable @inline(__always)
  public mutating func takeUsed() throws(QueueError) -> UsedChain? {
    guard !hasFailed else { throw .poisoned }
    if features.contains(.inOrder) { return try takeUsedInOrder() }
    guard let (id, written) = try nextElement() else { return nil }
    nextUsed &+= 1
    return try retire(id, written)
  }

  /// The used element at the head of the ring, without taking it.
  @inlinable @inline(__always)
  mutating func nextElement() throws(QueueError) -> (id: UInt32, written: UInt32)? {
    if nextUsed == seenUsed {
      // Pairs with the device's release of `idx`: the elements behind it are whole.
      let published = usedHead.load16Acquiring(0, field: 2)
      let pending = published &- nextUsed
      if pending == 0 { return nil }
      guard pending <= chainsInFlight else {
        throw poison(.tooManyUsed(pending: pending, inFlight: chainsInFlight))
      }
      seenUsed = published
    }
    return (
      usedRing.load32(Int(nextUsed), field: 0), usedRing.load32(Int(nextUsed), field: 4)
    )
  }

  /// Checks what came back and frees its descriptors.
  @inlinable @inline(__always)
  mutating func retire(_ id: UInt32, _ written: UInt32) throws(QueueError) -> UsedChain {
    guard id < UInt32(size), lengths[Int(id)] != 0 else { throw poison(.usedUnknown(id)) }
    let head = Int(id)
    guard written <= limits[head] else {
      throw poison(.writtenTooMuch(written, limit: limits[head]))
    }
    // The chain's descriptors are linked in the private shadow already: only its end is mended.
    var last = head
    for _ in 1..<max(1, Int(lengths[head])) { last = Int(nextFree[last]) }
    nextFree[last] = freeHead
    freeHead = UInt16(truncatingIfNeeded: id)
    freeDescriptors &+= lengths[head]
    lengths[head] = 0
    chainsInFlight &-= 1
    return UsedChain(token: tokens[head], written: written)
  }

  /// In order, one element may stand for a whole batch: it names the last chain, and the index
  /// moves by the number of chains (VIRTIO 1.4, 2.7.9).
  @usableFromInline
  mutating func takeUsedInOrder() throws(QueueError) -> UsedChain? {
    if !hasBatch {
      guard let (id, written) = try nextElement() else { return nil }
      guard id < UInt32(size), lengths[Int(id)] != 0 else { throw poison(.usedUnknown(id)) }
      hasBatch = true
      batchEnd = UInt16(truncatingIfNeeded: id)
      batchWritten = written
    }
    // A batch that claims more chains than the index moved by is the device's error.
    guard nextUsed != seenUsed else { throw poison(.usedUnknown(UInt32(batchEnd))) }
    let head = order[Int(nextOrdered & mask)]
    nextOrdered &+= 1
    nextUsed &+= 1
    let isLast = head == batchEnd
    if isLast { hasBatch = false }
    return try retire(UInt32(head), isLast ? batchWritten : limits[Int(head)])
  }

  @usableFromInline
  mutating func poison(_ error: QueueError) -> QueueError {
    hasFailed = true
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
      usedEvent.store16(nextUsed &+ (count &- 1), 0)
    } else {
      availableHead.store16(0, 0, field: 0)
    }
  }

  /// Whether the device has used chains that were not yet taken.
  @inlinable
  public func hasPending() -> Bool {
    !hasFailed && usedHead.load16Acquiring(0, field: 2) != nextUsed
  }

  /// Calls `body` with the token of every chain the device still has, for re-submission after it
  /// was restarted.
  public func forEachInFlight(_ body: (UInt32) -> Void) {
    for head in 0..<Int(size) where lengths[head] != 0 { body(tokens[head]) }
  }
}
