import CLinux
public import IVShmem
public import LinuxSupport
public import SharedMemory

/// Why a process could not join a simulated link.
public enum SimulatorPeerError: Error, Equatable, Sendable {
  /// No server answers on the socket.
  case noServer(SystemError)
  /// The peer id is taken by another process.
  case busy(PeerID?, holder: Int32)
  /// The link has no such peer.
  case noSuchPeer(PeerID?)
  /// The server answered something else.
  case badWelcome(Int)
  /// The server's sizes make no sense.
  case geometry(GeometryError)
  /// Mapping a section failed.
  case mapping(SystemError)
}

/// The platform by which a process joins a simulated ivshmem-v2 link.
///
/// Sections are mapped with the rights they have under Jailhouse; the kernel enforces them. The
/// doorbell goes straight to the other process; State goes through the server, which owns the
/// state table. When the server ends, every wait ends with `.gone`; a server that was killed
/// leaves a machine without a hypervisor, which shows at the next State access.
@safe
public struct SimulatorPeer: Platform, ~Copyable {
  /// What the simulated memory and interrupts can do.
  public let capabilities: PlatformCapabilities
  /// This peer's id.
  public let peerID: PeerID
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// Vectors each peer may be rung on.
  public let vectorCount: UInt16
  /// The PCI class code that the device of this peer would have; 0 when the link has none.
  public let deviceClass: UInt32
  /// The shared memory.
  public let region: SharedRegion
  /// Ends this peer's wait from elsewhere.
  public let localWake: LocalWake
  private let socket: Descriptor
  private let reservation: UnsafeMutableRawPointer
  private let reservationSize: Int
  private let page: UnsafeMutableRawPointer
  private let pageSize: Int
  /// Event descriptors, `vectorCount` for each peer, in peer order.
  private var events: InlineArray<128, Int32>
  private let isOneShot: Bool
  private var isServerGone = false

  static let guardSize = 4096

  /// Joins the link behind `socketPath` as `wanted`, or as any free peer.
  public init(socketPath: String, wanting wanted: PeerID? = nil) throws(SimulatorPeerError) {
    let socket = try Self.connect(socketPath)
    let joined = try Self.join(socket, SimulatorMessage.Start.join(wanted))
    self.init(joined, socket)
  }

  /// Goes on with a connection that a peer of another life has joined and somebody has kept open:
  /// the same peer, whose State was never 0.
  public init(adopting connection: consuming Descriptor) throws(SimulatorPeerError) {
    let joined = try Self.join(connection, .rejoin(UInt32(truncatingIfNeeded: cl_random()) | 1))
    self.init(joined, connection)
  }

  @inline(never)
  private init(_ joined: Joined, _ socket: consuming Descriptor) {
    geometry = joined.geometry
    peerID = joined.peerID
    vectorCount = joined.vectorCount
    deviceClass = joined.deviceClass
    isOneShot = joined.flags & SimulatorMessage.Flag.oneShot != 0
    let isStrict = joined.flags & SimulatorMessage.Flag.strictAlignment != 0
    var capabilities: PlatformCapabilities = isStrict ? PlatformCapabilities() : .unalignedSafe
    if isOneShot { capabilities.insert(.oneShotInterrupts) }
    if joined.flags & SimulatorMessage.Flag.unpinnable == 0 { capabilities.insert(.pinnable) }
    self.capabilities = capabilities
    // SAFETY: the reservation spans both guards and every section.
    region = unsafe SharedRegion(
      unsafeBase: joined.mapping.reservation + Self.guardSize, count: geometry.totalSize,
      isUnalignedSafe: !isStrict)
    unsafe reservation = joined.mapping.reservation
    reservationSize = joined.mapping.reservationSize
    unsafe page = joined.mapping.page
    pageSize = joined.mapping.pageSize
    events = joined.events
    localWake = LocalWake(descriptor: events[Int(peerID.rawValue) * Int(vectorCount)])
    self.socket = socket
  }

  /// The connection to the server. As long as anybody holds it open, the peer lives.
  public var connection: Int32 { socket.number }

  deinit {
    for index in events.indices where events[index] >= 0 { cl_close(events[index]) }
    // SAFETY: nothing uses the region after its platform.
    unsafe cl_unmap(reservation, reservationSize)
    unsafe cl_unmap(page, pageSize)
  }
}

// MARK: - Registers and interrupts

extension SimulatorPeer {
  private func line(_ peer: PeerID) -> UnsafeMutableRawPointer {
    precondition(UInt32(peer.rawValue) < geometry.maxPeers, "no such peer on this link")
    // SAFETY: the page has a line for every peer of the link.
    return unsafe page + Int(peer.rawValue) * HypervisorPage.lineSize
  }

  private func request(_ kind: SimulatorMessage.Request, _ value: UInt32) -> UInt32? {
    var words: InlineArray<2, UInt32> = [kind.rawValue, value]
    var descriptors: InlineArray<128, Int32> = InlineArray(repeating: -1)
    var count: UInt32 = 0
    // SAFETY: the buffers live across the calls and have the stated sizes.
    return unsafe withUnsafeMutablePointer(to: &words) { bytes in
      guard unsafe cl_send(socket.number, bytes, 8, nil, 0) == 8 else { return nil }
      var got = -4
      // A signal handler may run meanwhile: EINTR is retried, the server answers at once.
      while got == -4 {
        got = unsafe withUnsafeMutablePointer(to: &descriptors) { numbers in
          unsafe cl_receive(
            socket.number, bytes, 8,
            UnsafeMutableRawPointer(numbers).assumingMemoryBound(to: Int32.self), &count, 0)
        }
      }
      guard got == 8 else { return nil }
      return unsafe bytes.pointee[1]
    }
  }

  /// Writes State through the server, which owns the table.
  public mutating func writeState(_ value: UInt32) {
    countStep()
    if request(.writeState, value) == nil { isServerGone = true }
  }

  /// Reads the own State from the server; 0 when it is gone.
  public mutating func readState() -> UInt32 {
    guard let value = request(.readState, 0) else {
      isServerGone = true
      return 0
    }
    return value
  }

  /// A register write is a step of test builds (docs/testing.md).
  private func countStep() {
    #if CELLMATE_WATCH
      _ = region.isRegisterWriteDone()
    #endif
  }

  /// Writes the own Interrupt Control.
  public mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    countStep()
    _ = unsafe cl_word_exchange(line(peerID) + HypervisorPage.armed, isEnabled ? 1 : 0)
  }

  /// Reads the own Interrupt Control.
  public mutating func interruptsEnabled() -> Bool {
    unsafe cl_word_load(line(peerID) + HypervisorPage.armed) & 1 != 0
  }

  /// Rings straight at the other process; dropped while it is not armed, as Jailhouse does.
  public mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    countStep()
    guard vector.rawValue < vectorCount, UInt32(peer.rawValue) < geometry.maxPeers else { return }
    let target = unsafe line(peer)
    // The exchange is a full barrier: earlier stores are visible before the interrupt.
    let disarms = HypervisorPage.Delivery.disarms(
      unsafe cl_word_load(target + HypervisorPage.delivery), link: isOneShot)
    let wasArmed =
      disarms
      ? unsafe cl_word_exchange(target + HypervisorPage.armed, 0)
      : unsafe cl_word_load(target + HypervisorPage.armed)
    guard wasArmed & 1 != 0 else {
      _ = unsafe cl_count(target + HypervisorPage.dropped)
      return
    }
    _ = unsafe cl_count(target + HypervisorPage.delivered)
    let index = Int(peer.rawValue) * Int(vectorCount) + Int(vector.rawValue)
    _ = cl_event_signal(events[index])
  }

  /// Sleeps on the own events. With one vector and no deadline this is one blocking read, the
  /// cheapest wait there is.
  public mutating func wait(until deadline: Instant?) -> WaitOutcome {
    if isServerGone { return .gone }
    let own = Int(peerID.rawValue) * Int(vectorCount)
    let outcome =
      deadline == nil && vectorCount == 1
      ? Self.outcome(ofRead: cl_event_wait(events[own]))
      : waitForAny(own, deadline)
    if outcome == .event,
      unsafe cl_word_load(page + Int(geometry.maxPeers) * HypervisorPage.lineSize) != 0
    {
      isServerGone = true
      return .gone
    }
    return outcome
  }

  private static func outcome(ofRead result: Int) -> WaitOutcome {
    if result == 8 { return .event }
    return result == -4 ? .interrupted : .gone
  }

  private func waitForAny(_ own: Int, _ deadline: Instant?) -> WaitOutcome {
    var entries: InlineArray<17, cl_poll_entry> = InlineArray(
      repeating: cl_poll_entry(fd: -1, events: Int16(CL_POLL_IN), revents: 0))
    for vector in 0..<Int(vectorCount) { entries[vector].fd = events[own + vector] }
    entries[16].fd = socket.number
    var timeout: Int64 = -1
    if let deadline {
      let clock = now().nanoseconds
      timeout =
        deadline.nanoseconds > clock
        ? Int64(clamping: deadline.nanoseconds - clock) : 0
    }
    let ready = unsafe withUnsafeMutablePointer(to: &entries) { pointer in
      unsafe cl_poll_ns(
        UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: cl_poll_entry.self), 17, timeout)
    }
    if ready == 0 { return .deadline }
    if ready == -4 { return .interrupted }
    guard ready > 0 else { return .gone }
    var outcome = WaitOutcome.deadline
    for vector in 0..<Int(vectorCount) where entries[vector].revents != 0 {
      _ = cl_event_wait(entries[vector].fd)
      outcome = .event
    }
    return outcome == .event || entries[16].revents == 0 ? outcome : .gone
  }

  /// Lets `epoll` watch everything that ends this peer's wait, for a thread that waits for several
  /// links. Whoever was woken calls ``wait(until:)`` with a deadline that has passed: it consumes
  /// what came.
  public func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    let own = Int(peerID.rawValue) * Int(vectorCount)
    for vector in 0..<Int(vectorCount) {
      _ = try SystemError.check(cl_epoll_add(epoll, events[own + vector], tag, 0))
    }
    _ = try SystemError.check(cl_epoll_add(epoll, socket.number, tag, 0))
  }

  /// Takes ``addWaits(to:tag:)`` back.
  public func removeWaits(from epoll: Int32) {
    let own = Int(peerID.rawValue) * Int(vectorCount)
    for vector in 0..<Int(vectorCount) { cl_epoll_remove(epoll, events[own + vector]) }
    cl_epoll_remove(epoll, socket.number)
  }

  /// CLOCK_MONOTONIC.
  public func now() -> Instant { Instant(nanoseconds: cl_monotonic_ns()) }

  /// From the kernel.
  public mutating func randomNumber() -> UInt64 { cl_random() }

  /// Doorbells and state changes delivered to and dropped at `peer` so far.
  public func interruptCounts(of peer: PeerID) -> (delivered: UInt64, dropped: UInt64) {
    let target = unsafe line(peer)
    return unsafe (
      cl_count_load(target + HypervisorPage.delivered),
      cl_count_load(target + HypervisorPage.dropped)
    )
  }
}
