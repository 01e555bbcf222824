public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The entropy device, device side (VIRTIO 1.4, 5.4).
///
/// A chain is taken only when there is a byte to put into it, so none is ever in flight: random
/// bytes wait in a small private stock, which every look fills up from the host. A chain gets what
/// the stock and the host have at that moment, at most ``largestAnswer`` bytes; the specification
/// asks for one byte or more. Bytes leave the stock for good when they are given out.
public struct EntropyDevice<Host: EntropyHost & ~Copyable>: DeviceModel, ~Copyable {
  /// The source.
  public var host: Host
  /// What was counted.
  public private(set) var counters = EntropyCounters()
  private var stock = InlineArray<64, UInt8>(repeating: 0)
  /// Bytes of `stock` that are random and unused: its first ones.
  private var stockCount = 0
  /// The largest size of the queue.
  public let maximumQueueSize: QueueSize

  /// The most bytes one chain gets: what is more would keep the other devices of a link waiting.
  public static var largestAnswer: Int { 64 << 10 }

  /// Makes a device over `host`.
  @inline(never)
  public init(host: consuming Host, maximumQueueSize: QueueSize) {
    self.maximumQueueSize = maximumQueueSize
    self.host = host
    restock()
  }

  // MARK: DeviceModel

  /// 4.
  public var deviceID: UInt32 { EntropyFormat.deviceID }
  /// One (VIRTIO 1.4, 5.4.2).
  public var queueCount: Int { 1 }
  /// A driver that asks for more pieces than these asks for too much.
  public var maximumChainLength: Int { 64 }
  /// None (VIRTIO 1.4, 5.4.3).
  public var offeredFeatures: FeatureSet { FeatureSet() }
  /// None (VIRTIO 1.4, 5.4.4).
  public var configurationSize: Int { 0 }
  /// There is no configuration space.
  public func configurationByte(at offset: Int) -> UInt8 { 0 }
  /// There is no configuration space.
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    false
  }
  /// Nothing to agree on.
  public mutating func start(features: FeatureSet) {}
  /// Nothing to forget.
  public mutating func stop() {}
  /// Never.
  public mutating func takeConfigurationChange() -> Bool { false }
  /// Always 0.
  public var inFlightCount: Int { 0 }

  /// Whether there is a byte to give.
  public func canServe(queue: Int) -> Bool { stockCount > 0 }

  /// Nothing ever completes later; fills the stock up.
  public mutating func nextCompletion() -> DeviceCompletion? {
    restock()
    return nil
  }

  private mutating func restock() {
    let room = stock.count - stockCount
    guard room > 0 else { return }
    var span = stock.mutableSpan
    var free = span._mutatingExtracting(stockCount..<stockCount + room)
    stockCount += Self.checked(host.fill(&free), room)
  }

  /// A host that claims more than it was asked for is our own bug.
  private static func checked(_ count: Int, _ room: Int) -> Int {
    precondition(count >= 0 && count <= room)
    return count
  }

  /// Puts random bytes into the front of one chain; called only while ``canServe(queue:)``.
  @inline(never)
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    let written = write(to: segments, in: region)
    if written == 0 {
      counters.malformed &+= 1
    } else {
      counters.requests &+= 1
      counters.bytes &+= UInt64(written)
      if written < segments.writableByteCount { counters.shortAnswers &+= 1 }
    }
    queue.complete(chain, written: UInt32(truncatingIfNeeded: written))
    restock()
  }

  private mutating func write(to segments: borrowing ChainSegments, in region: SharedRegion) -> Int
  {
    var writer = ChainWriter(segments, in: region)
    let wanted = min(segments.writableByteCount, Self.largestAnswer)
    // The stock first, from its end: what is given out is wiped.
    let first = min(wanted, stockCount)
    var done = writer.write(stock.span.extracting(stockCount - first..<stockCount))
    for index in stockCount - first..<stockCount { stock[index] = 0 }
    stockCount -= first
    var bytes = InlineArray<256, UInt8>(repeating: 0)
    while done < wanted {
      let room = min(bytes.count, wanted - done)
      var span = bytes.mutableSpan
      var free = span._mutatingExtracting(0..<room)
      let got = Self.checked(host.fill(&free), room)
      guard got > 0 else { break }
      done += writer.write(bytes.span.extracting(0..<got))
    }
    return done
  }
}
