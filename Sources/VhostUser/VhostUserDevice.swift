import CLinux
public import LinuxSupport
public import SharedMemory
public import VirtioDevice
import Virtqueue

/// What a message led to.
public enum VhostUserHandling: Equatable, Sendable {
  /// It is carried out; nothing to answer.
  case done
  /// The reply is ready to be sent, with a descriptor that this device keeps, or -1.
  case reply(descriptor: Int32)
  /// Requests are in flight that have to end first: give it again after the next step.
  case wait
}

/// One virtio device served over vhost-user: the messages as a state machine and the rings, without
/// a socket or a thread. The device is the very same code as over ivshmem.
///
/// A front-end is hostile until checked: addresses go through its memory table, what is queued is
/// checked by the same queue as everywhere, and an error ends the connection, never the process.
public struct VhostUserDevice<Device: DeviceModel & ~Copyable>: ~Copyable {
  /// The device.
  public var device: Device
  /// What was counted.
  public internal(set) var counters = VhostUserCounters()
  let queueCount: Int
  let maximumQueueSize: QueueSize
  let vrings: PrivateTable<Vring>
  var queues: PrivateStore<DeviceQueue>
  var arenas: PrivateStore<PrivateArena>
  var segments: ChainSegments
  var memory: GuestMemory
  var inflight: PrivateStore<InflightRegion>
  var inflightFile: Int32 = -1
  var returned: ReturnedHeads
  let resumeHeads: PrivateTable<UInt16>
  var features = FeatureSet()
  var hasProtocolFeatures = false
  var protocolFeatures = ProtocolFeatures()
  var status: UInt8 = 0
  var channel: Int32 = -1
  var isDeviceStarted = false
  var generation: UInt32 = 0
  var outgoing = VhostUserMessage()
  let epoll: Int32
  private var seenFaults: UInt32 = 0
  private var brokenRing: VhostUserError?

  /// The tag of queue 0's kick in the epoll set; the others follow.
  public static var kickTag: UInt64 { 0x100 }

  /// Private memory a device needs, in bytes.
  public static func privateBytes(queues: Int, size: Int) -> Int {
    queues * (size * 24 + 4096) + (256 << 10)
  }

  /// Wraps `device`. Kicks are added to the set `epoll` with ``kickTag``.
  public static func make(
    _ device: consuming Device, epoll: Int32, arena: inout PrivateArena
  ) throws(SystemError) -> VhostUserDevice {
    let memory = try GuestMemory.make(arena: &arena)
    guard let made = VhostUserDevice(device, memory, epoll, &arena) else {
      preconditionFailure("the arena holds a device")
    }
    return made
  }

  @inline(never)
  private init?(
    _ device: consuming Device, _ memory: consuming GuestMemory, _ epoll: Int32,
    _ arena: inout PrivateArena
  ) {
    let count = device.queueCount
    let size = device.maximumQueueSize
    let entries = Int(size.rawValue)
    let bytes = DeviceQueue.privateBytes(
      size: size, maximumChainLength: device.maximumChainLength)
    guard let vrings = arena.table(of: count, initial: Vring()),
      let queues = PrivateStore<DeviceQueue>(count: count, in: &arena),
      var arenas = PrivateStore<PrivateArena>(count: count, in: &arena),
      let segments = ChainSegments(capacity: device.maximumChainLength, arena: &arena),
      let inflight = PrivateStore<InflightRegion>(count: 1, in: &arena),
      let returned = ReturnedHeads(queues: count, size: entries, arena: &arena),
      let resumeHeads = arena.table(of: count * entries, initial: UInt16(0))
    else { return nil }
    for queue in 0..<count {
      guard let own = arena.split(bytes) else { return nil }
      arenas.put(own, at: queue)
    }
    self.device = device
    queueCount = count
    maximumQueueSize = size
    self.vrings = vrings
    self.queues = queues
    self.arenas = arenas
    self.segments = segments
    self.memory = memory
    self.inflight = inflight
    self.returned = returned
    self.resumeHeads = resumeHeads
    self.epoll = epoll
  }

  /// What front-ends are offered: the device's features and the rings' own.
  public var offered: UInt64 {
    device.offeredFeatures.union(.indirectDescriptors | .eventIndex | .version1).rawValue
      | VhostUserFormat.protocolFeaturesBit
  }

  /// Whether nothing of the device can touch the front-end's memory any more.
  public var isQuiet: Bool { device.inFlightCount == 0 }

  /// A front-end connected.
  public mutating func begin() { counters.connections &+= 1 }

  /// The front-end broke a rule of the protocol.
  public mutating func noteViolation() { counters.violations &+= 1 }

  /// The connection is over; call ``step()`` until ``isQuiet``, then ``end()``.
  public mutating func abort() {
    for queue in 0..<queueCount { stopTaking(queue) }
    if isDeviceStarted { device.stop() }
    _ = device.takeConfigurationChange()
    isDeviceStarted = false
  }

  /// Forgets everything the front-end has set; only while ``isQuiet``.
  public mutating func end() {
    precondition(isQuiet)
    for queue in 0..<queueCount {
      deactivate(queue)
      closeDescriptors(queue)
      vrings[queue] = Vring()
    }
    memory.removeAll()
    if inflight.isOccupied(0) { _ = inflight.remove(at: 0) }
    if inflightFile >= 0 { cl_close(inflightFile) }
    inflightFile = -1
    if channel >= 0 { cl_close(channel) }
    channel = -1
    features = FeatureSet()
    hasProtocolFeatures = false
    protocolFeatures = ProtocolFeatures()
    status = 0
  }

  func closeDescriptors(_ queue: Int) {
    let ring = vrings[queue]
    if ring.kick >= 0 {
      cl_epoll_remove(epoll, ring.kick)
      cl_close(ring.kick)
    }
    if ring.call >= 0 { cl_close(ring.call) }
    if ring.error >= 0 { cl_close(ring.error) }
  }

  // MARK: One step

  /// Returns finished requests and serves every running ring within its budget; whether there was
  /// anything to do.
  ///
  /// - Throws: why the connection has to end.
  public mutating func step(isDraining: Bool = false) throws(VhostUserError) -> Bool {
    var isBusy = takeCompletions()
    for queue in 0..<queueCount where queues.isOccupied(queue) {
      if !isDraining, vrings[queue].isEnabled, !vrings[queue].isBroken, serve(queue) {
        isBusy = true
      }
      try publish(queue)
    }
    if memory.faults != seenFaults {
      seenFaults = memory.faults
      throw .memoryVanished
    }
    try announceIfChanged()
    return isBusy
  }

  /// What a driver did to break a ring since the last call, for the log.
  public mutating func takeBrokenRing() -> VhostUserError? {
    defer { brokenRing = nil }
    return brokenRing
  }

  private mutating func takeCompletions() -> Bool {
    var found = false
    for _ in 0..<VhostUserLimits.completions {
      guard let completion = device.nextCompletion() else { break }
      found = true
      let queue = completion.queue
      guard queues.isOccupied(queue),
        queues[queue].complete(completion.ticket, written: completion.written)
      else { continue }
      noteReturned(completion.ticket.head, queue)
    }
    return found
  }

  @inline(never)
  private mutating func noteReturned(_ head: UInt16, _ queue: Int) {
    guard inflight.isOccupied(0) else { return }
    inflight[0].ended(head, queue: queue)
    returned.add(head, queue: queue)
  }

  private mutating func serve(_ queue: Int) -> Bool {
    var taken = 0
    do throws(QueueError) {
      while taken < VhostUserLimits.chains, device.canServe(queue: queue) {
        guard let chain = try nextChain(queue) else { break }
        taken += 1
        let head = chain.head
        if inflight.isOccupied(0) { inflight[0].began(head, queue: queue) }
        device.serve(
          chain, segments, index: queue, on: &queues[queue], in: memory.region)
        if inflight.isOccupied(0), !queues[queue].isInFlight(head) { noteReturned(head, queue) }
      }
    } catch {
      counters.queueErrors &+= 1
      vrings[queue].isBroken = true
      // The driver's mistake, not the front-end's: the connection stays, for the reset that mends
      // the device (VIRTIO 1.4, 2.1.2).
      status |= DeviceStatus.needsReset.rawValue
      if vrings[queue].error >= 0 { _ = cl_event_signal(vrings[queue].error) }
      brokenRing = .queue(index: queue, error)
    }
    counters.chains &+= UInt64(taken)
    return taken > 0
  }

  /// First what an earlier back-end had in flight, then what is new.
  private mutating func nextChain(_ queue: Int) throws(QueueError) -> TakenChain? {
    let ring = vrings[queue]
    if ring.resumed < ring.resumeCount {
      vrings[queue].resumed += 1
      counters.resumed &+= 1
      let head = resumeHeads[queue * Int(maximumQueueSize.rawValue) + ring.resumed]
      return try queues[queue].takeAgain(head, into: &segments)
    }
    return try queues[queue].takeChain(into: &segments)
  }

  private mutating func publish(_ queue: Int) throws(VhostUserError) {
    let wantsCall = queues[queue].publish()
    if returned.count(queue) > 0, inflight.isOccupied(0) {
      inflight[0].published(
        returned, queue: queue, usedIndex: queues[queue].indices.used.rawValue)
    }
    returned.clear(queue)
    if wantsCall { try call(queue) }
  }

  private mutating func call(_ queue: Int) throws(VhostUserError) {
    counters.calls &+= 1
    if vrings[queue].call >= 0 {
      _ = cl_event_signal(vrings[queue].call)
    } else if protocolFeatures.contains(.inBandNotifications), channel >= 0 {
      outgoing.begin(BackendRequest.vringCall, flags: 0)
      outgoing.append32(UInt32(queue))
      outgoing.append32(0)
      try VhostUserSocket.send(outgoing, over: channel)
    }
  }

  /// Tells the front-end when configuration space changed by itself, as by a file that grew.
  mutating func announceIfChanged() throws(VhostUserError) {
    guard device.takeConfigurationChange() else { return }
    guard channel >= 0, protocolFeatures.contains(.configuration) else { return }
    outgoing.begin(BackendRequest.configurationChanged, flags: 0)
    try VhostUserSocket.send(outgoing, over: channel)
  }

  // MARK: Sleep

  /// Asks the driver for kicks on every running ring; whether it may be slept now: nothing came
  /// meanwhile.
  public mutating func prepareToSleep() -> Bool {
    for queue in 0..<queueCount where queues.isOccupied(queue) {
      queues[queue].armNotifications()
    }
    // Pairs with the driver's fence between its index and its look at what was armed here
    // (VIRTIO 1.4, 2.7.13.4.1): either it kicks, or the look below sees its chain.
    Ordering.fullFence()
    for queue in 0..<queueCount where queues.isOccupied(queue) {
      let ring = vrings[queue]
      guard ring.isEnabled, !ring.isBroken, device.canServe(queue: queue) else { continue }
      if ring.resumed < ring.resumeCount || queues[queue].hasPending() { return false }
    }
    return true
  }

  /// Sleep is over: the device looks by itself again.
  public mutating func wake() {
    for queue in 0..<queueCount where queues.isOccupied(queue) {
      queues[queue].suppressNotifications()
    }
  }
}

/// Bounds of one step.
enum VhostUserLimits {
  /// Chains taken from one queue.
  static var chains: Int { 64 }
  /// Completions taken from the device.
  static var completions: Int { 256 }
}
