import SharedMemory
import VirtioDevice
import Virtqueue

// Commands of the driver (VIRTIO 1.4, 5.1.9.5).
extension NetDevice where Host: ~Copyable {
  /// Does one command and answers it; whether there was room for the answer. A command that cannot
  /// be answered is not done.
  @inline(never)
  mutating func command(_ segments: borrowing ChainSegments, in region: SharedRegion) -> Bool {
    counters.commands &+= 1
    guard let ack = segments.writableByte(at: 0) else {
      counters.badCommands &+= 1
      return false
    }
    var head = InlineArray<2, UInt8>(repeating: 0)
    var headSpan = head.mutableSpan
    var isDone = false
    if segments.copyReadable(from: 0, into: &headSpan, in: region) == 2 {
      let number = UInt16(head[0]) | UInt16(head[1]) << 8
      if let command = NetCommand(rawValue: number) {
        isDone = perform(command, segments, in: region)
      }
    }
    if !isDone { counters.badCommands &+= 1 }
    region.fill(ack, with: isDone ? 0 : 1)
    return true
  }

  /// The up to eight bytes behind a command, least significant first, when there are exactly
  /// `count` of them.
  private func argument(
    _ count: Int, _ segments: borrowing ChainSegments, in region: SharedRegion
  ) -> UInt64? {
    guard segments.readableByteCount == 2 + count else { return nil }
    var bytes = InlineArray<8, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    var part = span._mutatingExtracting(0..<count)
    guard segments.copyReadable(from: 2, into: &part, in: region) == count else { return nil }
    var value: UInt64 = 0
    for index in (0..<count).reversed() { value = value << 8 | UInt64(bytes[index]) }
    return value
  }

  private mutating func perform(
    _ command: NetCommand, _ segments: borrowing ChainSegments, in region: SharedRegion
  ) -> Bool {
    switch command {
    case .promiscuous: setMode(.promiscuous, .netControlReceive, segments, in: region)
    case .allMulticast: setMode(.allMulticast, .netControlReceive, segments, in: region)
    case .allUnicast: setMode(.allUnicast, .netControlReceiveExtra, segments, in: region)
    case .noMulticast: setMode(.noMulticast, .netControlReceiveExtra, segments, in: region)
    case .noUnicast: setMode(.noUnicast, .netControlReceiveExtra, segments, in: region)
    case .noBroadcast: setMode(.noBroadcast, .netControlReceiveExtra, segments, in: region)
    case .setTable: features.contains(.netControlReceive) && setTable(segments, in: region)
    case .setAddress: setAddress(argument(6, segments, in: region))
    case .announced: acknowledgeAnnouncement(segments)
    case .setPairs: setPairs(argument(2, segments, in: region))
    case .setOffloads: setOffloads(argument(8, segments, in: region))
    }
  }

  @inline(never)
  private mutating func setMode(
    _ mode: NetModes, _ need: FeatureSet, _ segments: borrowing ChainSegments,
    in region: SharedRegion
  ) -> Bool {
    guard features.contains(need), let value = argument(1, segments, in: region), value < 2 else {
      return false
    }
    filter.set(mode, value == 1)
    return true
  }

  private mutating func setAddress(_ argument: UInt64?) -> Bool {
    guard features.contains(.netControlAddress), let argument else { return false }
    let wanted = MACAddress(rawValue: argument)
    guard wanted.isStation, host.setAddress(wanted) else { return false }
    address = wanted
    return true
  }

  private mutating func acknowledgeAnnouncement(_ segments: borrowing ChainSegments) -> Bool {
    guard features.contains(.netAnnounce), segments.readableByteCount == 2, isAnnouncing else {
      return false
    }
    isAnnouncing = false
    return true
  }

  private mutating func setPairs(_ argument: UInt64?) -> Bool {
    guard features.contains(.netQueuePairs), let argument, argument >= 1,
      argument <= UInt64(pairs)
    else { return false }
    activePairs = Int(argument)
    sendingPairs = activePairs
    // A frame that waits for a pair that is off now goes to the first one.
    if delivery.pair >= activePairs {
      cancel(queue: NetQueue.receive(pair: delivery.pair).index(pairs: pairs))
      delivery.pair = 0
    }
    return true
  }

  private mutating func setOffloads(_ argument: UInt64?) -> Bool {
    guard features.contains(.netControlOffloads), let argument else { return false }
    let wanted = FeatureSet(rawValue: argument)
    // Only what was agreed, and nothing without what it needs.
    guard wanted.isSubset(of: features.intersection(.netGuestOffloads)),
      wanted.netConsistent == wanted
    else { return false }
    offloads = wanted
    // A frame that waits and is in no buffer yet follows the new rules.
    if delivery.count > 0, delivery.heldCount == 0, delivery.cut == nil {
      delivery.count = 0
      _ = adopt(delivery.frameCount, delivery.offload)
    }
    return true
  }

  /// The two tables of addresses: a number of entries and the entries, unicast first. They count
  /// only whole.
  private mutating func setTable(
    _ segments: borrowing ChainSegments, in region: SharedRegion
  ) -> Bool {
    let total = segments.readableByteCount
    guard let first = tableCount(at: 2, segments, in: region) else { return false }
    let second = 6 + 6 * first
    guard second <= total, let other = tableCount(at: second, segments, in: region),
      second + 4 + 6 * other == total
    else { return false }
    for index in 0..<min(first, NetFormat.filterLimit) {
      filter.unicast[index] = entry(at: 6 + 6 * index, segments, in: region)
    }
    for index in 0..<min(other, NetFormat.filterLimit) {
      filter.multicast[index] = entry(at: second + 4 + 6 * index, segments, in: region)
    }
    filter.unicastCount = first
    filter.multicastCount = other
    return true
  }

  private func tableCount(
    at start: Int, _ segments: borrowing ChainSegments, in region: SharedRegion
  ) -> Int? {
    var bytes = InlineArray<4, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    guard segments.copyReadable(from: start, into: &span, in: region) == 4 else { return nil }
    var value: UInt32 = 0
    for index in (0..<4).reversed() { value = value << 8 | UInt32(bytes[index]) }
    // More could not stand in any chain (2^32 - 1 bytes).
    return value <= UInt32.max / 6 ? Int(value) : nil
  }

  private func entry(
    at start: Int, _ segments: borrowing ChainSegments, in region: SharedRegion
  ) -> MACAddress {
    var bytes = InlineArray<6, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    _ = segments.copyReadable(from: start, into: &span, in: region)
    return MACAddress(bytes.span, at: 0)
  }
}
