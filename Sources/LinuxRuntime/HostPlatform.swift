public import IVShmem
public import LinuxSupport
public import LinuxUIO
public import LinuxVFIO
public import SharedMemory
public import SimulatorPeer

/// The platform behind a link, as this process was told to use it: one of those that Linux has.
///
/// Everything above it is written once and does not ask which one it is. What never changes is
/// copied out of the platform when it is taken over; a call costs one comparison more than the
/// platform's own.
@safe
public struct HostPlatform: Platform, ~Copyable {
  /// In a place of its own: a value that cannot be copied can only be moved out of an enumeration
  /// and back.
  @safe private enum Kind {
    case simulator(UnsafeMutablePointer<SimulatorPeer>)
    case uio(UnsafeMutablePointer<LinuxUIO>)
    case vfio(UnsafeMutablePointer<LinuxVFIO>)
  }

  /// What the memory and the interrupts can do.
  public let capabilities: PlatformCapabilities
  /// This peer's id.
  public let peerID: PeerID
  /// Where the sections lie.
  public let geometry: LinkGeometry
  /// Vectors this peer may be rung on.
  public let vectorCount: UInt16
  /// The shared memory.
  public let region: SharedRegion
  /// The PCI class code of this peer's device, 24 bits; 0 when it has none.
  public let deviceClass: UInt32
  /// Ends this peer's wait from elsewhere.
  public let localWake: LocalWake
  /// The descriptor that keeps this peer alive as long as anybody holds it open.
  public let connection: Int32
  private let kind: Kind

  /// A process on a simulated link.
  public init(_ peer: consuming SimulatorPeer) {
    capabilities = peer.capabilities
    peerID = peer.peerID
    geometry = peer.geometry
    vectorCount = peer.vectorCount
    region = peer.region
    deviceClass = peer.deviceClass
    localWake = peer.localWake
    connection = peer.connection
    kind = unsafe .simulator(Self.place(peer))
  }

  /// A device of `uio_ivshmem`.
  public init(_ peer: consuming LinuxUIO) {
    capabilities = peer.capabilities
    peerID = peer.peerID
    geometry = peer.geometry
    vectorCount = peer.vectorCount
    region = peer.region
    deviceClass = peer.deviceClass
    localWake = peer.localWake
    connection = peer.connection
    kind = unsafe .uio(Self.place(peer))
  }

  /// A device of `vfio-pci`.
  public init(_ peer: consuming LinuxVFIO) {
    capabilities = peer.capabilities
    peerID = peer.peerID
    geometry = peer.geometry
    vectorCount = peer.vectorCount
    region = peer.region
    deviceClass = peer.deviceClass
    localWake = peer.localWake
    connection = peer.connection
    kind = unsafe .vfio(Self.place(peer))
  }

  private static func place<Peer: ~Copyable>(
    _ peer: consuming Peer
  ) -> UnsafeMutablePointer<Peer> {
    let place = UnsafeMutablePointer<Peer>.allocate(capacity: 1)
    unsafe place.initialize(to: peer)
    return unsafe place
  }

  @inline(never)
  private static func end<Peer: ~Copyable>(_ place: UnsafeMutablePointer<Peer>) {
    unsafe place.deinitialize(count: 1)
    unsafe place.deallocate()
  }

  deinit {
    switch kind {
    case .simulator(let place): unsafe Self.end(place)
    case .uio(let place): unsafe Self.end(place)
    case .vfio(let place): unsafe Self.end(place)
    }
  }

  /// What it means when a wait says `.gone`, for the log.
  public var goneText: String {
    switch kind {
    case .simulator: "the simulator is gone"
    case .uio, .vfio: "the device is gone: it was removed, or its driver was unbound"
    }
  }

  /// Writes State.
  public mutating func writeState(_ value: UInt32) {
    switch kind {
    case .simulator(let place): unsafe place.pointee.writeState(value)
    case .uio(let place): unsafe place.pointee.writeState(value)
    case .vfio(let place): unsafe place.pointee.writeState(value)
    }
  }

  /// Reads State.
  public mutating func readState() -> UInt32 {
    switch kind {
    case .simulator(let place): unsafe place.pointee.readState()
    case .uio(let place): unsafe place.pointee.readState()
    case .vfio(let place): unsafe place.pointee.readState()
    }
  }

  /// Writes Interrupt Control.
  @inline(never)
  public mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    switch kind {
    case .simulator(let place): unsafe place.pointee.setInterruptsEnabled(isEnabled)
    case .uio(let place): unsafe place.pointee.setInterruptsEnabled(isEnabled)
    case .vfio(let place): unsafe place.pointee.setInterruptsEnabled(isEnabled)
    }
  }

  /// Reads Interrupt Control.
  @inline(never)
  public mutating func interruptsEnabled() -> Bool {
    switch kind {
    case .simulator(let place): unsafe place.pointee.interruptsEnabled()
    case .uio(let place): unsafe place.pointee.interruptsEnabled()
    case .vfio(let place): unsafe place.pointee.interruptsEnabled()
    }
  }

  /// Writes the Doorbell.
  @inline(never)
  public mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    switch kind {
    case .simulator(let place): unsafe place.pointee.ringDoorbell(vector, at: peer)
    case .uio(let place): unsafe place.pointee.ringDoorbell(vector, at: peer)
    case .vfio(let place): unsafe place.pointee.ringDoorbell(vector, at: peer)
    }
  }

  /// Sleeps until something comes.
  @inline(never)
  public mutating func wait(until deadline: Instant?) -> WaitOutcome {
    switch kind {
    case .simulator(let place): unsafe place.pointee.wait(until: deadline)
    case .uio(let place): unsafe place.pointee.wait(until: deadline)
    case .vfio(let place): unsafe place.pointee.wait(until: deadline)
    }
  }

  /// The monotonic clock.
  public func now() -> Instant {
    switch kind {
    case .simulator(let place): unsafe place.pointee.now()
    case .uio(let place): unsafe place.pointee.now()
    case .vfio(let place): unsafe place.pointee.now()
    }
  }

  /// An unpredictable number.
  public mutating func randomNumber() -> UInt64 {
    switch kind {
    case .simulator(let place): unsafe place.pointee.randomNumber()
    case .uio(let place): unsafe place.pointee.randomNumber()
    case .vfio(let place): unsafe place.pointee.randomNumber()
    }
  }

  /// Lets `epoll` watch everything that ends this peer's wait. Whoever was woken calls
  /// ``wait(until:)`` with a deadline that has passed: it consumes what came.
  public func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    switch kind {
    case .simulator(let place): try unsafe place.pointee.addWaits(to: epoll, tag: tag)
    case .uio(let place): try unsafe place.pointee.addWaits(to: epoll, tag: tag)
    case .vfio(let place): try unsafe place.pointee.addWaits(to: epoll, tag: tag)
    }
  }

  /// Takes ``addWaits(to:tag:)`` back.
  public func removeWaits(from epoll: Int32) {
    switch kind {
    case .simulator(let place): unsafe place.pointee.removeWaits(from: epoll)
    case .uio(let place): unsafe place.pointee.removeWaits(from: epoll)
    case .vfio(let place): unsafe place.pointee.removeWaits(from: epoll)
    }
  }
}
