public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The console device, driver side (VIRTIO 1.4, 5.3): ports to read and write.
///
/// It knows no transport: the caller sets the device up, gives it the queues with
/// ``attach(_:at:)``, calls ``begin(features:)`` and carries notifications. What was written and
/// not yet taken by the device goes out again to the next one, in its order; a device that died
/// while it took a buffer may so have delivered that buffer's bytes twice.
///
/// The device is not trusted: control messages are copied once and checked.
public struct ConsoleDriver: ~Copyable {
  /// What was counted.
  public internal(set) var counters = ConsoleDriverCounters()
  /// The sizes.
  public let layout: ConsoleDriverLayout
  let region: SharedRegion
  let out: BufferSegment
  let into: BufferSegment
  let ports: PrivateTable<ConsoleDriverPort>
  let sendBuffers: PrivateTable<ConsoleDriverBuffer>
  let names: PrivateTable<UInt8>
  var queues: PrivateStore<DriverQueue>
  var isMultiport = false
  var owesDeviceReady = false
  /// Buffers for messages to the device that are free, one bit each.
  var freeMessages: UInt32

  /// Prepares the books; `nil` when `arena` cannot hold them.
  ///
  /// - Parameters:
  ///   - out: `layout.outBytes` bytes that the device may read.
  ///   - into: `layout.inBytes` bytes that the device may write.
  @inline(never)
  public init?(
    _ layout: ConsoleDriverLayout, out: BufferSegment, into: BufferSegment, region: SharedRegion,
    arena: inout PrivateArena
  ) {
    precondition(out.count >= layout.outBytes && into.count >= layout.inBytes)
    var port = ConsoleDriverPort()
    port.freeBuffers = layout.depth == 64 ? .max : 1 << UInt64(layout.depth) - 1
    guard let ports = arena.table(of: layout.ports, initial: port),
      let sendBuffers = arena.table(
        of: layout.ports * layout.depth, initial: ConsoleDriverBuffer()),
      let names = arena.table(of: layout.ports * ConsoleFormat.nameLimit, initial: UInt8(0)),
      let queues = PrivateStore<DriverQueue>(count: layout.queueCount, in: &arena)
    else { return nil }
    self.layout = layout
    self.region = region
    self.out = out
    self.into = into
    self.ports = ports
    self.sendBuffers = sendBuffers
    self.names = names
    self.queues = queues
    freeMessages = 1 << UInt32(ConsoleDriverLayout.controlDepth) - 1
  }

  // MARK: Life of the queues

  /// Whether queue `index` is there.
  @inline(never)
  public func isAttached(_ index: Int) -> Bool {
    index < queues.count && queues.isOccupied(index)
  }

  /// Takes a fresh queue of a device that was set up; each needs `layout.queueSize` descriptors.
  public mutating func attach(_ queue: consuming DriverQueue, at index: Int) {
    precondition(queue.freeDescriptorCount >= layout.queueSize)
    if queues.isOccupied(index) { _ = queues.remove(at: index) }
    queues.put(queue, at: index)
  }

  /// The device runs: gives it buffers, and again what no device has taken. Everything learnt from
  /// an earlier device is forgotten; ports that were open are opened again once they are there.
  public mutating func begin(features: FeatureSet) {
    isMultiport = features.contains(.consoleMultiport)
    owesDeviceReady = isMultiport
    freeMessages = 1 << UInt32(ConsoleDriverLayout.controlDepth) - 1
    if isMultiport {
      for token in 0..<ConsoleDriverLayout.controlDepth { offerMessageBuffer(token) }
    }
    for index in 0..<ports.count { begin(port: index) }
    sendMessages()
  }

  private mutating func begin(port index: Int) {
    var port = ports[index]
    port.isAdded = !isMultiport && index == 0
    port.isConsole = port.isAdded
    port.isHostOpen = port.isAdded
    port.owesReady = false
    port.owesOpen = false
    port.nameCount = 0
    ports[index] = port
    guard isAttached(ConsoleQueue.receive(port: index).index) else { return }
    for token in 0..<layout.depth where token != port.reading { offerBuffer(token, index) }
    resubmit(index)
  }

  /// Drops all queues, after the device was reset or has gone. Read the ports first: what the
  /// device has delivered and nobody has read is lost.
  public mutating func detach() {
    for index in 0..<ports.count {
      do throws(QueueError) {
        // What was taken in the meantime does not go out again.
        try reclaim(index)
      } catch { continue }
    }
    for index in 0..<queues.count where queues.isOccupied(index) { _ = queues.remove(at: index) }
  }

  // MARK: Buffers

  private func receiveBuffer(_ token: Int, _ index: Int) -> BufferSegment {
    into.slice(
      from: (index * layout.depth + token) * layout.bufferSize, count: layout.bufferSize)
  }

  private func sendBuffer(_ token: Int, _ index: Int) -> BufferSegment {
    out.slice(from: (index * layout.depth + token) * layout.bufferSize, count: layout.bufferSize)
  }

  /// A queue that the device broke takes nothing; the error comes out where used chains are taken.
  @inline(never)
  mutating func add(_ queue: Int, _ buffer: BufferSegment, isReadable: Bool, token: Int) {
    let buffers: InlineArray<1, BufferSegment> = [buffer]
    do throws(AddError) {
      try queues[queue].add(
        readable: buffers.span.extracting(0..<(isReadable ? 1 : 0)),
        writable: buffers.span.extracting((isReadable ? 1 : 0)..<1), token: UInt32(token))
    } catch {
      precondition(error == .poisoned, "a queue holds all buffers")
    }
  }

  @inline(never)
  private mutating func offerBuffer(_ token: Int, _ index: Int) {
    add(
      ConsoleQueue.receive(port: index).index, receiveBuffer(token, index), isReadable: false,
      token: token)
  }

  /// Gives the device every filled buffer again, the oldest first.
  private mutating func resubmit(_ index: Int) {
    var open = ~ports[index].freeBuffers
    if layout.depth < 64 { open &= 1 << UInt64(layout.depth) - 1 }
    while open != 0 {
      var oldest = open.trailingZeroBitCount
      for token in oldest..<layout.depth where open & (1 << UInt64(token)) != 0 {
        let base = index * layout.depth
        let ahead = sendBuffers[base + token].order &- sendBuffers[base + oldest].order
        if ahead > .max / 2 { oldest = token }
      }
      open &= ~(1 << UInt64(oldest))
      counters.resubmitted &+= 1
      submit(oldest, index)
    }
  }

  @inline(never)
  private mutating func submit(_ token: Int, _ index: Int) {
    let queue = ConsoleQueue.transmit(port: index).index
    guard isAttached(queue) else { return }
    let count = sendBuffers[index * layout.depth + token].count
    add(
      queue, sendBuffer(token, index).slice(from: 0, count: count), isReadable: true, token: token)
  }

  // MARK: Bytes

  /// Copies what has come for a port into `destination`; returns how many bytes.
  ///
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func read(
    port index: Int, into destination: inout MutableSpan<UInt8>
  ) throws(QueueError) -> Int {
    var done = 0
    while done < destination.count {
      if ports[index].reading < 0 {
        guard try nextReceived(index) else { break }
      }
      var port = ports[index]
      let take = min(port.count - port.position, destination.count - done)
      let start = receiveBuffer(port.reading, index).offset + port.position
      var part = destination._mutatingExtracting(done..<done + take)
      region.copy(region.readRange(start..<start + take), into: &part)
      done += take
      port.position += take
      let token = port.reading
      if port.position == port.count { port.reading = -1 }
      ports[index] = port
      if port.reading < 0, isAttached(ConsoleQueue.receive(port: index).index) {
        offerBuffer(token, index)
      }
    }
    counters.bytesReceived &+= UInt64(done)
    return done
  }

  private mutating func nextReceived(_ index: Int) throws(QueueError) -> Bool {
    let queue = ConsoleQueue.receive(port: index).index
    guard isAttached(queue) else { return false }
    // Bounded: a buffer without a byte is offered again, at most every one once.
    for _ in 0..<layout.depth {
      guard let used = try queues[queue].takeUsed() else { return false }
      guard used.written > 0 else {
        offerBuffer(Int(used.token), index)
        continue
      }
      ports[index].reading = Int(used.token)
      ports[index].position = 0
      ports[index].count = Int(used.written)
      return true
    }
    return false
  }

  /// Puts bytes for a port into free buffers; returns how many found room. They go out with
  /// ``publish()``, now or when there is a device again.
  ///
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func write(port index: Int, _ bytes: Span<UInt8>) throws(QueueError) -> Int {
    try reclaim(index)
    var done = 0
    while done < bytes.count, ports[index].freeBuffers != 0 {
      let token = ports[index].freeBuffers.trailingZeroBitCount
      let take = min(bytes.count - done, layout.bufferSize)
      let buffer = sendBuffer(token, index)
      region.copy(
        bytes.extracting(done..<done + take),
        into: region.ownRange(buffer.offset..<buffer.offset + take))
      sendBuffers[index * layout.depth + token] = ConsoleDriverBuffer(
        count: take, order: ports[index].nextOrder)
      ports[index] = ports[index].taking(token)
      submit(token, index)
      done += take
    }
    counters.bytesSent &+= UInt64(done)
    return done
  }

  /// Takes back the buffers that the device is done with.
  @inline(never)
  mutating func reclaim(_ index: Int) throws(QueueError) {
    let queue = ConsoleQueue.transmit(port: index).index
    guard isAttached(queue) else { return }
    for _ in 0..<layout.depth {
      guard let used = try queues[queue].takeUsed() else { return }
      ports[index] = ports[index].freeing(Int(used.token))
    }
  }

  /// Buffers of a port that no device has taken.
  ///
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func unsentCount(port index: Int) throws(QueueError) -> Int {
    try reclaim(index)
    return layout.depth - ports[index].freeBuffers.nonzeroBitCount
  }

  // MARK: Notifications

  /// Shows the device everything new; the queues that want to be notified, one bit each.
  public mutating func publish() -> UInt32 {
    var wanted: UInt32 = 0
    for index in 0..<queues.count where queues.isOccupied(index) {
      if queues[index].publish() { wanted |= 1 << UInt32(index) }
    }
    return wanted
  }

  /// Whether the device has returned something that was not yet taken.
  public var hasCompletion: Bool {
    for index in 0..<queues.count where queues.isOccupied(index) {
      if queues[index].hasPending() { return true }
    }
    return false
  }

  /// Asks the device for notifications; the caller does one full fence, then looks at
  /// ``hasCompletion`` before it sleeps.
  @inline(never)
  public mutating func armNotifications() {
    for index in 0..<queues.count where queues.isOccupied(index) {
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
