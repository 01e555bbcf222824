/// How a frame is still to be cut into segments (VIRTIO 1.4, 5.1.9.2, `gso_type`).
public enum NetSegmentation: UInt8, Sendable, BitwiseCopyable {
  /// Not at all.
  case none = 0
  /// TCP over IPv4.
  case tcp4 = 1
  /// TCP over IPv6.
  case tcp6 = 4
}

/// What was left undone in a frame: a checksum, the cut into segments. Checked by whoever made it:
/// ``FrameLayers`` says how.
public struct FrameOffload: Equatable, Sendable, BitwiseCopyable {
  /// Whether the checksum that ends the bytes from ``checksumStart`` on is missing.
  public var needsChecksum = false
  /// Where the summed bytes start, from the start of the frame.
  public var checksumStart: UInt16 = 0
  /// Where the checksum's two bytes are, from ``checksumStart``.
  public var checksumOffset: UInt16 = 0
  /// How the frame is to be cut.
  public var segmentation = NetSegmentation.none
  /// Whether congestion has to be told in the first segment alone (VIRTIO_NET_HDR_GSO_ECN).
  public var hasECN = false
  /// Bytes of TCP payload a segment has at most.
  public var segmentSize: UInt16 = 0
  /// Bytes of all headers of a frame to be cut.
  public var headerLength: UInt16 = 0

  /// Nothing left undone.
  public init() {}
}

/// `struct virtio_net_hdr` (VIRTIO 1.4, 5.1.9), as it stands in a buffer: nothing is checked.
public struct NetHeader: Equatable, Sendable, BitwiseCopyable {
  /// VIRTIO_NET_HDR_F_*.
  public var flags: UInt8 = 0
  /// VIRTIO_NET_HDR_GSO_*.
  public var segmentationType: UInt8 = 0
  /// Bytes of all headers: a hint.
  public var headerLength: UInt16 = 0
  /// Bytes of payload a segment.
  public var segmentSize: UInt16 = 0
  /// Where the checksummed bytes start.
  public var checksumStart: UInt16 = 0
  /// Where the checksum is, from there.
  public var checksumOffset: UInt16 = 0
  /// Buffers of a received frame.
  public var bufferCount: UInt16 = 0

  /// VIRTIO_NET_HDR_F_NEEDS_CSUM.
  public static var needsChecksum: UInt8 { 1 }
  /// VIRTIO_NET_HDR_F_DATA_VALID.
  public static var dataValid: UInt8 { 2 }
  /// VIRTIO_NET_HDR_F_RSC_INFO.
  public static var coalesced: UInt8 { 4 }
  /// VIRTIO_NET_HDR_GSO_ECN.
  public static var congestion: UInt8 { 0x80 }

  /// All zero.
  public init() {}

  /// Reads the first ``NetFormat/headerSize`` of `bytes`.
  public init(_ bytes: Span<UInt8>) {
    func word(_ start: Int) -> UInt16 { UInt16(bytes[start]) | UInt16(bytes[start + 1]) << 8 }
    flags = bytes[0]
    segmentationType = bytes[1]
    headerLength = word(2)
    segmentSize = word(4)
    checksumStart = word(6)
    checksumOffset = word(8)
    bufferCount = word(10)
  }

  /// The header that says `offload`, for one buffer.
  public init(_ offload: FrameOffload, bufferCount: UInt16) {
    self.bufferCount = bufferCount
    if offload.needsChecksum {
      flags = Self.needsChecksum
      checksumStart = offload.checksumStart
      checksumOffset = offload.checksumOffset
    }
    guard offload.segmentation != .none else { return }
    segmentationType = offload.segmentation.rawValue | (offload.hasECN ? Self.congestion : 0)
    headerLength = offload.headerLength
    segmentSize = offload.segmentSize
  }

  /// Byte `index` (0 ..< ``NetFormat/headerSize``) of the header.
  public func byte(at index: Int) -> UInt8 {
    let word: UInt16
    switch index / 2 {
    case 0: return index == 0 ? flags : segmentationType
    case 1: word = headerLength
    case 2: word = segmentSize
    case 3: word = checksumStart
    case 4: word = checksumOffset
    default: word = bufferCount
    }
    return UInt8(truncatingIfNeeded: word >> UInt16(8 * (index & 1)))
  }
}

/// Why a frame is not passed on.
public enum FrameFault: Error, Equatable, Sendable {
  /// Shorter than its headers.
  case undersized
  /// Longer than the MTU allows, or than any frame may be.
  case oversized
  /// The offload header asks for what was not agreed, or does not fit the frame.
  case badHeader
}

/// What the header of a frame may ask for.
public struct OffloadRights: Equatable, Sendable, BitwiseCopyable {
  /// Whether a checksum may be missing.
  public var checksum = false
  /// Whether TCP over IPv4 may be unsegmented.
  public var tcp4 = false
  /// Whether TCP over IPv6 may be unsegmented.
  public var tcp6 = false
  /// Whether such frames may have the congestion mark.
  public var congestion = false

  /// None.
  public init() {}
}

extension NetHeader {
  /// Compares the header with the frame behind it and with what was agreed.
  ///
  /// Flags that nobody knows are ignored (VIRTIO 1.4, 5.1.9.2.2); `hdr_len` is a hint that is not
  /// believed: the headers are measured.
  ///
  /// - Parameters:
  ///   - mtu: bytes of the largest packet behind the Ethernet header.
  /// - Throws: why the frame has to be dropped.
  public func checked(
    _ frame: Span<UInt8>, rights: OffloadRights, mtu: Int
  ) throws(FrameFault) -> FrameOffload {
    guard frame.count >= NetFormat.etherSize else { throw .undersized }
    guard flags & (Self.dataValid | Self.coalesced) == 0 else { throw .badHeader }
    var offload = FrameOffload()
    if flags & Self.needsChecksum != 0 {
      let start = Int(checksumStart)
      let place = start + Int(checksumOffset)
      guard rights.checksum, start >= NetFormat.etherSize, place + 2 <= frame.count else {
        throw .badHeader
      }
      offload.needsChecksum = true
      offload.checksumStart = checksumStart
      offload.checksumOffset = checksumOffset
    }
    if segmentationType == 0 {
      guard frame.count <= mtu + NetFormat.etherSize + NetFormat.tagSize else { throw .oversized }
      return offload
    }
    guard frame.count <= NetFormat.frameLimit else { throw .oversized }
    offload.hasECN = segmentationType & Self.congestion != 0
    switch NetSegmentation(rawValue: segmentationType & ~Self.congestion) {
    case .tcp4 where rights.tcp4: offload.segmentation = .tcp4
    case .tcp6 where rights.tcp6: offload.segmentation = .tcp6
    default: throw .badHeader
    }
    guard offload.needsChecksum, !offload.hasECN || rights.congestion, segmentSize > 0,
      let layers = FrameLayers(frame), layers.isTCP,
      layers.isIPv6 == (offload.segmentation == .tcp6),
      layers.transportStart == Int(checksumStart), checksumOffset == 16,
      layers.payloadStart < frame.count,
      layers.payloadStart + Int(segmentSize) <= mtu + layers.networkStart
    else { throw .badHeader }
    offload.segmentSize = segmentSize
    offload.headerLength = UInt16(layers.payloadStart)
    return offload
  }
}
