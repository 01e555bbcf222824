public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// The block device, device side (VIRTIO 1.4, 5.2).
///
/// A chain becomes one request to the host; what the host cannot finish at once completes later,
/// in any order. Header, data and status may be laid out over descriptors in any way (2.7.4). The
/// driver is not trusted: header and ranges are copied once and decided upon in private memory.
public struct BlockDevice<Host: BlockHost & ~Copyable>: DeviceModel, ~Copyable {
  /// A request that the host has not finished.
  struct Pending: BitwiseCopyable {
    var ticket = ChainTicket.none
    var queue = 0
    var status = WritableRange.empty
    var written: UInt32 = 0
  }

  /// The medium.
  public var host: Host
  /// What was counted.
  public internal(set) var counters = BlockCounters()
  private let pending: PrivateTable<Pending>
  private let freeSlots: PrivateTable<UInt16>
  private var freeCount: Int
  var configuration = BlockConfiguration()
  var features = FeatureSet()
  private var isStarted = false
  private var wasWritebackChosen = false
  private var region: SharedRegion?
  private var hasChanged = false
  /// Number of queues.
  public let queueCount: Int
  /// The largest size of every queue.
  public let maximumQueueSize: QueueSize

  /// Data segments a request may have; header and status come on top.
  public static var segmentLimit: Int { 126 }

  /// Makes a device over `host`; `nil` when `arena` cannot hold `slots` requests (1 ... 65535).
  @inline(never)
  public init?(
    host: consuming Host, queueCount: Int = 1, maximumQueueSize: QueueSize, slots: Int = 256,
    arena: inout PrivateArena
  ) {
    precondition(slots > 0 && slots <= 65535)
    guard let pending = arena.table(of: slots, initial: Pending()),
      let freeSlots = arena.table(of: slots, initial: UInt16(0))
    else { return nil }
    for slot in 0..<slots { freeSlots[slot] = UInt16(slot) }
    self.pending = pending
    self.freeSlots = freeSlots
    freeCount = slots
    self.queueCount = queueCount
    self.maximumQueueSize = maximumQueueSize
    self.host = host
    describeHost()
  }

  private mutating func describeHost() {
    let limits = host.limits
    configuration.capacity = host.byteCount / UInt64(BlockFormat.sectorSize)
    configuration.sizeMax = 1 << 30
    configuration.segmentMax = UInt32(Self.segmentLimit)
    configuration.blockSize = host.blockSize
    configuration.physicalBlockExponent = limits.physicalBlockExponent
    configuration.alignmentOffset = limits.alignmentOffset
    configuration.minimumIOSize = limits.minimumIOSize
    configuration.optimalIOSize = limits.optimalIOSize
    configuration.queueCount = UInt16(queueCount)
    guard host.canDiscard, !host.isReadOnly else { return }
    configuration.maximumDiscardSectors = limits.maximumDiscardSectors
    configuration.maximumDiscardSegments = 1
    configuration.discardSectorAlignment = limits.discardSectorAlignment
    configuration.maximumWriteZeroesSectors = limits.maximumWriteZeroesSectors
    configuration.maximumWriteZeroesSegments = 1
    configuration.writeZeroesMayUnmap = limits.writeZeroesMayUnmap
  }

  // MARK: DeviceModel

  /// 2.
  public var deviceID: UInt32 { BlockFormat.deviceID }
  /// Data segments, header and status.
  public var maximumChainLength: Int { Self.segmentLimit + 2 }
  /// The whole of VIRTIO 1.4, 5.2.4.
  public var configurationSize: Int { BlockConfiguration.size }

  /// What this medium can do (VIRTIO 1.4, 5.2.3).
  public var offeredFeatures: FeatureSet {
    var offered = FeatureSet.blockSizeMax.union(.blockSegmentMax).union(.blockBlockSize)
      .union(.blockFlush).union(.blockTopology).union(.blockConfigWriteback)
    if queueCount > 1 { offered.insert(.blockMultiQueue) }
    if host.isReadOnly {
      offered.insert(.blockReadOnly)
    } else if host.canDiscard {
      offered.insert(.blockDiscard | .blockWriteZeroes)
    }
    return offered
  }

  /// A request takes an eighth of the pool at most, in segments of at most 64 KiB: smaller limits
  /// would cost round trips, larger ones starve the queue.
  public mutating func adapt(toPool byteCount: Int) {
    let limit = max(4096, byteCount / 8 & ~4095)
    let segments = min(max(1, limit >> 16), Self.segmentLimit)
    configuration.segmentMax = UInt32(segments)
    configuration.sizeMax = UInt32(segments > 1 ? 1 << 16 : min(limit, 1 << 30))
  }

  /// One byte of VIRTIO 1.4, 5.2.4.
  public func configurationByte(at offset: Int) -> UInt8 { configuration.byte(at: offset) }

  /// The driver may write `writeback` alone, if it agreed to (VIRTIO 1.4, 5.2.5.1). What it
  /// writes before DRIVER_OK counts once the feature turns out to be agreed.
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    guard !isStarted || features.contains(.blockConfigWriteback), width == 1, value <= 1,
      offset == BlockConfiguration.Field.writeback.rawValue
    else { return false }
    wasWritebackChosen = true
    setWriteback(value == 1)
    return true
  }

  private mutating func setWriteback(_ isWriteback: Bool) {
    if configuration.isWriteback != isWriteback { hasChanged = true }
    configuration.isWriteback = isWriteback
  }

  /// Runs with `features`.
  public mutating func start(features: FeatureSet) {
    self.features = features
    isStarted = true
    // The cache is write-back exactly when FLUSH was agreed, unless the driver has chosen; without
    // FLUSH it starts as write-through even then (VIRTIO 1.4, 5.2.5.2).
    if !features.contains(.blockConfigWriteback) || !wasWritebackChosen {
      setWriteback(features.contains(.blockFlush))
    }
  }

  /// Whether a write has to be stable before it is done: in write-through mode, and when the
  /// driver has no FLUSH to ask for it (VIRTIO 1.4, 5.2.6.2).
  var writesAreStable: Bool {
    !configuration.isWriteback || !features.contains(.blockFlush)
  }

  /// Whether a slot is free.
  public func canServe(queue: Int) -> Bool { freeCount > 0 }

  /// Requests the host has.
  public var inFlightCount: Int { pending.count - freeCount }

  /// Forgets what was negotiated and cuts short what has not begun.
  public mutating func stop() {
    features = FeatureSet()
    isStarted = false
    wasWritebackChosen = false
    setWriteback(true)
    if freeCount < pending.count { host.cancel() }
  }

  /// Whether the capacity or the cache mode changed.
  public mutating func takeConfigurationChange() -> Bool {
    let sectors = host.byteCount / UInt64(BlockFormat.sectorSize)
    if sectors != configuration.capacity {
      configuration.capacity = sectors
      hasChanged = true
    }
    defer { hasChanged = false }
    return hasChanged
  }

  /// Serves one chain; called only while ``canServe(queue:)``.
  @inline(never)
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    self.region = region
    // The status is the last writable byte, wherever the descriptors end (5.2.6).
    guard segments.readableByteCount >= BlockFormat.headerSize, segments.writableByteCount > 0,
      let status = segments.writableByte(at: segments.writableByteCount - 1)
    else {
      counters.malformed &+= 1
      queue.complete(chain, written: 0)
      return
    }
    let slot = Int(freeSlots[freeCount - 1])
    let (submission, written) = submit(segments, slot, region)
    switch submission {
    case .done(let result):
      count(result)
      region.store8(result.rawValue, at: status.offset)
      queue.complete(chain, written: result == .ok ? written + 1 : 1)
    case .pending:
      freeCount -= 1
      pending[slot] = Pending(
        ticket: chain.detach(), queue: index, status: status, written: written)
    }
  }

  /// The next request the host has finished: writes its status and frees its slot.
  public mutating func nextCompletion() -> DeviceCompletion? {
    guard freeCount < pending.count, let finished = host.nextCompletion(), let region else {
      return nil
    }
    let request = pending[finished.slot]
    freeSlots[freeCount] = UInt16(truncatingIfNeeded: finished.slot)
    freeCount += 1
    if finished.status == .ioError { counters.hostErrors &+= 1 }
    count(finished.status)
    region.store8(finished.status.rawValue, at: request.status.offset)
    return DeviceCompletion(
      queue: request.queue, ticket: request.ticket,
      written: finished.status == .ok ? request.written + 1 : 1)
  }

  private mutating func count(_ status: BlockStatus) {
    switch status {
    case .ok: break
    case .ioError: counters.ioErrors &+= 1
    case .unsupported: counters.unsupported &+= 1
    }
  }
}
