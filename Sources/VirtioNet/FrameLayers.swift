/// Where the headers of an IP packet with TCP or UDP lie in a frame: measured, every length
/// compared with the frame.
public struct FrameLayers: Equatable, Sendable {
  /// Whether it is IPv6; otherwise it is IPv4.
  public let isIPv6: Bool
  /// Whether it is TCP; otherwise it is UDP.
  public let isTCP: Bool
  /// Where the IP header starts, in bytes from the start of the frame.
  public let networkStart: Int
  /// Where the TCP or UDP header starts.
  public let transportStart: Int
  /// Where the bytes behind it start; at most the length of the frame.
  public let payloadStart: Int

  /// Extension headers of IPv6 that are skipped at most.
  private static var extensionLimit: Int { 4 }

  /// Measures a frame; `nil` for anything but a whole TCP or UDP header in an unfragmented IP
  /// packet, with at most one VLAN tag.
  public init?(_ frame: Span<UInt8>) {
    guard frame.count >= NetFormat.etherSize + 20 else { return nil }
    var type = frame.word(at: 12)
    var start = NetFormat.etherSize
    if type == 0x8100 {
      type = frame.word(at: 16)
      start += NetFormat.tagSize
    }
    networkStart = start
    var next: UInt8
    switch type {
    case 0x0800:
      guard frame.count >= start + 20, frame[start] >> 4 == 4 else { return nil }
      let length = Int(frame[start] & 15) * 4
      // More fragments follow, or this is not the first one.
      guard length >= 20, frame.word(at: start + 6) & 0x3fff == 0 else { return nil }
      next = frame[start + 9]
      isIPv6 = false
      start += length
    case 0x86dd:
      guard frame.count >= start + 40, frame[start] >> 4 == 6 else { return nil }
      next = frame[start + 6]
      isIPv6 = true
      start += 40
      for _ in 0..<Self.extensionLimit {
        guard next == 0 || next == 43 || next == 60 else { break }
        guard start + 8 <= frame.count else { return nil }
        next = frame[start]
        start += 8 + 8 * Int(frame[start + 1])
      }
    default: return nil
    }
    transportStart = start
    switch next {
    case 6:
      guard start + 20 <= frame.count else { return nil }
      let length = Int(frame[start + 12] >> 4) * 4
      guard length >= 20, start + length <= frame.count else { return nil }
      isTCP = true
      payloadStart = start + length
    case 17:
      guard start + 8 <= frame.count else { return nil }
      isTCP = false
      payloadStart = start + 8
    default: return nil
    }
  }

  /// A number that is the same for both directions of one flow.
  public func flow(_ frame: Span<UInt8>) -> UInt32 {
    let width = isIPv6 ? 16 : 4
    let source = networkStart + (isIPv6 ? 8 : 12)
    var hash: UInt32 = isTCP ? 6 : 17
    for index in 0..<width {
      hash = hash &* 31 &+ UInt32(frame[source + index] ^ frame[source + width + index])
    }
    let ports = frame.word(at: transportStart) ^ frame.word(at: transportStart + 2)
    hash = hash &* 31 &+ UInt32(ports)
    return hash ^ hash >> 16
  }
}

extension Span<UInt8> {
  /// The two bytes at `start`, most significant first.
  func word(at start: Int) -> UInt16 { UInt16(self[start]) << 8 | UInt16(self[start + 1]) }

  /// The ones' complement sum of the bytes at `range`, added to `sum`, in 16 bits (RFC 1071).
  func internetSum(_ range: Range<Int>, _ sum: UInt16 = 0) -> UInt16 {
    var total = UInt64(sum)
    var index = range.lowerBound
    while index + 1 < range.upperBound {
      total &+= UInt64(word(at: index))
      index += 2
    }
    if index < range.upperBound { total &+= UInt64(self[index]) << 8 }
    while total > 0xffff { total = total & 0xffff &+ total >> 16 }
    return UInt16(truncatingIfNeeded: total)
  }
}

extension MutableSpan<UInt8> {
  /// Stores two bytes at `start`, most significant first.
  mutating func store(_ word: UInt16, at start: Int) {
    self[start] = UInt8(word >> 8)
    self[start + 1] = UInt8(word & 255)
  }
}

extension FrameOffload {
  /// Finishes the checksum of a frame that is not to be cut: its two bytes hold the sum of the
  /// pseudo header already (VIRTIO 1.4, 5.1.9.2). The offload was checked against this frame.
  public func finishChecksum(_ frame: inout MutableSpan<UInt8>) {
    guard needsChecksum else { return }
    let start = Int(checksumStart)
    let sum = ~frame.span.internetSum(start..<frame.count)
    // Zero stands for "none" in UDP, and its other form is as good in TCP.
    frame.store(sum == 0 ? 0xffff : sum, at: start + Int(checksumOffset))
  }
}

/// The cut of one frame into segments, which are made one after the other.
public struct FrameCut: Equatable, Sendable, BitwiseCopyable {
  private let networkStart: Int
  private let transportStart: Int
  private let payloadStart: Int
  private let isIPv6: Bool
  private let segmentSize: Int
  private let frameCount: Int
  /// Segments there are.
  public let segmentCount: Int

  /// Measures a frame whose offload was checked and asks for segments; `nil` otherwise.
  public init?(_ frame: Span<UInt8>, _ offload: FrameOffload) {
    guard offload.segmentation != .none, offload.segmentSize > 0, let layers = FrameLayers(frame),
      layers.isTCP, layers.payloadStart < frame.count
    else { return nil }
    networkStart = layers.networkStart
    transportStart = layers.transportStart
    payloadStart = layers.payloadStart
    isIPv6 = layers.isIPv6
    segmentSize = Int(offload.segmentSize)
    frameCount = frame.count
    segmentCount = (frame.count - layers.payloadStart + segmentSize - 1) / segmentSize
  }

  /// Bytes of the largest segment.
  public var largestSegment: Int { payloadStart + min(segmentSize, frameCount - payloadStart) }

  /// Makes segment `index`, below ``segmentCount``, of `frame` in the front of `result`, which has
  /// room for ``largestSegment``; returns its length. Nothing is left undone in it.
  public func make(_ index: Int, of frame: Span<UInt8>, into result: inout MutableSpan<UInt8>)
    -> Int
  {
    let from = payloadStart + index * segmentSize
    let count = min(segmentSize, frameCount - from)
    let length = payloadStart + count
    let isLast = index == segmentCount - 1
    for offset in 0..<payloadStart { result[offset] = frame[offset] }
    for offset in 0..<count { result[payloadStart + offset] = frame[from + offset] }
    // TCP: the sequence number moves; PSH and FIN are the last segment's, CWR is the first's.
    let start = transportStart
    var sequence = UInt32(frame.word(at: start + 4)) << 16 | UInt32(frame.word(at: start + 6))
    sequence &+= UInt32(truncatingIfNeeded: index * segmentSize)
    result.store(UInt16(sequence >> 16), at: start + 4)
    result.store(UInt16(sequence & 0xffff), at: start + 6)
    if !isLast { result[start + 13] &= ~0x09 }
    if index > 0 { result[start + 13] &= ~0x80 }
    let addresses: Range<Int>
    if isIPv6 {
      result.store(UInt16(truncatingIfNeeded: length - networkStart - 40), at: networkStart + 4)
      addresses = networkStart + 8..<networkStart + 40
    } else {
      result.store(UInt16(truncatingIfNeeded: length - networkStart), at: networkStart + 2)
      let identity = frame.word(at: networkStart + 4) &+ UInt16(truncatingIfNeeded: index)
      result.store(identity, at: networkStart + 4)
      result.store(0, at: networkStart + 10)
      let sum = result.span.internetSum(networkStart..<transportStart)
      result.store(~sum, at: networkStart + 10)
      addresses = networkStart + 12..<networkStart + 20
    }
    result.store(0, at: start + 16)
    // The pseudo header: addresses, protocol, length of the TCP packet.
    var sum = result.span.internetSum(addresses)
    let tail = UInt32(sum) &+ 6 &+ UInt32(length - start)
    sum = UInt16(truncatingIfNeeded: tail & 0xffff &+ tail >> 16)
    sum = result.span.internetSum(start..<length, sum)
    result.store(~sum, at: start + 16)
    return length
  }
}
