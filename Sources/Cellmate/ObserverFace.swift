public import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import SimulatorPeer

/// A look at a simulated link.
struct ObserverObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .observer }
  let memory: ObjectMemory
  let link: SimulatorObserver
}

private func observe(_ specification: String) throws(UsageError) -> SimulatorObserver {
  let wanted = try LinkSpecification(specification)
  guard case .simulator(let path) = wanted.place else {
    throw UsageError(
      "link \(wanted.name): a device that a program may have is not opened to look at it (closing"
        + " it would end the link); ask its back-end's control socket, or see 'ivshmem info'")
  }
  do throws(SimulatorPeerError) {
    return try SimulatorObserver(socketPath: path)
  } catch { throw UsageError(explain(error, wanted.name, wanted.own(.backEnd))) }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_observer_open(
  _ specification: UnsafePointer<CChar>?, _ observer: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let specification = unsafe specification, let observer = unsafe observer else {
    return Code.argument
  }
  do throws(UsageError) {
    let link = try observe(unsafe String(cString: specification))
    do throws(FaceError) {
      let memory = try ObjectMemory(MemoryLayout<ObserverObject>.stride)
      unsafe observer.pointee = try ObserverObject.open(ObserverObject(memory: memory, link: link))
      return Code.ok
    } catch { return error.code }
  } catch let usage { return unsafe report(usage, error) }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_observer_info(
  _ observer: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_link_facts>?
) -> cellmate_result {
  unsafe ObserverObject.with(observer) { object throws(FaceError) in
    unsafe fill(facts, outsideFacts(object.link.geometry, object.link.region))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_observer_interrupts(
  _ observer: OpaquePointer?, _ peer: UInt32, _ delivered: UnsafeMutablePointer<UInt64>?,
  _ dropped: UnsafeMutablePointer<UInt64>?
) -> cellmate_result {
  unsafe ObserverObject.with(observer) { object throws(FaceError) in
    guard peer < object.link.geometry.maxPeers, let peer = UInt16(exactly: peer),
      let delivered = unsafe delivered, let dropped = unsafe dropped
    else { return Code.argument }
    let counts = object.link.interruptCounts(of: PeerID(peer))
    unsafe delivered.pointee = counts.delivered
    unsafe dropped.pointee = counts.dropped
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_observer_close(_ observer: OpaquePointer?) -> cellmate_result {
  unsafe ObserverObject.close(observer) { _ in }
}
