public import CCellmate
import CommandOptions
import IVShmem
import LinuxRuntime
import VirtioTransport

func linkSide(_ number: Int32) -> LinkSide? { LinkSide(rawValue: UInt32(bitPattern: number)) }

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_open(
  _ specification: UnsafePointer<CChar>?, _ side: Int32,
  _ link: UnsafeMutablePointer<OpaquePointer?>?, _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let specification = unsafe specification, let link = unsafe link,
    let side = linkSide(side)
  else { return Code.argument }
  let text = unsafe String(cString: specification)
  do throws(FaceError) {
    if text.hasPrefix("vhost-user:"), text.utf8.count > 11 {
      unsafe link.pointee = try LinkObject.make(socket: String(text.dropFirst(11)), side)
    } else {
      unsafe link.pointee = try unsafe joinLink(text, side, error)
    }
    return Code.ok
  } catch { return error.code }
}

private func joinLink(
  _ text: String, _ side: LinkSide, _ error: UnsafeMutablePointer<cellmate_error>?
) throws(FaceError) -> OpaquePointer {
  let wanted: LinkSpecification
  var isAdopted = false
  let platform: LibraryPlatform
  do throws(UsageError) {
    wanted = try LinkSpecification(text)
    platform = LibraryPlatform(
      side == .backEnd
        ? try openKeptPeer(wanted, &isAdopted) : try openPeer(wanted, side: side))
  } catch let usage { throw FaceError(unsafe report(usage, error)) }
  return unsafe try LinkObject.make(
    platform, side, .specification(wanted), isAdopted: isAdopted)
}

/// Joins a link as its back-end, or goes on with the connection that an earlier back-end left.
private func openKeptPeer(
  _ wanted: LinkSpecification, _ isAdopted: inout Bool
) throws(UsageError) -> HostPlatform {
  if let connection = KeptDescriptor.take(KeptDescriptor.name("link", wanted.name)) {
    do throws(UsageError) {
      let peer = try adoptPeer(connection, wanted)
      isAdopted = true
      return peer
    } catch {
      LinkVoice("link \(wanted.name)").say(
        "the kept connection is of no use: \(error.message)", .warning)
    }
  }
  return try openPeer(wanted, side: .backEnd)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_open_platform(
  _ platform: UnsafePointer<cellmate_platform>?, _ side: Int32, _ peer: UInt32,
  _ placement: Int32, _ link: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let link = unsafe link, let side = linkSide(side), let peer = UInt16(exactly: peer),
    placement >= 0, placement <= 2
  else { return Code.argument }
  var given = unsafe cellmate_platform()
  let size = unsafe MemoryLayout<cellmate_platform>.size
  let result = unsafe ch_input(platform, &given, size, size)
  guard result == Code.ok else { return result }
  do throws(FaceError) {
    unsafe link.pointee = try unsafe callbackLink(
      given, side, PeerID(peer), Placement(rawValue: UInt32(placement)), error)
    return Code.ok
  } catch { return error.code }
}

private func callbackLink(
  _ given: cellmate_platform, _ side: LinkSide, _ peer: PeerID, _ placement: Placement?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) throws(FaceError) -> OpaquePointer {
  let name = "given by callbacks"
  let geometry: LinkGeometry
  do throws(GeometryError) {
    geometry = try unsafe LinkGeometry(
      maxPeers: given.max_peers, stateTableSize: given.state_table_size,
      readWriteSize: given.read_write_size, outputSize: given.output_size)
  } catch let problem { throw FaceError(unsafe report(explain(problem, link: name), error)) }
  let platform = try unsafe LibraryPlatform(given, geometry)
  // Of such a link everything is known: what does not fit is said at once.
  do throws(UsageError) {
    _ = try LinkObject.plan(side, platform.peerID, peer, geometry, placement, name)
  } catch let usage { throw FaceError(unsafe report(usage, error)) }
  return unsafe try LinkObject.make(platform, side, .callbacks(peer: peer, placement))
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_link_close(_ link: OpaquePointer?) -> cellmate_result {
  unsafe LinkObject.close(link) { _ in }
}
