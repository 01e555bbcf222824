import ToolSupport

/// A split ring at one moment (VIRTIO 1.4, 2.7), decoded from copies; nothing of it is believed,
/// and every walk is bounded.
struct RingPicture {
  /// A descriptor as it stands.
  struct Descriptor: Equatable {
    let index: UInt16
    let address: UInt64
    let count: UInt32
    let flags: UInt16
    let next: UInt16
    /// Whether all of it lies inside the link's memory.
    let isInside: Bool

    var flagText: String {
      bitNames(UInt32(flags), [(1, "next"), (2, "write"), (4, "indirect")])
    }
  }

  /// A chain that the driver made available.
  struct Chain: Equatable {
    /// Its place in the available ring.
    let position: UInt16
    let head: UInt16
    let descriptors: [Descriptor]
    /// Why the chain is not shown whole, or `nil`.
    let problem: String?
  }

  /// Chains and descriptors of a chain that are shown.
  static var chainLimit: Int { 8 }
  static var descriptorLimit: Int { 16 }

  let size: UInt32
  let availableFlags: UInt16
  let availableIndex: UInt16
  let usedFlags: UInt16
  let usedIndex: UInt16
  /// Chains that the device has not given back, as the two indices say.
  var inFlight: UInt16 { availableIndex &- usedIndex }
  let chains: [Chain]
  /// Why nothing can be decoded, or `nil`.
  let problem: String?

  /// Decodes a ring.
  ///
  /// - Parameters:
  ///   - limit: bytes that addresses of buffers may reach.
  ///   - base: what is subtracted from every address to get an offset into the link's memory.
  ///   - read: a copy of some bytes, empty when they are not inside the memory.
  init(
    size: UInt32, descriptors: UInt64, available: UInt64, used: UInt64, base: UInt64, limit: Int,
    read: (Int, Int) throws(ClientError) -> [UInt8]
  ) throws(ClientError) {
    self.size = size
    func offset(_ address: UInt64) -> Int? {
      let place = address &- base
      return place < UInt64(limit) ? Int(place) : nil
    }
    let isSize = size > 0 && size <= 32768 && size & (size &- 1) == 0
    var words = (Words([]), Words([]))
    if isSize, let a = offset(available), let u = offset(used), offset(descriptors) != nil {
      words = (Words(try read(a, 4)), Words(try read(u, 4)))
    }
    availableFlags = words.0.word16(0)
    availableIndex = words.0.word16(2)
    usedFlags = words.1.word16(0)
    usedIndex = words.1.word16(2)
    guard isSize, words.0.bytes.count == 4, words.1.bytes.count == 4,
      let table = offset(descriptors), let ring = offset(available)
    else {
      problem =
        isSize ? "its rings are not inside the link's memory" : "its size \(size) is no power of 2"
      chains = []
      return
    }
    problem =
      availableIndex &- usedIndex > UInt16(truncatingIfNeeded: size)
      ? "more chains in flight than it has descriptors" : nil
    var chains: [Chain] = []
    let open = min(Int(availableIndex &- usedIndex), Self.chainLimit)
    for back in 0..<open {
      let position = availableIndex &- UInt16(open - back)
      let entry = ring + 4 + 2 * Int(UInt32(position) % size)
      let head = Words(try read(entry, 2)).word16(0)
      chains.append(
        try Self.chain(position, head, size, table, base, limit, read))
    }
    self.chains = chains
  }

  private static func chain(
    _ position: UInt16, _ head: UInt16, _ size: UInt32, _ table: Int, _ base: UInt64, _ limit: Int,
    _ read: (Int, Int) throws(ClientError) -> [UInt8]
  ) throws(ClientError) -> Chain {
    var found: [Descriptor] = []
    var index = head
    while true {
      guard UInt32(index) < size else {
        return Chain(
          position: position, head: head, descriptors: found,
          problem: "descriptor \(index) is none of \(size)")
      }
      guard found.count < descriptorLimit else {
        return Chain(position: position, head: head, descriptors: found, problem: "longer")
      }
      let bytes = try read(table + 16 * Int(index), 16)
      guard bytes.count == 16 else {
        return Chain(
          position: position, head: head, descriptors: found,
          problem: "descriptor \(index) is outside the link's memory")
      }
      let words = Words(bytes)
      let address = words.word64(0)
      let count = words.word32(8)
      let start = address &- base
      found.append(
        Descriptor(
          index: index, address: address, count: count, flags: words.word16(12),
          next: words.word16(14),
          isInside: start <= UInt64(limit) && UInt64(count) <= UInt64(limit) - start))
      guard words.word16(12) & 1 != 0 else {
        return Chain(position: position, head: head, descriptors: found, problem: nil)
      }
      index = words.word16(14)
    }
  }
}
