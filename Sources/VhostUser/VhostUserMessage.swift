import CLinux
import LinuxSupport

/// One message with its descriptors, in a buffer that is allocated once.
///
/// Descriptors belong to the message until they are taken; what is left is closed.
@safe
public struct VhostUserMessage: ~Copyable {
  /// The number of the request.
  public internal(set) var request: UInt32 = 0
  /// Version, reply and need-reply bits.
  public internal(set) var flags: UInt32 = 0
  /// Bytes of the payload.
  public internal(set) var size = 0
  private var bytes = [UInt8](repeating: 0, count: VhostUserFormat.payloadLimit)
  private var descriptors = InlineArray<8, Int32>(repeating: -1)
  /// Descriptors that came and were not taken.
  public private(set) var descriptorCount = 0

  /// An empty message.
  @inline(never)
  public init() {}

  deinit { for index in 0..<descriptorCount { cl_close(descriptors[index]) } }

  /// Whether the sender wants an acknowledgement.
  var needsReply: Bool { flags & VhostUserFormat.needReplyFlag != 0 }

  /// Empties the message and closes what was not taken.
  @inline(never)
  public mutating func clear() {
    for index in 0..<descriptorCount { cl_close(descriptors[index]) }
    descriptorCount = 0
    request = 0
    flags = VhostUserFormat.version
    size = 0
  }

  /// A message as it comes from `bytes`, for tests; descriptors are taken over.
  public mutating func fill(
    request: UInt32, flags: UInt32 = 1, payload: [UInt8] = [], descriptors: [Int32] = []
  ) {
    clear()
    self.request = request
    self.flags = flags
    for descriptor in descriptors { add(descriptor) }
    size = min(payload.count, VhostUserFormat.payloadLimit)
    for index in 0..<size { bytes[index] = payload[index] }
  }

  /// Adds a descriptor; one too many is closed and counted by the caller's check.
  mutating func add(_ descriptor: Int32) {
    guard descriptorCount < VhostUserFormat.descriptorLimit else { return cl_close(descriptor) }
    descriptors[descriptorCount] = descriptor
    descriptorCount += 1
  }

  /// Takes the first descriptor; `nil` when there is none.
  mutating func takeDescriptor() -> Descriptor? {
    guard descriptorCount > 0 else { return nil }
    let first = descriptors[0]
    for index in 1..<max(1, descriptorCount) { descriptors[index - 1] = descriptors[index] }
    descriptorCount -= 1
    return Descriptor(owning: first)
  }

  // MARK: Payload

  /// Throws unless the payload has at least `count` bytes.
  @inline(never)
  func require(_ count: Int) throws(VhostUserError) {
    guard size >= count else {
      throw .tooShort(request: request, size: UInt32(size), needed: count)
    }
  }

  /// Throws unless exactly `count` descriptors came.
  @inline(never)
  func requireDescriptors(_ count: Int) throws(VhostUserError) {
    guard descriptorCount == count else {
      throw .descriptors(request: request, seen: descriptorCount, expected: count)
    }
  }

  /// The byte at `offset` of the payload; 0 behind its end.
  func byte(_ offset: Int) -> UInt8 { offset < size ? bytes[offset] : 0 }

  /// The word of `width` bytes at `offset`; bytes behind the end are 0.
  @inline(never)
  private func word(_ offset: Int, width: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in (0..<width).reversed() { value = value << 8 | UInt64(byte(offset + index)) }
    return value
  }

  /// The 32-bit word at `offset`; bytes behind the end are 0.
  @inline(never)
  func word32(_ offset: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: word(offset, width: 4))
  }

  /// The 64-bit word at `offset`; bytes behind the end are 0.
  func word64(_ offset: Int) -> UInt64 { word(offset, width: 8) }

  /// Appends the low `width` bytes of `value`.
  @inline(never)
  private mutating func append(_ value: UInt64, width: Int) {
    precondition(size <= VhostUserFormat.payloadLimit - width)
    for index in 0..<width {
      bytes[size + index] = UInt8(truncatingIfNeeded: value >> UInt64(8 * index))
    }
    size += width
  }

  /// Appends a byte.
  mutating func append8(_ value: UInt8) { append(UInt64(value), width: 1) }

  /// Appends a 16-bit word.
  mutating func append16(_ value: UInt16) { append(UInt64(value), width: 2) }

  /// Appends a 32-bit word.
  @inline(never)
  mutating func append32(_ value: UInt32) { append(UInt64(value), width: 4) }

  /// Appends a 64-bit word.
  @inline(never)
  mutating func append64(_ value: UInt64) { append(value, width: 8) }

  /// Starts a message of the given number.
  mutating func begin(_ number: UInt32, flags: UInt32) {
    clear()
    request = number
    self.flags = VhostUserFormat.version | flags
  }

  /// Calls `body` with the bytes as they travel, the header in front.
  func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
    var whole = InlineArray<1036, UInt8>(repeating: 0)
    for (index, word) in [request, flags, UInt32(size)].enumerated() {
      for byte in 0..<4 {
        whole[4 * index + byte] = UInt8(truncatingIfNeeded: word >> UInt32(8 * byte))
      }
    }
    for index in 0..<size { whole[VhostUserFormat.headerSize + index] = bytes[index] }
    let count = VhostUserFormat.headerSize + size
    let span = whole.span
    return unsafe span.withUnsafeBytes { all in
      unsafe body(UnsafeRawBufferPointer(rebasing: all[..<count]))
    }
  }

  /// Takes received payload bytes.
  mutating func setPayload(_ source: [UInt8], from start: Int, count: Int) {
    for index in 0..<count { bytes[index] = source[start + index] }
    size = count
  }
}

extension VhostUserMessage {
  /// The 64-bit word at `offset` of the payload, for tests; bytes behind its end are 0.
  public func payloadWord(_ offset: Int) -> UInt64 { word64(offset) }
}
