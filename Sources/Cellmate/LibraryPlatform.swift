import CCellmate
import CLinux
import IVShmem
import LinuxRuntime
import LinuxSupport
import SharedMemory

/// The platform behind a link of the library: a built-in one, or the caller's callbacks.
@safe
struct LibraryPlatform: Platform, ~Copyable {
  let capabilities: PlatformCapabilities
  let peerID: PeerID
  let geometry: LinkGeometry
  let vectorCount: UInt16
  let region: SharedRegion
  /// The PCI class code of this peer's device, 24 bits; 0 when it has none.
  let deviceClass: UInt32
  /// Signalled to end a wait; an event descriptor.
  let wakeDescriptor: Int32
  /// The descriptor that keeps this peer alive as long as anybody holds it open; -1: none.
  let connection: Int32
  /// In a place of its own: an optional that cannot be copied can only be moved out and back.
  private let host: UnsafeMutablePointer<HostPlatform>?
  private let callbacks: cellmate_platform
  /// Random numbers that were asked for.
  private var randomCount: UInt64 = 0

  /// One of Linux' own.
  init(_ host: consuming HostPlatform) {
    capabilities = host.capabilities
    peerID = host.peerID
    geometry = host.geometry
    vectorCount = host.vectorCount
    region = host.region
    deviceClass = host.deviceClass
    wakeDescriptor = host.localWake.descriptor
    connection = host.connection
    let place = UnsafeMutablePointer<HostPlatform>.allocate(capacity: 1)
    unsafe place.initialize(to: host)
    unsafe self.host = place
    unsafe callbacks = cellmate_platform()
  }

  /// The caller's; `geometry` was made from it.
  init(_ platform: cellmate_platform, _ geometry: LinkGeometry) throws(FaceError) {
    guard let memory = unsafe platform.memory, UInt(bitPattern: memory) & 4095 == 0,
      unsafe platform.write_state != nil, unsafe platform.read_state != nil,
      unsafe platform.set_interrupts != nil, unsafe platform.interrupts_enabled != nil,
      unsafe platform.ring_doorbell != nil, unsafe platform.wait != nil,
      unsafe platform.now != nil, unsafe platform.random != nil,
      let vectors = unsafe UInt16(exactly: platform.vector_count), vectors > 0,
      let own = unsafe UInt16(exactly: platform.peer_id), UInt32(own) < geometry.maxPeers
    else { throw FaceError(Code.argument) }
    let wake = cl_eventfd()
    guard wake >= 0 else { throw FaceError(Code.memory) }
    // Emptied after every wait, whether or not it was what ended it.
    _ = cl_set_nonblocking(Int32(wake))
    wakeDescriptor = Int32(wake)
    connection = -1
    let all: PlatformCapabilities =
      .pinnable | .unalignedSafe | .oneShotInterrupts | .postedRegisterWrites
    capabilities = unsafe PlatformCapabilities(
      rawValue: UInt16(truncatingIfNeeded: platform.capabilities)
    ).intersection(all)
    peerID = PeerID(own)
    self.geometry = geometry
    vectorCount = vectors
    deviceClass = 0
    // SAFETY: cellmate.h has the caller say that the memory is there, and how much of it.
    region = unsafe SharedRegion(
      unsafeBase: memory, count: geometry.totalSize,
      isUnalignedSafe: capabilities.contains(.unalignedSafe))
    unsafe self.host = nil
    unsafe callbacks = platform
  }

  deinit {
    if let host = unsafe host {
      unsafe host.deinitialize(count: 1)
      unsafe host.deallocate()
    } else {
      cl_close(wakeDescriptor)
    }
  }

  /// What it means when a wait says `.gone`, for the log.
  var goneText: String {
    if let host = unsafe host { return unsafe host.pointee.goneText }
    return "the platform is gone"
  }

  /// Lets `epoll` watch everything that ends this peer's wait; see ``HostPlatform``.
  func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    guard let host = unsafe host else { throw SystemError(SystemError.notSupported) }
    try unsafe host.pointee.addWaits(to: epoll, tag: tag)
  }

  /// Takes ``addWaits(to:tag:)`` back.
  func removeWaits(from epoll: Int32) {
    if let host = unsafe host { unsafe host.pointee.removeWaits(from: epoll) }
  }

  mutating func writeState(_ value: UInt32) {
    if let host = unsafe host { return unsafe host.pointee.writeState(value) }
    unsafe callbacks.write_state(callbacks.context, value)
  }

  mutating func readState() -> UInt32 {
    if let host = unsafe host { return unsafe host.pointee.readState() }
    return unsafe callbacks.read_state(callbacks.context)
  }

  @inline(never)
  mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    if let host = unsafe host {
      return unsafe host.pointee.setInterruptsEnabled(isEnabled)
    }
    unsafe callbacks.set_interrupts(callbacks.context, isEnabled ? 1 : 0)
  }

  mutating func interruptsEnabled() -> Bool {
    if let host = unsafe host { return unsafe host.pointee.interruptsEnabled() }
    return unsafe callbacks.interrupts_enabled(callbacks.context) != 0
  }

  @inline(never)
  mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    if let host = unsafe host {
      return unsafe host.pointee.ringDoorbell(vector, at: peer)
    }
    unsafe callbacks.ring_doorbell(
      callbacks.context, UInt32(vector.rawValue), UInt32(peer.rawValue))
  }

  @inline(never)
  mutating func wait(until deadline: Instant?) -> WaitOutcome {
    if let host = unsafe host { return unsafe host.pointee.wait(until: deadline) }
    let end = deadline?.nanoseconds ?? .max
    switch unsafe callbacks.wait(callbacks.context, end, wakeDescriptor) {
    case 1: return .deadline
    case 2: return .interrupted
    case 3: return .gone
    default:
      cl_event_take(wakeDescriptor)
      return .event
    }
  }

  func now() -> Instant {
    if let host = unsafe host { return unsafe host.pointee.now() }
    return Instant(nanoseconds: unsafe callbacks.now(callbacks.context))
  }

  mutating func randomNumber() -> UInt64 {
    if let host = unsafe host { return unsafe host.pointee.randomNumber() }
    // A caller whose numbers repeat, or are all 0, must not stop the link: epochs differ anyway.
    randomCount &+= 0x9e37_79b9_7f4a_7c15
    let mixed = unsafe callbacks.random(callbacks.context) ^ randomCount
    return (mixed ^ mixed >> 31) &* 0xbf58_476d_1ce4_e5b9
  }
}
