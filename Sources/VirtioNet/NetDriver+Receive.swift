import SharedMemory
import VirtioDevice
public import Virtqueue

// Frames of the device (VIRTIO 1.4, 5.1.9.4).
extension NetDriver {
  /// Copies the next frame of a pair into the front of `frame`; returns its length, 0 when none is
  /// whole. Frames with a wrong header, or for which there is no room, are dropped and counted.
  ///
  /// - Parameters:
  ///   - frame: ``NetFormat/frameLimit`` bytes hold every frame.
  ///   - offload: what the device left undone, checked against the frame.
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func receive(
    into frame: inout MutableSpan<UInt8>, _ offload: inout FrameOffload, pair: Int = 0
  ) throws(QueueError) -> Int {
    let place = NetQueue.receive(pair: pair)
    guard isAttached(place) else { return 0 }
    // Bounded: each buffer is taken at most once.
    for _ in 0..<layout.receiveDepth {
      guard let used = try queues[place.index(pairs: layout.pairs)].takeUsed() else { return 0 }
      guard add(Int(used.token), Int(used.written), pair) else { continue }
      let length = assemble(into: &frame, &offload, pair)
      release(pair)
      if length > 0 { return length }
    }
    return 0
  }

  /// Notes a buffer; whether a frame is whole now.
  private mutating func add(_ token: Int, _ count: Int, _ pair: Int) -> Bool {
    var state = pairs[pair]
    let isFirst = state.partCount == 0
    guard count >= (isFirst ? NetFormat.headerSize : 1) else {
      // What was begun cannot be finished by a buffer without a byte.
      if count == 0 { counters.empty &+= 1 } else { counters.badFrames &+= 1 }
      if !isFirst { counters.badFrames &+= 1 }
      offer(token, pair)
      release(pair)
      return false
    }
    parts[pair * layout.receiveDepth + state.partCount] = NetDriverPart(token: token, count: count)
    state.partCount += 1
    if isFirst { state.partsWanted = partsWanted(token, pair) }
    pairs[pair] = state
    guard state.partsWanted > 0, state.partsWanted <= layout.receiveDepth else {
      counters.badFrames &+= 1
      release(pair)
      return false
    }
    return state.partCount == state.partsWanted
  }

  /// Buffers of the frame that starts in `token`, as the device says.
  private func partsWanted(_ token: Int, _ pair: Int) -> Int {
    guard features.contains(.netMergeable) else { return 1 }
    var bytes = InlineArray<2, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let start = receiveBuffer(token, pair).offset + 10
    region.copy(region.readRange(start..<start + 2), into: &span)
    return Int(bytes[0]) | Int(bytes[1]) << 8
  }

  /// Gives the buffers of the frame back to the device.
  @inline(never)
  private mutating func release(_ pair: Int) {
    for index in 0..<pairs[pair].partCount {
      offer(parts[pair * layout.receiveDepth + index].token, pair)
    }
    pairs[pair].partCount = 0
  }

  private func readHeader(_ start: Int) -> NetHeader {
    var bytes = InlineArray<12, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    region.copy(region.readRange(start..<start + NetFormat.headerSize), into: &span)
    return NetHeader(bytes.span)
  }

  private mutating func assemble(
    into frame: inout MutableSpan<UInt8>, _ offload: inout FrameOffload, _ pair: Int
  ) -> Int {
    var length = -NetFormat.headerSize
    for index in 0..<pairs[pair].partCount {
      length += parts[pair * layout.receiveDepth + index].count
    }
    guard length <= frame.count else {
      counters.tooLong &+= 1
      return 0
    }
    let first = receiveBuffer(parts[pair * layout.receiveDepth].token, pair).offset
    var header = readHeader(first)
    var done = 0
    for index in 0..<pairs[pair].partCount {
      let part = parts[pair * layout.receiveDepth + index]
      let skip = index == 0 ? NetFormat.headerSize : 0
      let start = receiveBuffer(part.token, pair).offset
      var rest = frame._mutatingExtracting(done..<done + part.count - skip)
      region.copy(region.readRange(start + skip..<start + part.count), into: &rest)
      done += part.count - skip
    }
    // A checksum the device has looked at is no reason to believe it, and devices say so even to
    // drivers that did not ask (passt does).
    header.flags &= ~NetHeader.dataValid
    do throws(FrameFault) {
      offload = try header.checked(
        frame.span.extracting(0..<length), rights: rights, mtu: NetFormat.mtuRange.upperBound)
    } catch {
      counters.badFrames &+= 1
      return 0
    }
    counters.framesReceived &+= 1
    return length
  }

  private var rights: OffloadRights {
    var rights = OffloadRights()
    rights.checksum = guestOffloads.contains(.netGuestChecksum)
    rights.tcp4 = guestOffloads.contains(.netGuestTCP4)
    rights.tcp6 = guestOffloads.contains(.netGuestTCP6)
    rights.congestion = guestOffloads.contains(.netGuestECN)
    return rights
  }
}
