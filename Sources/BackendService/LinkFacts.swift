import CCellmate
import ToolSupport

/// What the memory of an ivshmem link is like.
struct LinkFacts: Sendable {
  /// Bytes that one look may copy.
  static var lookLimit: Int { 4096 }

  /// What `link` of the control socket answers.
  let json: String
  /// Bytes of all sections.
  let totalSize: UInt64

  init(_ facts: cellmate_backend_facts) {
    var object = JSONObject()
    object.add("ok", flag: true)
    object.add("id", number: facts.peer_id)
    object.add("maxPeers", number: facts.max_peers)
    object.add("vectors", number: facts.vector_count)
    object.add("class", number: facts.device_class)
    object.add("stateTable", number: facts.state_table_size)
    object.add("readWrite", number: facts.read_write_size)
    object.add("output", number: facts.output_size)
    json = object.text
    totalSize =
      facts.state_table_size + facts.read_write_size
      + UInt64(facts.max_peers) * facts.output_size
  }
}

extension RingPlace {
  /// As the library tells it.
  init(_ ring: cellmate_ring) {
    self.init(
      slot: Int(ring.slot), queue: Int(ring.queue), size: ring.queue_size,
      descriptors: ring.descriptors, available: ring.available, used: ring.used)
  }
}
