import SharedMemory
import VirtioDevice
import Virtqueue

/// How far the frame for the driver is.
struct NetDelivery: BitwiseCopyable {
  /// Bytes of the frame that goes into buffers now, 0 for none; a segment when `cut` is there.
  var count = 0
  /// Bytes of the frame as it was read.
  var frameCount = 0
  var offload = FrameOffload()
  var pair = 0
  var cut: FrameCut?
  var segment = 0
  /// Bytes of the frame, without the header, that are in buffers.
  var position = 0
  /// Buffers that hold them and were not given back.
  var heldCount = 0
  /// Where the number of buffers is, in the first one.
  var markLow = WritableRange.empty
  var markHigh = WritableRange.empty
  /// Buffers of a stopped queue, to be given back empty.
  var endingCount = 0
  var endingQueue = 0

  /// The frame starts again, with other buffers.
  mutating func restart() {
    position = 0
    heldCount = 0
  }
}

// From the host to the driver (VIRTIO 1.4, 5.1.9.3 and 5.1.9.4).
extension NetDevice where Host: ~Copyable {
  /// Reads the next frame that the driver wants, when none waits. Bounded.
  mutating func prepareDelivery() {
    guard delivery.count == 0, isStarted else { return }
    if let cut = delivery.cut, delivery.segment + 1 < cut.segmentCount {
      delivery.segment += 1
      makeSegment(cut)
      return
    }
    delivery.cut = nil
    for _ in 0..<Self.lookLimit {
      var offload = FrameOffload()
      let count = incoming.withMutableSpan(0..<incoming.count) { host.receive(into: &$0, &offload) }
      precondition(count >= 0 && count <= incoming.count, "a host reads no more than it may")
      guard count > 0 else { return }
      precondition(count >= NetFormat.etherSize, "a host drops what is no frame")
      if adopt(count, offload) { return }
    }
    isLookDue = true
    host.requestLook()
  }

  /// Prepares one frame; whether the driver wants it.
  mutating func adopt(_ count: Int, _ offload: FrameOffload) -> Bool {
    let destination = incoming.withSpan(0..<6) { MACAddress($0, at: 0) }
    guard !features.contains(.netControlReceive) || filter.takes(destination, own: address) else {
      counters.filtered &+= 1
      return false
    }
    delivery.frameCount = count
    delivery.offload = offload
    delivery.pair = 0
    delivery.segment = 0
    delivery.restart()
    if activePairs > 1 {
      let flow = incoming.withSpan(0..<count) { FrameLayers($0)?.flow($0) }
      if let flow {
        let pair = Int(steering[Int(flow % UInt32(steering.count))])
        delivery.pair = pair < activePairs ? pair : 0
      }
    }
    // Others may have agreed on larger packets than this driver (VIRTIO 1.4, 5.1.4.1).
    let limit = host.mtu + NetFormat.etherSize + NetFormat.tagSize
    if takesWhole(offload) {
      guard offload.segmentation != .none || count <= limit else {
        counters.beyondMTU &+= 1
        return false
      }
      delivery.count = count
    } else if let cut = incoming.withSpan(0..<count, { FrameCut($0, offload) }) {
      guard cut.largestSegment <= limit else {
        counters.beyondMTU &+= 1
        return false
      }
      delivery.cut = cut
      makeSegment(cut)
    } else {
      // The host's offload does not fit its frame after all: our own bug, but not worth a trap.
      delivery.offload = FrameOffload()
      delivery.count = count
    }
    if delivery.cut == nil, delivery.offload.needsChecksum, !offloads.contains(.netGuestChecksum) {
      let offload = delivery.offload
      incoming.withMutableSpan(0..<count) { offload.finishChecksum(&$0) }
      delivery.offload = FrameOffload()
      counters.checksumsFinished &+= 1
    }
    return true
  }

  /// Whether the driver takes a frame without a cut.
  private func takesWhole(_ offload: FrameOffload) -> Bool {
    if offload.hasECN, !offloads.contains(.netGuestECN) { return false }
    return switch offload.segmentation {
    case .none: true
    case .tcp4: offloads.contains(.netGuestTCP4)
    case .tcp6: offloads.contains(.netGuestTCP6)
    }
  }

  private mutating func makeSegment(_ cut: FrameCut) {
    let index = delivery.segment
    let incoming = incoming
    let count = delivery.frameCount
    delivery.count = segment.withMutableSpan(0..<cut.largestSegment) { result in
      incoming.withSpan(0..<count) { cut.make(index, of: $0, into: &result) }
    }
    delivery.offload = FrameOffload()
    delivery.restart()
    counters.segmentsCut &+= 1
  }

  /// Puts as much of the frame into one chain as it holds.
  mutating func deliver(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) {
    let room = segments.writableByteCount
    let isFirst = delivery.heldCount == 0
    guard room >= (isFirst ? NetFormat.headerSize : 1) else {
      counters.shortBuffers &+= 1
      queue.complete(chain, written: 0)
      return
    }
    let rest = delivery.count - delivery.position
    let isEnough = room >= rest + (isFirst ? NetFormat.headerSize : 0)
    guard isEnough || features.contains(.netMergeable) else {
      queue.complete(chain, written: 0)
      dropDelivery(on: &queue)
      return
    }
    let count = write(segments, isFirst: isFirst, in: region)
    guard isEnough else {
      tickets[delivery.heldCount] = chain.detach()
      written[delivery.heldCount] = count
      delivery.heldCount += 1
      // The ring has no more buffers than these, or this many are too few: it cannot end well.
      if delivery.heldCount == tickets.count || queue.inFlightCount >= queue.capacity {
        dropDelivery(on: &queue)
      }
      return
    }
    giveBackHeld(on: &queue, in: region)
    queue.complete(chain, written: count)
    counters.framesToDriver &+= 1
    counters.bytesToDriver &+= UInt64(delivery.count)
    delivery.count = 0
    delivery.restart()
  }

  /// Writes a header, for the first chain of a frame, and bytes; returns how many.
  private mutating func write(
    _ segments: borrowing ChainSegments, isFirst: Bool, in region: SharedRegion
  ) -> UInt32 {
    var writer = ChainWriter(segments, in: region)
    var done = 0
    if isFirst {
      let header = NetHeader(delivery.offload, bufferCount: 1)
      var bytes = InlineArray<12, UInt8>(repeating: 0)
      for index in 0..<bytes.count { bytes[index] = header.byte(at: index) }
      done += writer.write(bytes.span)
      delivery.markLow = segments.writableByte(at: 10) ?? .empty
      delivery.markHigh = segments.writableByte(at: 11) ?? .empty
    }
    let source = delivery.cut == nil ? incoming : segment
    let take = min(writer.remaining, delivery.count - delivery.position)
    // A closure cannot change the writer, which lives no longer than the chain: a piece at a time.
    while let piece = writer.next(atMost: take - (done - (isFirst ? NetFormat.headerSize : 0))) {
      let from = delivery.position
      source.withSpan(from..<from + piece.count) { _ = region.copy($0, into: piece) }
      delivery.position += piece.count
      done += piece.count
    }
    return UInt32(truncatingIfNeeded: done)
  }

  /// The frame is whole: says how many buffers it took, in the first one, and gives them back in
  /// their order.
  private mutating func giveBackHeld(on queue: inout DeviceQueue, in region: SharedRegion) {
    guard delivery.heldCount > 0 else { return }
    let buffers = UInt16(truncatingIfNeeded: delivery.heldCount + 1)
    region.fill(delivery.markLow, with: UInt8(buffers & 255))
    region.fill(delivery.markHigh, with: UInt8(buffers >> 8))
    for index in 0..<delivery.heldCount {
      queue.complete(tickets[index], written: written[index])
    }
  }

  private mutating func dropDelivery(on queue: inout DeviceQueue) {
    for index in 0..<delivery.heldCount { queue.complete(tickets[index], written: 0) }
    counters.noRoom &+= 1
    delivery.count = 0
    delivery.cut = nil
    delivery.restart()
  }
}
