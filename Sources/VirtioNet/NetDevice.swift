public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The network device, device side (VIRTIO 1.4, 5.1), with one queue pair or several.
///
/// Frames of the driver are copied once into private memory, checked there with their offload
/// header and given to the host; where the host has no room, the frame waits in private memory and
/// the transmit queues with it. Frames of the host are read ahead, one at a time, filtered, and put
/// into the driver's buffers; what the driver did not agree to (an unfinished checksum, an uncut
/// TCP packet) is done here. Whatever the driver says wrong is dropped and counted.
public struct NetDevice<Host: NetHost & ~Copyable>: DeviceModel, ~Copyable {
  /// What is behind the device.
  public var host: Host
  /// What was counted.
  public internal(set) var counters = NetCounters()
  /// The address the device has now.
  public internal(set) var address: MACAddress
  /// Queue pairs on offer.
  public let pairs: Int
  /// The largest size of every queue.
  public let maximumQueueSize: QueueSize
  /// The frame that was read from the host, and a segment of it.
  let incoming: PrivateTable<UInt8>
  let segment: PrivateTable<UInt8>
  /// A header and frame of the driver.
  let outgoing: PrivateTable<UInt8>
  /// The pair each flow was last sent on.
  let steering: PrivateTable<UInt8>
  var filter: NetFilter
  /// Chains that hold the start of a frame that is not yet whole, and the bytes in each.
  let tickets: PrivateTable<ChainTicket>
  let written: PrivateTable<UInt32>
  var delivery = NetDelivery()
  /// Bytes of `outgoing` that wait for the host; 0 for none.
  var blockedCount = 0
  var blockedOffload = FrameOffload()
  var features = FeatureSet()
  /// Guest offloads that are on now.
  var offloads = FeatureSet()
  /// Pairs the driver uses.
  var activePairs = 1
  /// Pairs that the driver may send on: those, or all of them where the driver cannot be asked.
  var sendingPairs = 1
  var isStarted = false
  var isAnnouncing = false
  var wasLinkUp: Bool
  var isLookDue = true
  var hasConfigurationChanged = false

  static var flowCount: Int { 256 }
  /// Frames that are read from the host in one look at most, when the filter takes none of them.
  static var lookLimit: Int { 64 }

  /// Private memory a device needs, in bytes.
  public static func privateBytes(queueSize: QueueSize) -> Int {
    3 * (NetFormat.frameLimit + NetFormat.headerSize) + flowCount
      + 2 * NetFormat.filterLimit * MemoryLayout<MACAddress>.stride
      + Int(queueSize.rawValue) * (MemoryLayout<ChainTicket>.stride + 4) + 8 * 64
  }

  /// Makes a device over `host`; `nil` when `arena` cannot hold its buffers.
  ///
  /// - Parameter pairs: 1 ... ``NetFormat/pairLimit``.
  @inline(never)
  public init?(
    host: consuming Host, pairs: Int, maximumQueueSize: QueueSize, arena: inout PrivateArena
  ) {
    precondition(pairs > 0 && pairs <= NetFormat.pairLimit)
    precondition(NetFormat.mtuRange.contains(host.mtu) && host.address.isStation)
    let queueSize = Int(maximumQueueSize.rawValue)
    guard let incoming = arena.table(of: NetFormat.frameLimit, initial: UInt8(0)),
      let segment = arena.table(of: NetFormat.frameLimit, initial: UInt8(0)),
      let outgoing = arena.table(
        of: NetFormat.frameLimit + NetFormat.headerSize, initial: UInt8(0)),
      let steering = arena.table(of: Self.flowCount, initial: UInt8(0)),
      let filter = NetFilter(arena: &arena),
      let tickets = arena.table(of: queueSize, initial: ChainTicket.none),
      let written = arena.table(of: queueSize, initial: UInt32(0))
    else { return nil }
    self.incoming = incoming
    self.segment = segment
    self.outgoing = outgoing
    self.steering = steering
    self.filter = filter
    self.tickets = tickets
    self.written = written
    self.pairs = pairs
    self.maximumQueueSize = maximumQueueSize
    address = host.address
    wasLinkUp = host.isLinkUp
    self.host = host
  }

  // MARK: DeviceModel

  /// 1.
  public var deviceID: UInt32 { NetFormat.deviceID }
  /// Two a pair, and the control queue.
  public var queueCount: Int { 2 * pairs + 1 }
  /// A frame of 64 KiB in pages, a header and some.
  public var maximumChainLength: Int { 64 }
  /// Bytes up to the MTU (VIRTIO 1.4, 5.1.4).
  public var configurationSize: Int { NetFormat.configurationSize }

  /// Everything that is done here; offloads for the host as it takes them.
  public var offeredFeatures: FeatureSet {
    var offered = FeatureSet.netGuestOffloads.union(.netControlOffloads).union(.netMTU)
      .union(.netAddress).union(.netMergeable).union(.netStatus).union(.netControl)
      .union(.netControlReceive).union(.netControlReceiveExtra).union(.netAnnounce)
      .union(.netControlAddress)
    if host.takesOffloads {
      offered.insert(.netChecksum | .netHostTCP4 | .netHostTCP6)
      offered.insert(.netHostECN)
    }
    if pairs > 1 { offered.insert(.netQueuePairs) }
    return offered
  }

  /// The status field as it is now.
  public var status: NetStatus {
    var status = NetStatus()
    if wasLinkUp { status.insert(.linkUp) }
    if isAnnouncing { status.insert(.announce) }
    return status
  }

  /// Address, status, number of pairs, MTU (VIRTIO 1.4, 5.1.4).
  public func configurationByte(at offset: Int) -> UInt8 {
    let word: UInt16
    switch offset {
    case 0..<6: return address.byte(at: offset)
    case 6..<8: word = status.rawValue
    case 8..<10: word = UInt16(pairs)
    default: word = UInt16(host.mtu)
    }
    return UInt8(truncatingIfNeeded: word >> UInt16(8 * (offset & 1)))
  }

  /// Nothing in it may be written (VIRTIO 1.4, 5.1.4).
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    false
  }

  /// Runs with those of `features` whose prerequisites are there.
  public mutating func start(features: FeatureSet) {
    self.features = features.netConsistent
    offloads = self.features.intersection(.netGuestOffloads)
    isStarted = true
    isLookDue = true
    host.setActive(true)
  }

  /// Runs for a driver that has used the control queue already: it may send on any pair, and gets
  /// what comes for it on the first one, unfiltered, until it says anew what it wants.
  public mutating func resume(features: FeatureSet) {
    start(features: features)
    if self.features.contains(.netQueuePairs) { sendingPairs = pairs }
  }

  /// Forgets the driver: its filter, its address, its frames.
  public mutating func stop() {
    if blockedCount > 0 { counters.lostInReset &+= 1 }
    if delivery.count > 0 { counters.lostInReset &+= 1 }
    blockedCount = 0
    // A frame for this driver is made for what it agreed to.
    delivery = NetDelivery()
    filter.reset()
    for index in 0..<steering.count { steering[index] = 0 }
    if address != host.address {
      address = host.address
      _ = host.setAddress(address)
    }
    if isStarted { host.setActive(false) }
    features = FeatureSet()
    offloads = FeatureSet()
    activePairs = 1
    sendingPairs = 1
    isStarted = false
    isAnnouncing = false
  }

  /// Whether the address, the status or the MTU changed.
  public mutating func takeConfigurationChange() -> Bool {
    defer { hasConfigurationChanged = false }
    return hasConfigurationChanged
  }

  /// Chains that hold a part of a frame.
  public var inFlightCount: Int { delivery.heldCount + delivery.endingCount }

  /// What a queue is for, with the features of this driver.
  private func role(_ queue: Int) -> NetQueue? {
    NetQueue(index: queue, pairs: features.contains(.netQueuePairs) ? pairs : 1)
  }

  /// Whether there is a frame for, or room for, a chain of `queue`.
  public func canServe(queue: Int) -> Bool {
    guard isStarted else { return false }
    switch role(queue) {
    case .receive(let pair):
      return delivery.count > 0 && delivery.pair == pair && delivery.endingCount == 0
    case .transmit(let pair): return blockedCount == 0 && pair < sendingPairs
    case .control: return features.contains(.netControl)
    case nil: return false
    }
  }

  /// Serves one chain; called only while ``canServe(queue:)``.
  @inline(never)
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    switch role(index) {
    case .receive:
      deliver(chain, segments, on: &queue, in: region)
      prepareDelivery()
    case .transmit(let pair):
      transmit(segments, pair, in: region)
      queue.complete(chain, written: 0)
    case .control:
      let ack = command(segments, in: region)
      queue.complete(chain, written: ack ? 1 : 0)
    case nil: queue.complete(chain, written: 0)
    }
  }

  /// The chains of a frame that is half there are over, without a byte.
  public mutating func cancel(queue: Int) {
    guard case .receive(let pair) = role(queue), pair == delivery.pair, delivery.heldCount > 0
    else { return }
    delivery.endingCount = delivery.heldCount
    delivery.endingQueue = queue
    delivery.restart()
  }

  /// Chains of a queue that was stopped; looks at the host first.
  public mutating func nextCompletion() -> DeviceCompletion? {
    if host.takeEvents() { isLookDue = true }
    if isLookDue { look() }
    guard delivery.endingCount > 0 else { return nil }
    delivery.endingCount -= 1
    return DeviceCompletion(
      queue: delivery.endingQueue, ticket: tickets[delivery.endingCount], written: 0)
  }

  // MARK: The host

  private mutating func look() {
    isLookDue = false
    if host.isLinkUp != wasLinkUp {
      wasLinkUp.toggle()
      hasConfigurationChanged = true
    }
    if host.takeAnnouncementRequest(), features.contains(.netAnnounce) {
      isAnnouncing = true
      hasConfigurationChanged = true
    }
    if blockedCount > 0 { sendBlocked() }
    prepareDelivery()
  }
}
