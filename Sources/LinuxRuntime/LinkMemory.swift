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

/// Where a queue's rings lie, as its driver has said.
struct RingPlace: Equatable, Sendable {
  let slot: Int
  let queue: Int
  let size: UInt32
  let descriptors: UInt64
  let available: UInt64
  let used: UInt64

  var json: String {
    var object = JSONObject()
    object.add("slot", number: slot)
    object.add("queue", number: queue)
    object.add("size", number: size)
    object.add("descriptors", number: descriptors)
    object.add("available", number: available)
    object.add("used", number: used)
    return object.text
  }

  /// The places of an answer to `rings`.
  static func parse(_ text: String) -> [RingPlace] {
    text.split(separator: "{").dropFirst().compactMap { part in
      let part = String(part)
      guard let slot = JSONField.number("slot", part), slot < 8,
        let queue = JSONField.number("queue", part), queue < 65536,
        let size = JSONField.number("size", part), size <= 32768,
        let descriptors = JSONField.number("descriptors", part),
        let available = JSONField.number("available", part),
        let used = JSONField.number("used", part)
      else { return nil }
      return RingPlace(
        slot: Int(slot), queue: Int(queue), size: UInt32(size), descriptors: descriptors,
        available: available, used: used)
    }
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
