import CLinux
public import LinuxSupport

/// The stream socket of one peer: whole messages in, whole messages out, never blocking.
@safe
public struct VhostUserSocket: ~Copyable {
  /// The socket.
  public let descriptor: Descriptor
  private var bytes = [UInt8](repeating: 0, count: 12 + 1024)
  private var received = [Int32](repeating: -1, count: Int(CL_MAX_FDS))
  /// Bytes of the current message that are there.
  private var count = 0

  /// Takes over a connected, non-blocking stream socket.
  public init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

  private func word(_ at: Int) -> UInt32 {
    UInt32(bytes[at]) | UInt32(bytes[at + 1]) << 8 | UInt32(bytes[at + 2]) << 16
      | UInt32(bytes[at + 3]) << 24
  }

  /// Receives what is there; `true` when `message` is whole.
  ///
  /// - Throws: that the peer is gone, or that what it sent is no message.
  @inline(never)
  public mutating func receive(_ message: inout VhostUserMessage) throws(VhostUserError) -> Bool {
    let headerSize = VhostUserFormat.headerSize
    if count == 0 { message.clear() }
    guard try read(upTo: headerSize, &message) else { return false }
    let size = word(8)
    guard size <= UInt32(VhostUserFormat.payloadLimit) else {
      throw .tooLong(request: word(0), size: size)
    }
    guard try read(upTo: headerSize + Int(size), &message) else { return false }
    message.request = word(0)
    message.flags = word(4)
    message.setPayload(bytes, from: headerSize, count: Int(size))
    count = 0
    return true
  }

  /// Reads until `end` bytes are there; `false` when there are no more now. A message ends with
  /// its payload: never more than it is read, so that descriptors stay with their message.
  private mutating func read(
    upTo end: Int, _ message: inout VhostUserMessage
  ) throws(VhostUserError) -> Bool {
    while count < end {
      let got = try readOnce(upTo: end, &message)
      if got == 0 { return false }
      count += got
    }
    return true
  }

  private mutating func readOnce(
    upTo end: Int, _ message: inout VhostUserMessage
  ) throws(VhostUserError) -> Int {
    var arrived: UInt32 = 0
    let number = descriptor.number
    let start = count
    let result = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe received.withUnsafeMutableBufferPointer { fds in
        guard let base = bytes.baseAddress, let first = fds.baseAddress else { return 0 }
        return unsafe cl_receive(number, base + start, end - start, first, &arrived, 0)
      }
    }
    let before = message.descriptorCount
    for index in 0..<Int(arrived) { message.add(received[index]) }
    guard before + Int(arrived) <= VhostUserFormat.descriptorLimit else {
      throw .descriptors(
        request: word(0), seen: before + Int(arrived),
        expected: VhostUserFormat.descriptorLimit)
    }
    if result > 0 { return result }
    switch -result {
    case 0: throw .closed(inMessage: count > 0)
    case Int(SystemError.tryAgain), Int(SystemError.interrupted): return 0
    case Int(SystemError.connectionReset): throw .closed(inMessage: count > 0)
    default:
      throw .system(
        request: word(0), SystemError(Int32(truncatingIfNeeded: -result)))
    }
  }

  /// Sends a message with at most one descriptor.
  ///
  /// - Throws: that the peer is gone or does not read.
  public func send(
    _ message: borrowing VhostUserMessage, descriptor passed: Int32 = -1
  ) throws(VhostUserError) {
    try Self.send(message, over: descriptor.number, descriptor: passed)
  }

  static func send(
    _ message: borrowing VhostUserMessage, over number: Int32, descriptor passed: Int32 = -1
  ) throws(VhostUserError) {
    var passed = passed
    let (result, count) = unsafe message.withBytes { bytes in
      guard let base = bytes.baseAddress else { return (0, 0) }
      return unsafe (
        cl_send(number, base, bytes.count, &passed, passed >= 0 ? 1 : 0), bytes.count
      )
    }
    if result == count { return }
    // A part of a message cannot be taken back.
    guard result < 0, result != -Int(SystemError.tryAgain) else { throw .notReading }
    throw .closed(inMessage: false)
  }
}
