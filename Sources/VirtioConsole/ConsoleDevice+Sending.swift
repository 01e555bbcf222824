import SharedMemory
import Virtqueue

// From the driver to the host: a chain, as far as the host takes it.
extension ConsoleDevice where Host: ~Copyable {
  /// Notes what a chain of a port's transmit queue holds.
  mutating func hold(_ segments: borrowing ChainSegments, _ index: Int) {
    let base = index * Self.chainLimit
    for piece in 0..<segments.readableCount { held[base + piece] = segments.readable(piece) }
    ports[index].segmentCount = segments.readableCount
    ports[index].segment = 0
    ports[index].offset = 0
  }

  /// Bytes of a port's chain that the host has not taken.
  @inline(never)
  func heldByteCount(_ index: Int) -> UInt64 {
    let port = ports[index]
    var count = 0
    for piece in port.segment..<port.segmentCount {
      count += held[index * Self.chainLimit + piece].count
    }
    return UInt64(count - port.offset)
  }

  private mutating func dropRest(_ index: Int) {
    counters.bytesDropped &+= heldByteCount(index)
    ports[index].segment = ports[index].segmentCount
    ports[index].offset = 0
  }

  /// Gives the host as much of a port's chain as it takes, and one turn's worth at most; whether
  /// the chain is done.
  mutating func send(_ index: Int, in region: SharedRegion) -> Bool {
    guard ports[index].isPresent, !ports[index].isCancelled else {
      dropRest(index)
      return true
    }
    var turn = Self.turnLimit
    while ports[index].segment < ports[index].segmentCount {
      let range = held[index * Self.chainLimit + ports[index].segment]
      let count = min(range.count - ports[index].offset, Self.bounceSize)
      guard count > 0 else {
        ports[index].segment += 1
        ports[index].offset = 0
        continue
      }
      guard turn > 0 else {
        isLookDue = true
        host.requestLook()
        return false
      }
      guard let piece = range.slice(from: ports[index].offset, count: count) else {
        preconditionFailure("counted from this very range")
      }
      bounce.withMutableSpan(0..<count) { _ = region.copy(piece, into: &$0) }
      switch bounce.withSpan(0..<count, { host.write(port: index, $0) }) {
      case .taken(let taken):
        precondition(taken >= 0 && taken <= count, "a host takes no more than it was given")
        counters.bytesFromDriver &+= UInt64(taken)
        ports[index].offset += taken
        turn -= taken
        if taken < count { return false }
      case .gone:
        dropRest(index)
        return true
      }
    }
    return true
  }
}
