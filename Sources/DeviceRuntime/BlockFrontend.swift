public import IVShmem
public import SharedMemory
public import VirtioBlock
public import VirtioDevice
import VirtioTransport
public import Virtqueue

/// Why a block front-end cannot take a request.
public enum BlockFrontendError: Error, Equatable, Sendable {
  /// No free request slot or buffer; wait for a completion.
  case full
  /// The shared pools cannot hold the rings and the requests.
  case poolTooSmall
  /// The private memory cannot hold the books.
  case noPrivateMemory
  /// Talking to the device failed.
  case frontend(FrontendError)
  /// The device broke a rule of the queue; a reset is due.
  case queue(QueueError)
  /// The caller's request is not one a driver may make: data that is no whole sectors or no whole
  /// range, or sectors outside the medium.
  case badRequest(BlockRequestType, sector: UInt64, byteCount: Int)
}

/// A finished request of a block front-end.
public struct BlockCompletion: Equatable, Sendable {
  /// What the caller named the request.
  public let token: UInt32
  /// How it ended; `nil` when the device broke a rule: a status byte that does not exist, or fewer
  /// bytes written than it claims to have read. The data is not to be trusted then.
  public let status: BlockStatus?
  /// The data buffer, back in the caller's hands.
  public let data: BufferSegment
}

/// What a front-end counts; never reset.
public struct BlockFrontendCounters: Equatable, Sendable {
  /// Requests finished.
  public var completed: UInt64 = 0
  /// Requests submitted again after the back-end was restarted.
  public var resubmitted: UInt64 = 0
  /// Times the device was set up.
  public var connections: UInt64 = 0
  /// Notifications sent.
  public var notifications: UInt64 = 0
}

/// The driver side of a block device on a native link, which survives restarts of the back-end.
///
/// Requests that were in flight when the back-end went away are submitted again, in their order:
/// every block request may be repeated. Buffers lie in the shared pools and are filled in place.
public struct BlockFrontend<P: Platform & ~Copyable>: ~Copyable {
  struct Request: BitwiseCopyable {
    var isOpen = false
    var type = BlockRequestType.flush
    var sector: UInt64 = 0
    var data = BufferSegment.empty
    var token: UInt32 = 0
    var order: UInt64 = 0
  }

  /// The link and its control operations.
  public var frontend: Frontend<P>
  /// Which slot of the link.
  public let slot: Int
  /// What the device says of itself; valid once connected.
  public internal(set) var configuration = BlockConfiguration()
  /// What was agreed; valid once connected.
  public internal(set) var features = FeatureSet()
  /// What was counted.
  public internal(set) var counters = BlockFrontendCounters()
  var driverPool: BufferPool
  var devicePool: PrivateStore<BufferPool>
  var queue: PrivateStore<DriverQueue>
  var queueArena: PrivateArena
  let requests: PrivateTable<Request>
  let headers: BufferSegment
  let statuses: BufferSegment
  let rings: InlineArray<4, BufferSegment>
  let size: QueueSize
  let access: AccessMap
  var nextOrder: UInt64 = 0
  var openCount = 0
  /// What the device had announced when its configuration was read last.
  var changeCount: UInt32 = 0

  /// Bytes between status bytes: one cache line each.
  static var statusStride: Int { 64 }

  /// Prepares rings, headers and status bytes for `depth` requests in the pools.
  ///
  /// - Parameter depth: a power of two; the ring holds three descriptors a request.
  public init(
    frontend: consuming Frontend<P>, slot: Int, depth: UInt32, arena: inout PrivateArena
  ) throws(BlockFrontendError) {
    let plan = frontend.link.plan
    let region = frontend.link.region
    guard let size = QueueSize(depth * 4) else { throw .poolTooSmall }
    guard
      var driverPool = BufferPool(window: plan.driverPool, blockSize: 512, arena: &arena),
      var devicePool = PrivateStore<BufferPool>(count: 1, in: &arena),
      let queue = PrivateStore<DriverQueue>(count: 1, in: &arena),
      let requests = arena.table(of: Int(depth), initial: Request()),
      let queueArena = arena.split(DriverQueue.privateBytes(size: size))
    else { throw .noPrivateMemory }
    if plan.placement == .output {
      guard let pool = BufferPool(window: plan.devicePool, blockSize: 512, arena: &arena) else {
        throw .noPrivateMemory
      }
      devicePool.put(pool, at: 0)
    }
    let layout = QueueLayout(size)
    guard let table = driverPool.allocate(layout.descriptorTable),
      let available = driverPool.allocate(layout.availableRing),
      let used = Self.allocate(layout.usedRing, &devicePool, or: &driverPool),
      let indirect = driverPool.allocate(16 * 4 * Int(size.rawValue)),
      let headers = driverPool.allocate(Int(depth) * BlockFormat.headerSize * 2),
      let statuses = Self.allocate(
        Int(depth) * Self.statusStride, &devicePool, or: &driverPool),
      let access = AccessMap(region: region, readable: plan.whole, writable: plan.driverPool)
    else { throw .poolTooSmall }
    self.size = size
    self.slot = slot
    self.driverPool = driverPool
    self.devicePool = devicePool
    self.queue = queue
    self.requests = requests
    self.queueArena = queueArena
    rings = [table, available, used, indirect]
    self.headers = headers
    self.statuses = statuses
    self.access = access
    self.frontend = frontend
  }

  /// Memory the device may write: from its own pool where the placement has one.
  private static func allocate(
    _ count: Int, _ devicePool: inout PrivateStore<BufferPool>, or shared: inout BufferPool
  ) -> BufferSegment? {
    devicePool.isOccupied(0) ? devicePool[0].allocate(count) : shared.allocate(count)
  }

  // MARK: Buffers

  /// A buffer the device may write (for reads); `nil` when the pool is used up.
  public mutating func allocateForReading(_ count: Int) -> BufferSegment? {
    Self.allocate(count, &devicePool, or: &driverPool)
  }

  /// A buffer the caller fills (for writes, discards); `nil` when the pool is used up.
  public mutating func allocateForWriting(_ count: Int) -> BufferSegment? {
    driverPool.allocate(count)
  }

  /// Gives a buffer for reading back.
  public mutating func freeForReading(_ buffer: BufferSegment) {
    if devicePool.isOccupied(0) { devicePool[0].free(buffer) } else { driverPool.free(buffer) }
  }

  /// Gives a buffer for writing back.
  public mutating func freeForWriting(_ buffer: BufferSegment) { driverPool.free(buffer) }

  /// Whether a buffer is one that was allocated and not given back, for callers whose word is not
  /// enough.
  public func isAllocated(_ buffer: BufferSegment, forReading: Bool) -> Bool {
    forReading && devicePool.isOccupied(0)
      ? devicePool[0].isAllocated(buffer) : driverPool.isAllocated(buffer)
  }

  // MARK: Requests

  /// Requests that are not finished.
  public var inFlightCount: Int { openCount }

  /// Whether the device is set up.
  public var isConnected: Bool { queue.isOccupied(0) }

  /// Notes a request and, when the device is set up, adds it to the queue. The device sees it
  /// after ``publish()``.
  ///
  /// - Parameters:
  ///   - data: for read a buffer for reading, for write, discard and write zeroes one for
  ///     writing, which holds the data or the range; empty for flush.
  ///   - token: comes back with the completion.
  public mutating func submit(
    _ type: BlockRequestType, sector: UInt64, data: BufferSegment, token: UInt32
  ) throws(BlockFrontendError) {
    guard openCount < requests.count,
      let index = (0..<requests.count).first(where: { !requests[$0].isOpen })
    else { throw .full }
    guard isAcceptable(type, sector, data.count) else {
      throw .badRequest(type, sector: sector, byteCount: data.count)
    }
    requests[index] = Request(
      isOpen: true, type: type, sector: sector, data: data, token: token, order: nextOrder)
    nextOrder += 1
    openCount += 1
    if isConnected { add(index) }
  }

  /// Whether a driver may make this request (VIRTIO 1.4, 5.2.6.1). The capacity is known once
  /// connected; before, the device judges.
  private func isAcceptable(_ type: BlockRequestType, _ sector: UInt64, _ count: Int) -> Bool {
    switch type {
    case .read, .write:
      let sectors = UInt64(count / BlockFormat.sectorSize)
      let capacity = configuration.capacity
      return count > 0 && count % BlockFormat.sectorSize == 0
        && (!isConnected || (sector <= capacity && sectors <= capacity - sector))
    case .flush: return count == 0
    case .getID: return count == BlockFormat.identifierSize
    case .discard, .writeZeroes: return count == BlockFormat.rangeSize
    }
  }

  func header(_ index: Int) -> BufferSegment {
    headers.slice(from: index * BlockFormat.headerSize, count: BlockFormat.headerSize)
  }

  func statusByte(_ index: Int) -> BufferSegment {
    statuses.slice(from: index * Self.statusStride, count: 1)
  }

  /// Puts a noted request into the ring; there is always room, as the ring holds all of them.
  mutating func add(_ index: Int) {
    let request = requests[index]
    let header = header(index)
    let region = frontend.link.region
    region.store32(request.type.rawValue, at: header.offset)
    region.store32(0, at: header.offset + 4)
    // Only reads and writes name a sector here (VIRTIO 1.4, 5.2.6.1).
    let hasSector = request.type == .read || request.type == .write
    region.store64(hasSector ? request.sector : 0, at: header.offset + 8)
    let toDevice = request.type != .read && request.type != .getID && request.data.count > 0
    let fromDevice = !toDevice && request.data.count > 0
    let out: InlineArray<2, BufferSegment> = [header, request.data]
    let both: InlineArray<2, BufferSegment> = [request.data, statusByte(index)]
    do throws(AddError) {
      try queue[0].add(
        readable: out.span.extracting(0..<(toDevice ? 2 : 1)),
        writable: both.span.extracting((fromDevice ? 0 : 1)..<2), token: UInt32(index))
    } catch {
      // A poisoned queue: the request stays noted and goes out with the next connection.
      precondition(error == .poisoned, "the ring holds every request")
    }
  }

  /// Shows the device what was added and notifies it if it asked for that.
  public mutating func publish() {
    guard isConnected, queue[0].publish() else { return }
    counters.notifications += 1
    frontend.notify(slot: slot, queue: 0)
  }

  /// The next finished request, or `nil`.
  public mutating func nextCompletion() throws(BlockFrontendError) -> BlockCompletion? {
    guard isConnected else { return nil }
    let used: UsedChain?
    do throws(QueueError) {
      used = try queue[0].takeUsed()
    } catch { throw .queue(error) }
    guard let used else { return nil }
    let index = Int(used.token)
    let request = requests[index]
    requests[index].isOpen = false
    openCount -= 1
    counters.completed += 1
    return BlockCompletion(
      token: request.token, status: checkedStatus(index, written: Int(used.written)),
      data: request.data)
  }

  /// Reads the status byte once and compares it with what the device says it wrote: nothing written
  /// means that it did not even find the status byte.
  private func checkedStatus(_ index: Int, written: Int) -> BlockStatus? {
    let region = frontend.link.region
    guard written > 0, let status = BlockStatus(rawValue: region.load8(statusByte(index).offset))
    else { return nil }
    let request = requests[index]
    let isFilled = request.type == .read || request.type == .getID
    return status == .ok && isFilled && written <= request.data.count ? nil : status
  }

  /// Whether a completion waits to be taken.
  public var hasCompletion: Bool { isConnected && queue[0].hasPending() }

  // MARK: Waiting

  /// Looks at the link and at what the device announces; a back-end that went away or came back,
  /// or a device that wants a reset, takes the queue down. Returns whether the device has to be set
  /// up again.
  public mutating func step() -> Bool {
    switch frontend.step() {
    case .none, .up: break
    case .peerStarted, .down: disconnect()
    }
    if isConnected { lookAtDevice() }
    return !isConnected
  }

  /// Forgets the queue; open requests stay noted.
  public mutating func disconnect() {
    if queue.isOccupied(0) { _ = queue.remove(at: 0) }
  }

  /// Sleeps until a completion, a change of the link or `deadline`.
  public mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    guard isConnected else { return .event }
    queue[0].armNotifications()
    frontend.link.prepareToSleep()
    if queue[0].hasPending() || step() {
      frontend.link.stayAwake()
      if isConnected { queue[0].suppressNotifications() }
      return .event
    }
    let outcome = frontend.link.sleep(until: deadline)
    if isConnected { queue[0].suppressNotifications() }
    return outcome
  }
}

#if CELLMATE_WATCH
  extension BlockFrontend where P: ~Copyable {
    /// Takes bans back of what this side works with beside the data: rings, headers, status bytes.
    public func allowOwnMemory() {
      let region = frontend.link.region
      for index in 0..<6 {
        let part = index < 4 ? rings[index] : index == 4 ? headers : statuses
        region.allow(part.offset..<part.offset + part.count)
      }
    }
  }
#endif
