import IVShmem
import SharedMemory

/// The memory of a link that this process has mapped, for looking at it.
struct LinkMemory: Sendable {
  /// Bytes that one look may copy.
  static var lookLimit: Int { 4096 }

  let region: SharedRegion
  let geometry: LinkGeometry
  let peerID: PeerID
  let vectorCount: UInt16
  let deviceClass: UInt32

  init(_ platform: borrowing HostPlatform) {
    region = platform.region
    geometry = platform.geometry
    peerID = platform.peerID
    vectorCount = platform.vectorCount
    deviceClass = platform.deviceClass
  }

  /// Words as they are now, each loaded once; `nil` when the range is not inside the memory.
  func words(_ offset: Int, _ count: Int) -> [UInt8]? {
    loadWords(region, offset, count, limit: min(geometry.totalSize, region.count))
  }

  /// What `link` of the control socket answers.
  var json: String {
    var object = JSONObject()
    object.add("ok", flag: true)
    object.add("id", number: peerID.rawValue)
    object.add("maxPeers", number: geometry.maxPeers)
    object.add("vectors", number: vectorCount)
    object.add("class", number: deviceClass)
    object.add("stateTable", number: geometry.stateTableSize)
    object.add("readWrite", number: geometry.readWriteSize)
    object.add("output", number: geometry.outputSize)
    return object.text
  }
}

/// Copies whole words, each loaded once, without unaligned accesses; `nil` when the range is not
/// a range of words below `limit`.
func loadWords(_ region: SharedRegion, _ offset: Int, _ count: Int, limit: Int) -> [UInt8]? {
  guard offset >= 0, count > 0, count <= LinkMemory.lookLimit, offset & 3 == 0, count & 3 == 0,
    offset <= limit - count
  else { return nil }
  var bytes: [UInt8] = []
  bytes.reserveCapacity(count)
  for place in stride(from: offset, to: offset + count, by: 4) {
    let word = region.load32(place)
    for shift in [UInt32(0), 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
  }
  return bytes
}
