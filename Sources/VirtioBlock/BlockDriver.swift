public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The block device, driver side (VIRTIO 1.4, 5.2): requests in, completions out.
///
/// It knows no transport: the caller sets the device up, gives it a queue with `attach`
/// and carries notifications. Data buffers lie in the shared region and are used in place. Every
/// block request may be repeated, so requests stay noted until their completion was taken and go
/// out again, in their order, on the next queue.
///
/// The device is not trusted: what it says is compared with what it was asked.
public struct BlockDriver: ~Copyable {
  /// One place for a request; open ones form a list in the order of submission.
  struct Request: BitwiseCopyable {
    var type = BlockRequestType.flush
    var mayUnmap = false
    var isOpen = false
    var sector: UInt64 = 0
    var sectors: UInt32 = 0
    var token: UInt32 = 0
    var data = BufferSegment.empty
    var older: UInt16 = BlockDriver.none
    var newer: UInt16 = BlockDriver.none
  }

  static var none: UInt16 { .max }
  static var headerStride: Int { 32 }
  static var statusStride: Int { 64 }

  /// What was counted.
  public internal(set) var counters = BlockDriverCounters()
  /// What the device says of itself, as of the last attach; all defaults before.
  public private(set) var configuration = BlockConfiguration()
  /// What was agreed, as of the last attach.
  public private(set) var features = FeatureSet()
  let region: SharedRegion
  let requests: PrivateTable<Request>
  var queue: PrivateStore<DriverQueue>
  let headers: BufferSegment
  let statuses: BufferSegment
  var openCount = 0
  /// The open requests' list, and the places that are free, linked by `newer`.
  private var oldest = BlockDriver.none
  private var newest = BlockDriver.none
  private var firstFree: UInt16 = 0

  /// Bytes this driver needs where it may write and the device may read, for `depth` requests.
  public static func headerBytes(depth: Int) -> Int { depth * headerStride }
  /// Bytes this driver needs where the device may write, for `depth` requests.
  public static func statusBytes(depth: Int) -> Int { depth * statusStride }

  /// Prepares for `depth` open requests (1 ... 8192); `nil` when `arena` cannot hold the books.
  ///
  /// - Parameters:
  ///   - headers: ``headerBytes(depth:)`` bytes, aligned to 8, that the device may read.
  ///   - statuses: ``statusBytes(depth:)`` bytes that the device may write.
  @inline(never)
  public init?(
    depth: Int, headers: BufferSegment, statuses: BufferSegment, region: SharedRegion,
    arena: inout PrivateArena
  ) {
    precondition(depth > 0 && depth <= 8192 && headers.offset & 7 == 0)
    precondition(
      headers.count >= Self.headerBytes(depth: depth)
        && statuses.count >= Self.statusBytes(depth: depth))
    guard let requests = arena.table(of: depth, initial: Request()),
      let queue = PrivateStore<DriverQueue>(count: 1, in: &arena)
    else { return nil }
    for index in 0..<depth {
      requests[index].newer = index + 1 < depth ? UInt16(index + 1) : Self.none
    }
    self.region = region
    self.requests = requests
    self.queue = queue
    self.headers = headers
    self.statuses = statuses
  }

  // MARK: Life of the queue

  /// Whether there is a queue.
  public var isAttached: Bool { queue.isOccupied(0) }

  /// Takes a fresh queue of a device that was set up, and adds every open request to it, oldest
  /// first: a flush stays behind the writes it covers. The device sees them after ``publish()``.
  ///
  /// - Throws: ``BlockDriverError/queueTooSmall(found:needed:)`` when it has less than three
  ///   descriptors a request; it is dropped then.
  public mutating func attach(
    queue fresh: consuming DriverQueue, configuration: BlockConfiguration, features: FeatureSet
  ) throws(BlockDriverError) {
    let found = fresh.freeDescriptorCount
    guard found >= 3 * requests.count else {
      throw .queueTooSmall(found: found, needed: 3 * requests.count)
    }
    detachQueue()
    self.configuration = configuration
    self.features = features
    queue.put(fresh, at: 0)
    var index = oldest
    while index != Self.none {
      addToQueue(Int(index))
      counters.resubmitted &+= 1
      index = requests[Int(index)].newer
    }
  }

  /// Drops the queue, after the device was reset or has gone; open requests stay noted.
  public mutating func detachQueue() {
    if queue.isOccupied(0) { _ = queue.remove(at: 0) }
  }

  /// The device's configuration changed (a resize).
  public mutating func update(configuration: BlockConfiguration) {
    self.configuration = configuration
  }

  // MARK: Open requests

  /// Requests that are not finished.
  public var inFlightCount: Int { openCount }

  /// The token of the oldest open request; `nil` when there is none.
  public var oldestToken: UInt32? {
    oldest == Self.none ? nil : requests[Int(oldest)].token
  }

  /// Gives up the oldest open request, for a caller that will not wait for another back-end; only
  /// while no queue is attached, because a device may still use its buffer otherwise.
  public mutating func abandonOldest() -> BlockDriverCompletion? {
    precondition(!isAttached, "a device may still use the buffer")
    guard oldest != Self.none else { return nil }
    return close(Int(oldest), status: nil)
  }

  /// Opens a request and, when there is a queue, adds it.
  mutating func open(_ request: Request) throws(BlockDriverError) {
    guard firstFree != Self.none else { throw .full }
    let index = Int(firstFree)
    firstFree = requests[index].newer
    var request = request
    request.isOpen = true
    request.older = newest
    request.newer = Self.none
    requests[index] = request
    if newest == Self.none {
      oldest = UInt16(index)
    } else {
      requests[Int(newest)].newer = UInt16(index)
    }
    newest = UInt16(index)
    openCount += 1
    counters.submitted &+= 1
    if isAttached { addToQueue(index) }
  }

  /// Takes a request off the list.
  mutating func close(_ index: Int, status: BlockStatus?) -> BlockDriverCompletion {
    let request = requests[index]
    if request.older == Self.none {
      oldest = request.newer
    } else {
      requests[Int(request.older)].newer = request.newer
    }
    if request.newer == Self.none {
      newest = request.older
    } else {
      requests[Int(request.newer)].older = request.older
    }
    requests[index].isOpen = false
    requests[index].newer = firstFree
    firstFree = UInt16(index)
    openCount -= 1
    counters.completed &+= 1
    return BlockDriverCompletion(
      token: request.token, type: request.type, status: status, data: request.data)
  }

  private func header(_ index: Int) -> BufferSegment {
    headers.slice(from: index * Self.headerStride, count: Self.headerStride)
  }

  private func statusByte(_ index: Int) -> BufferSegment {
    statuses.slice(from: index * Self.statusStride, count: 1)
  }

  /// Writes the header, and the range behind it where the request has one, and adds the chain:
  /// there is always room, as the queue holds all requests.
  private mutating func addToQueue(_ index: Int) {
    let request = requests[index]
    let start = header(index)
    let hasRange = request.type == .discard || request.type == .writeZeroes
    region.store32(request.type.rawValue, at: start.offset)
    region.store32(0, at: start.offset + 4)
    // Discard and write zeroes name their sector in the range (VIRTIO 1.4, 5.2.6.1).
    region.store64(hasRange ? 0 : request.sector, at: start.offset + 8)
    if hasRange {
      region.store64(request.sector, at: start.offset + 16)
      region.store32(request.sectors, at: start.offset + 24)
      region.store32(request.mayUnmap ? 1 : 0, at: start.offset + 28)
    }
    let size = BlockFormat.headerSize + (hasRange ? BlockFormat.rangeSize : 0)
    let isFromDevice = request.type == .read || request.type == .getID
    let out: InlineArray<2, BufferSegment> = [start.slice(from: 0, count: size), request.data]
    let into: InlineArray<2, BufferSegment> = [request.data, statusByte(index)]
    do throws(AddError) {
      try queue[0].add(
        readable: out.span.extracting(0..<(request.type == .write ? 2 : 1)),
        writable: into.span.extracting((isFromDevice ? 0 : 1)..<2),
        token: UInt32(truncatingIfNeeded: index))
    } catch {
      // The device broke the queue: the request goes out with the next one.
      precondition(error == .poisoned)
    }
  }

  // MARK: Completions

  /// Shows the device what was added; whether it wants to be notified.
  public mutating func publish() -> Bool { isAttached && queue[0].publish() }

  /// The next finished request, or `nil`. Not in the order of submission.
  ///
  /// - Throws: what the device did wrong on the queue, which is of no use any more: reset the
  ///   device and attach a new one.
  public mutating func nextCompletion() throws(QueueError) -> BlockDriverCompletion? {
    guard isAttached, let used = try queue[0].takeUsed() else { return nil }
    let index = Int(used.token)
    let status = checkedStatus(index, written: Int(used.written))
    if status == nil { counters.invalid &+= 1 }
    return close(index, status: status)
  }

  /// Reads the status byte once and compares it with what the device says it wrote.
  private func checkedStatus(_ index: Int, written: Int) -> BlockStatus? {
    guard written > 0, let status = BlockStatus(rawValue: region.load8(statusByte(index).offset))
    else { return nil }
    let request = requests[index]
    if status == .ok, request.type == .read, written <= request.data.count { return nil }
    return status
  }

  /// Whether a completion waits to be taken.
  public var hasCompletion: Bool { isAttached && queue[0].hasPending() }

  /// Asks the device for a notification; the caller does one full fence, then looks at
  /// ``hasCompletion`` before it sleeps.
  public mutating func armNotifications() {
    if isAttached { queue[0].armNotifications() }
  }

  /// Asks the device to stay quiet while the caller looks by itself.
  public mutating func suppressNotifications() {
    if isAttached { queue[0].suppressNotifications() }
  }
}
