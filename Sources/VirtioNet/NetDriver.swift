public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// One queue pair of a network driver.
struct NetDriverPair: BitwiseCopyable {
  /// Buffers for frames to be sent that are free, one bit each.
  var freeBuffers: UInt64 = 0
  /// Buffers of the frame that is being put together, and how many it will have.
  var partCount = 0
  var partsWanted = 0
  /// Whether a frame found no free buffer, so that the next one that comes back is waited for.
  var isStarved = false
}

/// A buffer of a received frame.
struct NetDriverPart: BitwiseCopyable {
  var token = 0
  var count = 0
}

/// The network device, driver side (VIRTIO 1.4, 5.1): frames out, frames in, commands.
///
/// It knows no transport: the caller sets the device up, gives it the queues with
/// ``attach(_:at:)``, calls ``begin(features:)`` and carries notifications. What a device that
/// went away had not taken is lost, as frames may be.
///
/// The device is not trusted: every frame is copied once, and its header is checked against the
/// copy.
public struct NetDriver: ~Copyable {
  /// What was counted.
  public internal(set) var counters = NetDriverCounters()
  /// The sizes.
  public let layout: NetDriverLayout
  let region: SharedRegion
  let out: BufferSegment
  let into: BufferSegment
  let pairs: PrivateTable<NetDriverPair>
  let parts: PrivateTable<NetDriverPart>
  var queues: PrivateStore<DriverQueue>
  /// What was agreed, and what the device may leave undone in frames.
  var features = FeatureSet()
  var guestOffloads = FeatureSet()
  /// Whether the answer to a command has not been taken yet.
  public internal(set) var isCommandOpen = false
  /// Pairs that frames may be sent on, and those that the open command asks for.
  public internal(set) var activePairs = 1
  var askedPairs: Int?

  /// Prepares the books; `nil` when `arena` cannot hold them.
  ///
  /// - Parameters:
  ///   - out: `layout.outBytes` bytes that the device may read.
  ///   - into: `layout.inBytes` bytes that the device may write.
  @inline(never)
  public init?(
    _ layout: NetDriverLayout, out: BufferSegment, into: BufferSegment, region: SharedRegion,
    arena: inout PrivateArena
  ) {
    precondition(out.count >= layout.outBytes && into.count >= layout.inBytes)
    guard let pairs = arena.table(of: layout.pairs, initial: NetDriverPair()),
      let parts = arena.table(
        of: layout.pairs * layout.receiveDepth, initial: NetDriverPart()),
      let queues = PrivateStore<DriverQueue>(count: layout.queueCount, in: &arena)
    else { return nil }
    self.layout = layout
    self.region = region
    self.out = out
    self.into = into
    self.pairs = pairs
    self.parts = parts
    self.queues = queues
  }

  /// What this driver makes use of, among `offered`.
  public static func wanted(of offered: FeatureSet) -> FeatureSet {
    let known = FeatureSet.netChecksum.union(.netGuestChecksum).union(.netMTU).union(.netAddress)
      .union(.netGuestTCP4).union(.netGuestTCP6).union(.netGuestECN).union(.netHostTCP4)
      .union(.netHostTCP6).union(.netHostECN).union(.netMergeable).union(.netStatus)
      .union(.netControl).union(.netControlReceive).union(.netControlReceiveExtra)
      .union(.netAnnounce).union(.netQueuePairs).union(.netControlAddress)
      .union(.netControlOffloads)
    return offered.intersection(known).netConsistent
  }

  // MARK: Life of the queues

  /// Takes a fresh queue of a device that was set up; each needs `layout.queueSize` descriptors.
  /// The control queue's number at the device is for the caller to work out: ``NetQueue``.
  public mutating func attach(_ queue: consuming DriverQueue, at place: NetQueue) {
    precondition(queue.freeDescriptorCount >= layout.queueSize)
    let index = place.index(pairs: layout.pairs)
    if queues.isOccupied(index) { _ = queues.remove(at: index) }
    queues.put(queue, at: index)
  }

  /// Whether a queue is there.
  @inline(never)
  public func isAttached(_ place: NetQueue) -> Bool {
    queues.isOccupied(place.index(pairs: layout.pairs))
  }

  /// The device runs with `features`: gives it every buffer for frames.
  public mutating func begin(features: FeatureSet) {
    self.features = features
    guestOffloads = features.intersection(.netGuestOffloads)
    isCommandOpen = false
    activePairs = 1
    askedPairs = nil
    for index in 0..<layout.pairs {
      var pair = NetDriverPair()
      pair.freeBuffers = layout.depth == 64 ? .max : 1 << UInt64(layout.depth) - 1
      pairs[index] = pair
      guard isAttached(.receive(pair: index)) else { continue }
      for token in 0..<layout.receiveDepth { offer(token, index) }
    }
  }

  /// Drops all queues, after the device was reset or has gone.
  public mutating func detach() {
    for index in 0..<layout.pairs where isAttached(.transmit(pair: index)) {
      do throws(QueueError) { try reclaim(index) } catch { continue }
      let busy = layout.depth - pairs[index].freeBuffers.nonzeroBitCount
      counters.lost &+= UInt64(busy)
    }
    for index in 0..<queues.count where queues.isOccupied(index) { _ = queues.remove(at: index) }
    isCommandOpen = false
  }

  // MARK: Buffers

  @inline(never)
  func receiveBuffer(_ token: Int, _ pair: Int) -> BufferSegment {
    into.slice(
      from: (pair * layout.receiveDepth + token) * layout.receiveSize, count: layout.receiveSize)
  }

  private func sendBuffer(_ token: Int, _ pair: Int) -> BufferSegment {
    out.slice(from: (pair * layout.depth + token) * layout.sendSize, count: layout.sendSize)
  }

  var commandBuffer: BufferSegment {
    out.slice(
      from: layout.pairs * layout.depth * layout.sendSize, count: NetDriverLayout.commandSize)
  }

  var answerBuffer: BufferSegment {
    into.slice(from: layout.pairs * layout.receiveDepth * layout.receiveSize, count: 1)
  }

  /// A queue that the device broke takes nothing; the error comes out where used chains are taken.
  @inline(never)
  mutating func add(
    _ place: NetQueue, _ buffers: Span<BufferSegment>, readable count: Int, token: Int
  ) {
    do throws(AddError) {
      try queues[place.index(pairs: layout.pairs)].add(
        readable: buffers.extracting(0..<count),
        writable: buffers.extracting(count..<buffers.count),
        token: UInt32(token))
    } catch {
      precondition(error == .poisoned, "a queue holds all buffers")
    }
  }

  @inline(never)
  mutating func offer(_ token: Int, _ pair: Int) {
    let buffers: InlineArray<1, BufferSegment> = [receiveBuffer(token, pair)]
    add(.receive(pair: pair), buffers.span, readable: 0, token: token)
  }

  // MARK: Sending

  /// Puts a frame into a free buffer; whether there was one. It goes out with ``publish()``.
  ///
  /// - Parameters:
  ///   - frame: 14 bytes or more, and no more than a buffer holds beside the header.
  ///   - offload: what is left undone; only what was agreed.
  ///   - pair: below ``activePairs``; another one stands for the first (VIRTIO 1.4, 5.1.9.5.6.1).
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func send(
    _ frame: Span<UInt8>, _ offload: FrameOffload = FrameOffload(), pair wanted: Int = 0
  ) throws(QueueError) -> Bool {
    let pair = wanted < activePairs ? wanted : 0
    precondition(frame.count >= NetFormat.etherSize)
    precondition(frame.count <= layout.sendSize - NetFormat.headerSize)
    guard isAttached(.transmit(pair: pair)) else { return false }
    try reclaim(pair)
    guard pairs[pair].freeBuffers != 0 else {
      setStarved(pair, true)
      return false
    }
    if pairs[pair].isStarved { setStarved(pair, false) }
    let token = pairs[pair].freeBuffers.trailingZeroBitCount
    free(pair, pairs[pair].freeBuffers & (pairs[pair].freeBuffers &- 1))
    let buffer = sendBuffer(token, pair)
    // The number of buffers is 0 in what a driver sends (VIRTIO 1.4, 5.1.9.2.1).
    let header = NetHeader(offload, bufferCount: 0)
    var bytes = InlineArray<12, UInt8>(repeating: 0)
    for index in 0..<bytes.count { bytes[index] = header.byte(at: index) }
    let start = buffer.offset + bytes.count
    region.copy(bytes.span, into: region.ownRange(buffer.offset..<start))
    region.copy(frame, into: region.ownRange(start..<start + frame.count))
    let buffers: InlineArray<1, BufferSegment> = [
      buffer.slice(from: 0, count: bytes.count + frame.count)
    ]
    add(.transmit(pair: pair), buffers.span, readable: 1, token: token)
    counters.framesSent &+= 1
    return true
  }

  /// Sets which buffers are free. Not in place: with -sanitize=thread the compiler of Swift 6.3
  /// dies of an assignment into an entry of the table.
  private func free(_ pair: Int, _ buffers: UInt64) {
    var entry = pairs[pair]
    entry.freeBuffers = buffers
    pairs[pair] = entry
  }

  /// Frames that the device has not taken yet; while there are some, it is asked to notify when it
  /// takes one.
  ///
  /// - Throws: what the device did wrong on a queue: reset it and set it up again.
  public mutating func unsentCount() throws(QueueError) -> Int {
    var count = 0
    for pair in 0..<layout.pairs where isAttached(.transmit(pair: pair)) {
      try reclaim(pair)
      let busy = layout.depth - pairs[pair].freeBuffers.nonzeroBitCount
      if busy > 0 { setStarved(pair, true) }
      count += busy
    }
    return count
  }

  private func setStarved(_ pair: Int, _ isStarved: Bool) {
    var entry = pairs[pair]
    entry.isStarved = isStarved
    pairs[pair] = entry
  }

  private mutating func reclaim(_ pair: Int) throws(QueueError) {
    let index = NetQueue.transmit(pair: pair).index(pairs: layout.pairs)
    for _ in 0..<layout.depth {
      guard let used = try queues[index].takeUsed() else { return }
      free(pair, pairs[pair].freeBuffers | 1 << UInt64(used.token))
    }
  }

  // MARK: Notifications

  /// Shows the device everything new; the places in ``NetQueue/index(pairs:)`` order of the queues
  /// that want to be notified, one bit each.
  public mutating func publish() -> UInt32 {
    var wanted: UInt32 = 0
    for index in 0..<queues.count where queues.isOccupied(index) {
      if queues[index].publish() { wanted |= 1 << UInt32(index) }
    }
    return wanted
  }

  /// Whether the caller waits for what the device returns on a queue: on one for frames to be sent
  /// only while a frame found no room, on the one for commands only while a command is open.
  private func isAwaited(_ index: Int) -> Bool {
    guard queues.isOccupied(index) else { return false }
    switch NetQueue(index: index, pairs: layout.pairs) {
    case .receive: return true
    case .transmit(let pair): return pairs[pair].isStarved
    case .control: return isCommandOpen
    case nil: return false
    }
  }

  /// Whether the device has returned something that the caller waits for.
  @inline(never)
  public var hasCompletion: Bool {
    for index in 0..<queues.count where isAwaited(index) {
      if queues[index].hasPending() { return true }
    }
    return false
  }

  /// Asks the device for notifications of what the caller waits for; the caller does one full
  /// fence, then looks at ``hasCompletion`` before it sleeps.
  public mutating func armNotifications() {
    for index in 0..<queues.count where isAwaited(index) {
      queues[index].armNotifications()
    }
  }

  /// Asks the device to stay quiet while the caller looks by itself.
  public mutating func suppressNotifications() {
    for index in 0..<queues.count where queues.isOccupied(index) {
      queues[index].suppressNotifications()
    }
  }
}
