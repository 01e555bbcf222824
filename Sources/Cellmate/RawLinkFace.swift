public import CCellmate
import CLinux
import IVShmem
import LinuxRuntime
import SharedMemory

/// What a caller gets to know of a link that nobody has joined.
func outsideFacts(_ geometry: LinkGeometry, _ region: SharedRegion) -> cellmate_link_facts {
  var facts = unsafe cellmate_link_facts()
  unsafe facts.peer_id = .max
  unsafe facts.wake_descriptor = -1
  unsafe facts.max_peers = geometry.maxPeers
  unsafe facts.state_table_size = UInt64(geometry.stateTableSize)
  unsafe facts.read_write_size = UInt64(geometry.readWriteSize)
  unsafe facts.output_size = UInt64(geometry.outputSize)
  let whole = region.readRange(0..<geometry.totalSize)
  // SAFETY: the memory stays mapped until the handle is closed; cellmate.h says who may write what.
  unsafe facts.memory = UnsafeMutableRawPointer(mutating: region.unsafeAddress(of: whole))
  return unsafe facts
}

/// Fills the caller's facts.
func fill(
  _ out: UnsafeMutablePointer<cellmate_link_facts>?, _ facts: cellmate_link_facts
) -> cellmate_result {
  let size = unsafe MemoryLayout<cellmate_link_facts>.size
  let result = unsafe ch_can_output(out, size)
  guard result == Code.ok, let out = unsafe out else { return result }
  var facts = unsafe facts
  unsafe ch_output(out, &facts, size)
  return Code.ok
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_info(
  _ link: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_link_facts>?
) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in
    var all = unsafe outsideFacts(platform.geometry, platform.region)
    unsafe all.peer_id = UInt32(platform.peerID.rawValue)
    unsafe all.vector_count = UInt32(platform.vectorCount)
    unsafe all.capabilities = UInt32(platform.capabilities.rawValue)
    unsafe all.device_class = platform.deviceClass
    unsafe all.wake_descriptor = platform.wakeDescriptor
    return unsafe fill(facts, all)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_read_state(
  _ link: OpaquePointer?, _ peer: UInt32, _ state: UnsafeMutablePointer<UInt32>?
) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in
    let peer = try platform.checkedPeer(peer)
    guard let state = unsafe state else { return Code.argument }
    unsafe state.pointee = platform.region.state(of: peer, in: platform.geometry)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_write_state(_ link: OpaquePointer?, _ state: UInt32) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in
    platform.writeState(state)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_ring(
  _ link: OpaquePointer?, _ vector: UInt32, _ peer: UInt32
) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in
    let peer = try platform.checkedPeer(peer)
    guard let vector = UInt16(exactly: vector) else { return Code.argument }
    platform.ringDoorbell(Vector(vector), at: peer)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_arm(_ link: OpaquePointer?, _ enabled: Int32) -> cellmate_result {
  guard enabled == 0 || enabled == 1 else { return Code.argument }
  return unsafe LinkObject.raw(link) { platform throws(FaceError) in
    platform.setInterruptsEnabled(enabled == 1)
    // The read completes a posted write.
    if platform.capabilities.contains(.postedRegisterWrites) { _ = platform.interruptsEnabled() }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_is_armed(_ link: OpaquePointer?) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in platform.interruptsEnabled() ? 1 : 0 }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_wait(_ link: OpaquePointer?, _ deadline: UInt64) -> cellmate_result {
  unsafe LinkObject.raw(link) { platform throws(FaceError) in
    code(platform.wait(until: instant(deadline)))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_wake(_ link: OpaquePointer?) -> cellmate_result {
  var result = Code.order
  let seen = unsafe LinkObject.peek(link) { object in
    let descriptor = unsafe object.pointee.wakeDescriptor
    guard descriptor >= 0 else { return }
    _ = cl_event_signal(descriptor)
    result = Code.ok
  }
  return seen == Code.ok ? result : seen
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_adopt(_ link: OpaquePointer?) -> cellmate_result {
  unsafe ch_adopt(UnsafeRawPointer(link), HandleKind.link.rawValue)
}

extension LibraryPlatform {
  /// A peer of this link.
  func checkedPeer(_ number: UInt32) throws(FaceError) -> PeerID {
    guard number < geometry.maxPeers, let id = UInt16(exactly: number) else {
      throw FaceError(Code.argument)
    }
    return PeerID(id)
  }
}
