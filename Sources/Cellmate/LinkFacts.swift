import IVShmem
import LinuxRuntime
import SharedMemory

/// What never changes of a link that was joined.
struct LinkFacts {
  /// Bytes that one look may copy.
  static var lookLimit: Int { 4096 }

  let region: SharedRegion
  let geometry: LinkGeometry
  let peerID: PeerID
  let vectorCount: UInt16
  let deviceClass: UInt32

  init(_ platform: borrowing LibraryPlatform) {
    region = platform.region
    geometry = platform.geometry
    peerID = platform.peerID
    vectorCount = platform.vectorCount
    deviceClass = platform.deviceClass
  }

  /// Gives words as they are now, each loaded once; `false` when the range is not inside the
  /// memory, or not of whole words.
  func look(_ offset: UInt64, _ count: Int, _ take: (Int, UInt32) -> Void) -> Bool {
    let limit = UInt64(min(geometry.totalSize, region.count))
    guard count > 0, count <= Self.lookLimit, offset & 3 == 0, count & 3 == 0,
      UInt64(count) <= limit, offset <= limit - UInt64(count)
    else { return false }
    for place in stride(from: 0, to: count, by: 4) {
      take(place, region.load32(Int(offset) + place))
    }
    return true
  }
}
