public import SharedMemory
public import VirtioBlock
public import Virtqueue

/// Private memory as a medium: a RAM disk, and the plainest host for tests. Everything is done at
/// once and nothing fails.
@safe
public struct MemoryBlockHost: BlockHost, ~Copyable {
  private let base: UnsafeMutableRawPointer
  /// Bytes of the medium.
  public let byteCount: UInt64
  /// 512.
  public let blockSize: UInt32 = 512
  /// Whether writes are refused.
  public let isReadOnly: Bool
  /// Always.
  public var canDiscard: Bool { true }
  /// Whether the last write was asked to be stable; what a test of cache modes looks at.
  public private(set) var wasLastWriteStable = false

  /// Allocates `byteCount` bytes of zeroes, a positive multiple of 512.
  public init(byteCount: Int, isReadOnly: Bool = false) {
    precondition(byteCount > 0 && byteCount % 512 == 0)
    unsafe base = .allocate(byteCount: byteCount, alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
    self.byteCount = UInt64(byteCount)
    self.isReadOnly = isReadOnly
  }

  /// The byte at `position` of the medium.
  public func byte(at position: Int) -> UInt8 {
    precondition(position >= 0 && position < Int(byteCount))
    return unsafe base.load(fromByteOffset: position, as: UInt8.self)
  }

  /// "memory".
  public func identifierByte(at index: Int) -> UInt8 {
    let name: InlineArray<6, UInt8> = [0x6d, 0x65, 0x6d, 0x6f, 0x72, 0x79]
    return index < name.count ? name[index] : 0
  }

  private func bytes(_ request: BlockRequest) -> UnsafeMutableBufferPointer<UInt8> {
    precondition(
      request.position <= byteCount && request.count <= byteCount - request.position,
      "the device checks positions")
    return unsafe UnsafeMutableBufferPointer(
      start: (base + Int(request.position)).assumingMemoryBound(to: UInt8.self),
      count: Int(request.count))
  }

  /// Does the request.
  public mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    // SAFETY: bounded above; the memory is this host's own.
    let own = unsafe bytes(request)
    switch request.type {
    case .read:
      let moved = unsafe segments.copyWritable(from: own.span, at: skip, in: region)
      precondition(moved == own.count, "the device checks lengths")
    case .write:
      wasLastWriteStable = request.isStable
      var span = unsafe own.mutableSpan
      let moved = segments.copyReadable(from: skip, into: &span, in: region)
      precondition(moved == own.count, "the device checks lengths")
    case .discard, .writeZeroes: unsafe own.update(repeating: 0)
    case .flush, .getID: break
    }
    return .done(.ok)
  }

  /// None ever pends.
  public mutating func nextCompletion() -> BlockHostCompletion? { nil }

  deinit { unsafe base.deallocate() }
}
