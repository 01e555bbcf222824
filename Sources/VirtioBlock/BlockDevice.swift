public import SharedMemory
public import VirtioDevice
public import Virtqueue

/// What is counted about a block device; never reset.
public struct BlockCounters: Equatable, Sendable {
  /// Requests that read.
  public var reads: UInt64 = 0
  /// Requests that wrote.
  public var writes: UInt64 = 0
  /// Flushes.
  public var flushes: UInt64 = 0
  /// Discards and write-zeroes requests.
  public var discards: UInt64 = 0
  /// Bytes read from the medium.
  public var bytesRead: UInt64 = 0
  /// Bytes written to the medium.
  public var bytesWritten: UInt64 = 0
  /// Requests that ended with an I/O error.
  public var ioErrors: UInt64 = 0
  /// Requests of an unknown type or with unknown flags.
  public var unsupported: UInt64 = 0
  /// Chains without room for header or status.
  public var malformed: UInt64 = 0

  /// All zero.
  public init() {}
}

/// The block device, device side (VIRTIO 1.4, 5.2).
///
/// A chain becomes one request to the host; what the host cannot finish at once completes later,
/// in any order. Header and data may be laid out over descriptors in any way.
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
  public private(set) var counters = BlockCounters()
  private let pending: PrivateTable<Pending>
  private let freeSlots: PrivateTable<UInt16>
  private var freeCount: Int
  private var configuration: BlockConfiguration
  private var features = FeatureSet()
  private var region: SharedRegion?
  private var hasChanged = false
  /// Number of queues.
  public let queueCount: Int
  /// The largest size of every queue.
  public let maximumQueueSize: QueueSize

  /// Data segments a request may have; header and status come on top.
  public static var segmentLimit: Int { 126 }
  /// Most sectors of one discard or write-zeroes segment: bounded work for the host.
  public static var discardSectorLimit: UInt32 { 1 << 21 }

  /// Makes a device over `host`; `nil` when `arena` cannot hold `slots` requests (1 ... 65535).
  public init?(
    host: consuming Host, queueCount: Int = 1, maximumQueueSize: QueueSize, slots: Int = 256,
    arena: inout PrivateArena
  ) {
    precondition(slots > 0 && slots <= 65535)
    guard let pending = arena.table(of: slots, initial: Pending()),
      let freeSlots = arena.table(of: slots, initial: UInt16(0))
    else { return nil }
    for slot in 0..<slots { freeSlots[slot] = UInt16(slot) }
    var configuration = BlockConfiguration()
    configuration.capacity = host.byteCount / UInt64(BlockFormat.sectorSize)
    configuration.sizeMax = 1 << 30
    configuration.segmentMax = UInt32(Self.segmentLimit)
    configuration.blockSize = host.blockSize
    configuration.queueCount = UInt16(queueCount)
    if host.canDiscard, !host.isReadOnly {
      configuration.maximumDiscardSectors = Self.discardSectorLimit
      configuration.maximumDiscardSegments = 1
      configuration.maximumWriteZeroesSectors = Self.discardSectorLimit
      configuration.maximumWriteZeroesSegments = 1
    }
    self.configuration = configuration
    self.pending = pending
    self.freeSlots = freeSlots
    freeCount = slots
    self.queueCount = queueCount
    self.maximumQueueSize = maximumQueueSize
    self.host = host
  }

  // MARK: DeviceModel

  /// 2.
  public var deviceID: UInt32 { BlockFormat.deviceID }
  /// Data segments, header and status.
  public var maximumChainLength: Int { Self.segmentLimit + 2 }
  /// The whole of VIRTIO 1.4, 5.2.4.
  public var configurationSize: Int { BlockConfiguration.size }

  /// What this medium can do.
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

  /// One byte of VIRTIO 1.4, 5.2.4.
  public func configurationByte(at offset: Int) -> UInt8 { configuration.byte(at: offset) }

  /// The driver may write `writeback` alone, if it agreed to.
  public mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    guard features.contains(.blockConfigWriteback), width == 1, value <= 1,
      offset == BlockConfiguration.Field.writeback.rawValue
    else { return false }
    configuration.isWriteback = value == 1
    hasChanged = true
    return true
  }

  /// Runs with `features`.
  public mutating func start(features: FeatureSet) {
    self.features = features
    // Without FLUSH the driver cannot ask for stability, so every write is stable
    // (VIRTIO 1.4, 5.2.5.1); without CONFIG_WCE write-back follows FLUSH.
    if !features.contains(.blockConfigWriteback) {
      configuration.isWriteback = features.contains(.blockFlush)
    }
  }

  /// Whether a slot is free.
  public func canServe(queue: Int) -> Bool { freeCount > 0 }

  /// Requests the host has.
  public var inFlightCount: Int { pending.count - freeCount }

  /// Forgets what was negotiated.
  public mutating func stop() {
    features = FeatureSet()
    configuration.isWriteback = true
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

  /// Serves one chain.
  public mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    self.region = region
    // The status is the last writable byte, wherever the descriptors end (5.2.6).
    guard segments.readableByteCount >= BlockFormat.headerSize,
      let status = segments.writableByte(at: segments.writableByteCount - 1)
    else {
      counters.malformed &+= 1
      queue.complete(chain, written: 0)
      return
    }
    var header = InlineArray<16, UInt8>(repeating: 0)
    var bytes = header.mutableSpan
    _ = segments.copyReadable(from: 0, into: &bytes, in: region)
    let type = Self.word(header, 0, 4)
    let sector = Self.word(header, 8, 8)
    let slot = Int(freeSlots[freeCount - 1])
    let (submission, written) = submit(
      UInt32(truncatingIfNeeded: type), sector, segments, slot, region)
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
    count(finished.status)
    region.store8(finished.status.rawValue, at: request.status.offset)
    return DeviceCompletion(
      queue: request.queue, ticket: request.ticket,
      written: finished.status == .ok ? request.written + 1 : 1)
  }

  // MARK: Requests

  private mutating func count(_ status: BlockStatus) {
    switch status {
    case .ok: break
    case .ioError: counters.ioErrors &+= 1
    case .unsupported: counters.unsupported &+= 1
    }
  }

  static func word(_ bytes: InlineArray<16, UInt8>, _ start: Int, _ width: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<width).reversed() { value = value << 8 | UInt64(bytes[start + index]) }
    return value
  }

  /// Whether `count` bytes at `sector` are whole sectors inside the medium.
  private func position(_ sector: UInt64, _ count: UInt64) -> UInt64? {
    let size = UInt64(BlockFormat.sectorSize)
    guard count % size == 0, sector <= configuration.capacity,
      count / size <= configuration.capacity - sector
    else { return nil }
    return sector * size
  }

  private mutating func submit(
    _ raw: UInt32, _ sector: UInt64, _ segments: borrowing ChainSegments, _ slot: Int,
    _ region: SharedRegion
  ) -> (BlockSubmission, written: UInt32) {
    guard let type = BlockRequestType(rawValue: raw) else { return (.done(.unsupported), 0) }
    switch type {
    case .read:
      let count = UInt64(segments.writableByteCount - 1)
      guard let position = position(sector, count), count > 0 else { return (.done(.ioError), 0) }
      counters.reads &+= 1
      counters.bytesRead &+= count
      let request = BlockRequest(type: .read, position: position, count: count)
      return (
        host.submit(request, slot: slot, data: segments, skip: 0, in: region),
        UInt32(truncatingIfNeeded: count)
      )
    case .write:
      let count = UInt64(segments.readableByteCount - BlockFormat.headerSize)
      guard !host.isReadOnly, let position = position(sector, count), count > 0 else {
        return (.done(.ioError), 0)
      }
      counters.writes &+= 1
      counters.bytesWritten &+= count
      let request = BlockRequest(
        type: .write, position: position, count: count, isStable: !configuration.isWriteback)
      return (
        host.submit(
          request, slot: slot, data: segments, skip: BlockFormat.headerSize, in: region), 0
      )
    case .flush:
      guard features.contains(.blockFlush) else { return (.done(.unsupported), 0) }
      counters.flushes &+= 1
      let request = BlockRequest(type: .flush, position: 0, count: 0)
      return (host.submit(request, slot: slot, data: segments, skip: 0, in: region), 0)
    case .getID: return (.done(.ok), giveID(segments, region))
    case .discard, .writeZeroes: return (submitRange(type, segments, slot, region), 0)
    }
  }

  private func giveID(_ segments: borrowing ChainSegments, _ region: SharedRegion) -> UInt32 {
    var name = InlineArray<20, UInt8>(repeating: 0)
    for index in name.indices { name[index] = host.identifierByte(at: index) }
    let room = min(BlockFormat.identifierSize, segments.writableByteCount - 1)
    let bytes = name.span.extracting(0..<room)
    return UInt32(truncatingIfNeeded: segments.copyWritable(from: bytes, at: 0, in: region))
  }

  /// Discard and write zeroes carry their range as data (VIRTIO 1.4, 5.2.6.2).
  private mutating func submitRange(
    _ type: BlockRequestType, _ segments: borrowing ChainSegments, _ slot: Int,
    _ region: SharedRegion
  ) -> BlockSubmission {
    let feature: FeatureSet = type == .discard ? .blockDiscard : .blockWriteZeroes
    guard features.contains(feature) else { return .done(.unsupported) }
    guard !host.isReadOnly,
      segments.readableByteCount == BlockFormat.headerSize + BlockFormat.rangeSize
    else { return .done(.ioError) }
    var range = InlineArray<16, UInt8>(repeating: 0)
    var bytes = range.mutableSpan
    _ = segments.copyReadable(from: BlockFormat.headerSize, into: &bytes, in: region)
    let sector = Self.word(range, 0, 8)
    let sectors = Self.word(range, 8, 4)
    let flags = Self.word(range, 12, 4)
    // Only write zeroes knows a flag, unmap (5.2.6.2): everything else is unsupported.
    guard flags & ~1 == 0, type == .writeZeroes || flags == 0 else {
      return .done(.unsupported)
    }
    let count = sectors * UInt64(BlockFormat.sectorSize)
    guard sectors > 0, sectors <= UInt64(Self.discardSectorLimit),
      let position = position(sector, count)
    else { return .done(.ioError) }
    counters.discards &+= 1
    let request = BlockRequest(
      type: type, position: position, count: count, mayUnmap: flags & 1 != 0,
      isStable: !configuration.isWriteback)
    return host.submit(request, slot: slot, data: segments, skip: 0, in: region)
  }
}
