public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The console device, device side (VIRTIO 1.4, 5.3), with one port or several.
///
/// From host to driver: bytes wait in a small private buffer a port; a chain is taken only when
/// there is a byte for it and somebody has the port open. From driver to host: a chain is written
/// as the host takes it and stays with the device until the host has all of it, so that a slow
/// host holds the driver back and nothing else; where nobody is at the other end, bytes are dropped
/// and counted. Port 0 is the console of the machine, the others are ports with names.
public struct ConsoleDevice<Host: ConsoleHost & ~Copyable>: DeviceModel, ~Copyable {
  /// What is behind the ports.
  public var host: Host
  /// What was counted.
  public internal(set) var counters = ConsoleCounters()
  let ports: PrivateTable<ConsolePort>
  /// Bytes for the driver, ``waitingLimit`` a port.
  let waiting: PrivateTable<UInt8>
  /// Segments of chains that wait for the host, ``maximumChainLength`` a port.
  let held: PrivateTable<ReadableRange>
  let bounce: PrivateTable<UInt8>
  var features = FeatureSet()
  private var isStarted = false
  /// Whether to look at the ports even when the host has nothing new.
  var isLookDue = true
  /// Ports that hold a chain, and those whose chain is done, one bit each.
  var holding: UInt32 = 0
  var finished: UInt32 = 0
  private var region: SharedRegion?
  private var hasConfigurationChanged = false
  /// The largest size of every queue.
  public let maximumQueueSize: QueueSize

  /// Bytes of a port that wait for the driver at most.
  static var waitingLimit: Int { 4096 }
  /// Bytes moved at once.
  static var bounceSize: Int { 4096 }
  /// The most bytes of one chain that go to the host before other devices have their turn.
  static var turnLimit: Int { 64 << 10 }

  /// Private memory a device of `ports` ports needs, in bytes.
  public static func privateBytes(ports: Int) -> Int {
    ports * (waitingLimit + 16 * chainLimit + 256) + bounceSize + 1024
  }

  static var chainLimit: Int { 64 }

  /// Makes a device over `host`; `nil` when `arena` cannot hold its buffers.
  @inline(never)
  public init?(
    host: consuming Host, maximumQueueSize: QueueSize, arena: inout PrivateArena
  ) {
    let count = host.portCount
    precondition(count > 0 && count <= ConsoleFormat.portLimit)
    guard let ports = arena.table(of: count, initial: ConsolePort()),
      let waiting = arena.table(of: count * Self.waitingLimit, initial: UInt8(0)),
      let held = arena.table(of: count * Self.chainLimit, initial: ReadableRange.empty),
      let bounce = arena.table(of: Self.bounceSize, initial: UInt8(0))
    else { return nil }
    self.ports = ports
    self.waiting = waiting
    self.held = held
    self.bounce = bounce
    self.maximumQueueSize = maximumQueueSize
    self.host = host
    look()
    hasConfigurationChanged = false
  }

  /// Whether the driver knows of several ports.
  var isMultiport: Bool { features.contains(.consoleMultiport) }

  // MARK: DeviceModel

  /// 3.
  public var deviceID: UInt32 { ConsoleFormat.deviceID }
  /// Two for one port; for more, two a port and two for control messages.
  public var queueCount: Int { ports.count == 1 ? 2 : 2 * ports.count + 2 }
  /// A driver may cut what it sends into as many pieces.
  public var maximumChainLength: Int { Self.chainLimit }
  /// Bytes of VIRTIO 1.4, 5.3.4.
  public var configurationSize: Int { ConsoleFormat.configurationSize }

  /// The emergency register always, the others as the host is (VIRTIO 1.4, 5.3.3).
  public var offeredFeatures: FeatureSet {
    var offered = FeatureSet.consoleEmergencyWrite
    if host.hasSize { offered.insert(.consoleSize) }
    if ports.count > 1 { offered.insert(.consoleMultiport) }
    return offered
  }

  /// Columns, rows, number of ports; the emergency register reads as 0.
  public func configurationByte(at offset: Int) -> UInt8 {
    switch offset {
    case 0..<4: ports[0].size.byte(at: offset)
    case 4: UInt8(truncatingIfNeeded: ports.count)
    default: 0
    }
  }

  /// The driver may write the emergency register: one character for port 0, before anything was
  /// set up (VIRTIO 1.4, 5.3.4). Nobody waits for it: it is dropped when the host cannot take it.
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    guard offset == 8 else { return false }
    bounce[0] = UInt8(truncatingIfNeeded: value)
    counters.emergencyWrites &+= 1
    let result = bounce.withSpan(0..<1) { host.write(port: 0, $0) }
    if result != .taken(1) { counters.bytesDropped &+= 1 }
    return true
  }

  /// Runs with `features`.
  public mutating func start(features: FeatureSet) {
    self.features = features
    isStarted = true
    isLookDue = true
  }

  /// Runs for a driver that has ports already. It is told of all of them anew and answers as at
  /// first; which it has open it will not say again, so that each is served as if it were: a driver
  /// drops what comes for a port that is closed (VIRTIO 1.4, 5.3.6.2).
  public mutating func resume(features: FeatureSet) {
    start(features: features)
    guard isMultiport else { return }
    for index in 0..<ports.count where ports[index].isPresent {
      ports[index].isAnnounced = true
      ports[index].isDriverOpen = true
      ports[index].notices.insert(.add)
    }
  }

  /// Forgets what the driver was told and what it sent and the host has not taken.
  public mutating func stop() {
    for index in 0..<ports.count {
      let port = ports[index]
      if port.isHolding { counters.bytesDropped &+= heldByteCount(index) }
      var fresh = ConsolePort()
      // What the host knows stays, and so do the bytes that wait for the next driver.
      fresh.isPresent = port.isPresent
      fresh.isHostOpen = port.isHostOpen
      fresh.size = port.size
      fresh.waitingStart = port.waitingStart
      fresh.waitingCount = port.waitingCount
      ports[index] = fresh
    }
    holding = 0
    finished = 0
    features = FeatureSet()
    isStarted = false
  }

  /// Whether the size of port 0 changed.
  public mutating func takeConfigurationChange() -> Bool {
    defer { hasConfigurationChanged = false }
    return hasConfigurationChanged
  }

  /// Chains that wait for the host.
  public var inFlightCount: Int { (holding | finished).nonzeroBitCount }

  /// Whether there is something for, or room for, a chain of `queue`.
  public func canServe(queue: Int) -> Bool {
    switch ConsoleQueue(index: queue) {
    case .receive(let port):
      ports[port].waitingCount > 0 && (isMultiport ? ports[port].isDriverOpen : port == 0)
    case .transmit(let port): (port == 0 || isMultiport) && !ports[port].isHolding
    case .controlReceive: isMultiport && hasNotice
    case .controlTransmit: isMultiport
    }
  }

  /// Serves one chain; called only while ``canServe(queue:)``.
  @inline(never)
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    self.region = region
    switch ConsoleQueue(index: index) {
    case .receive(let port):
      let written = giveWaiting(port, to: segments, in: region)
      queue.complete(chain, written: written)
      fillWaiting(port)
    case .transmit(let port):
      hold(segments, port)
      guard send(port, in: region) else {
        counters.blockedChains &+= 1
        holding |= 1 << UInt32(port)
        ports[port].isHolding = true
        ports[port].ticket = chain.detach()
        return
      }
      queue.complete(chain, written: 0)
    case .controlReceive:
      let written = giveNotice(to: segments, in: region)
      queue.complete(chain, written: written)
    case .controlTransmit:
      takeMessage(segments, in: region)
      queue.complete(chain, written: 0)
    }
  }

  /// A chain that waits for the host is over: the rest of it is dropped.
  public mutating func cancel(queue: Int) {
    guard case .transmit(let port) = ConsoleQueue(index: queue), port < ports.count,
      ports[port].isHolding
    else { return }
    ports[port].isCancelled = true
    isLookDue = true
  }

  /// The next chain that the host has taken whole; looks at the host first.
  public mutating func nextCompletion() -> DeviceCompletion? {
    if host.takeEvents() { isLookDue = true }
    if isLookDue { look() }
    guard finished != 0 else { return nil }
    let port = finished.trailingZeroBitCount
    finished &= finished &- 1
    ports[port].isHolding = false
    ports[port].isCancelled = false
    return DeviceCompletion(
      queue: ConsoleQueue.transmit(port: port).index, ticket: ports[port].ticket, written: 0)
  }

  // MARK: The host

  /// Looks at every port: who is there, what has come, what can go on.
  @inline(never)
  mutating func look() {
    isLookDue = false
    for index in 0..<ports.count {
      notice(index)
      fillWaiting(index)
      guard holding & (1 << UInt32(index)) != 0, let region else { continue }
      if send(index, in: region) {
        holding &= ~(1 << UInt32(index))
        finished |= 1 << UInt32(index)
      }
    }
  }

  private mutating func notice(_ index: Int) {
    let isOpen = host.isOpen(port: index)
    let size = host.size(port: index)
    var port = ports[index]
    if port.isHostOpen != isOpen {
      port.isHostOpen = isOpen
      if port.isReady { port.notices.insert(.open) }
    }
    if port.size != size {
      port.size = size
      if index == 0 { hasConfigurationChanged = true }
      if port.isReady, index == 0, features.contains(.consoleSize) { port.notices.insert(.resize) }
    }
    ports[index] = port
  }

  /// Reads ahead until the buffer is full or nothing is there. Bounded: what was read stays.
  mutating func fillWaiting(_ index: Int) {
    if ports[index].waitingCount == 0 { ports[index].waitingStart = 0 }
    while true {
      let end = ports[index].waitingStart + ports[index].waitingCount
      guard end < Self.waitingLimit else { return }
      let base = index * Self.waitingLimit
      let room = Self.waitingLimit - end
      let got = waiting.withMutableSpan(base + end..<base + end + room) {
        host.read(port: index, into: &$0)
      }
      precondition(got >= 0 && got <= room, "a host reads no more than it was asked for")
      guard got > 0 else { return }
      ports[index].waitingCount += got
    }
  }

  private mutating func giveWaiting(
    _ index: Int, to segments: borrowing ChainSegments, in region: SharedRegion
  ) -> UInt32 {
    let start = index * Self.waitingLimit + ports[index].waitingStart
    let given = waiting.withSpan(start..<start + ports[index].waitingCount) {
      segments.copyWritable(from: $0, at: 0, in: region)
    }
    ports[index].waitingStart += given
    ports[index].waitingCount -= given
    counters.bytesToDriver &+= UInt64(given)
    return UInt32(truncatingIfNeeded: given)
  }
}
