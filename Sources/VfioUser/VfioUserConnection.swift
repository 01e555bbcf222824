import CLinux
public import LinuxSupport

/// One client's stream socket: whole messages to the device, replies back, never blocking.
///
/// Requests are read only while no reply waits to be sent, so a client that does not read stalls
/// itself and nobody else. At most one message is held.
public final class VfioUserConnection {
  /// How a look at the socket ended.
  public enum Outcome: Equatable, Sendable {
    /// Everything that came was answered, as far as the client reads.
    case open
    /// The connection is over; the text says why, for the log.
    case closed(String)
  }

  /// Messages that are handled before others get their turn, and bytes of their answers.
  static let messagesAtOnce = 32
  static let bytesAtOnce = VfioUserFormat.dataLimit
  /// Answers with an error number that are worth a line in the log.
  static let loggedFaults = 8

  private let descriptor: Descriptor
  private let device: VfioUserDevice
  private let memory: Int32
  private let log: (String) -> Void
  private var buffer = [UInt8](repeating: 0, count: 512)
  private var received = [Int32](repeating: -1, count: Int(CL_MAX_FDS))
  /// Bytes of the current message that are there.
  private var count = 0
  private var descriptors = VfioUserDescriptors()
  private var output: [UInt8] = []
  private var sent = 0
  private var passesMemory = false
  private var faults = 0
  private var isClosing = false

  /// Serves `device` to a connected, non-blocking stream socket.
  ///
  /// - Parameter memory: the descriptor of BAR 2, which stays the caller's; -1: there is none.
  public init(
    _ descriptor: consuming Descriptor, device: VfioUserDevice, memory: Int32,
    log: @escaping (String) -> Void = { _ in }
  ) {
    self.descriptor = descriptor
    self.device = device
    self.memory = memory
    self.log = log
  }

  /// The socket, for waiting.
  public var number: Int32 { descriptor.number }
  /// Whether the client has to read before anything else happens.
  public var waitsForReader: Bool { sent < output.count }

  /// Handles what has come. To be called when the socket can be read, or written while
  /// ``waitsForReader``.
  public func serve() -> Outcome {
    do throws(VfioUserEnd) {
      var bytes = 0
      for _ in 0..<Self.messagesAtOnce {
        bytes += output.count
        guard try flush(), bytes < Self.bytesAtOnce else { return .open }
        if isClosing { return .closed("was refused") }
        guard let header = try receive() else { return .open }
        answer(header)
      }
      _ = try flush()
      return .open
    } catch { return .closed(error.reason) }
  }

  /// Why a connection ends.
  private struct VfioUserEnd: Error { let reason: String }

  // MARK: In

  /// The header of a message that is complete; `nil`: not yet.
  private func receive() throws(VfioUserEnd) -> VfioUserHeader? {
    let headerSize = VfioUserFormat.headerSize
    guard try read(upTo: headerSize) else { return nil }
    let header = VfioUserHeader(Array(buffer[..<headerSize]))
    guard header.isCommand else { throw VfioUserEnd(reason: "sent a reply to nothing") }
    guard header.size >= UInt32(headerSize), header.size <= UInt32(VfioUserFormat.messageLimit)
    else {
      throw VfioUserEnd(
        reason: "sent a message of \(header.size) bytes, expected \(headerSize) to "
          + "\(VfioUserFormat.messageLimit)")
    }
    guard try read(upTo: Int(header.size)) else { return nil }
    return header
  }

  /// Reads until `end` bytes are there; `false`: no more now. Never more than one message is read,
  /// so that descriptors stay with theirs.
  private func read(upTo end: Int) throws(VfioUserEnd) -> Bool {
    if buffer.count < end {
      buffer.append(contentsOf: repeatElement(0, count: end - buffer.count))
    }
    while count < end {
      var arrived: UInt32 = 0
      let number = descriptor.number
      let start = count
      let got = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe received.withUnsafeMutableBufferPointer { fds in
          guard let base = bytes.baseAddress, let first = fds.baseAddress else { return 0 }
          return unsafe cl_receive(number, base + start, end - start, first, &arrived, 0)
        }
      }
      for index in 0..<Int(arrived) { descriptors.add(received[index]) }
      guard descriptors.count <= VfioUserFormat.descriptorLimit else {
        throw VfioUserEnd(reason: "sent \(descriptors.count) descriptors with a message")
      }
      switch got {
      case 1...: count += got
      case 0: throw VfioUserEnd(reason: count == 0 ? "left" : "left in the middle of a message")
      case -Int(SystemError.tryAgain): return false
      case -Int(SystemError.interrupted): continue
      default:
        throw VfioUserEnd(
          reason: "is gone: \(SystemError(Int32(truncatingIfNeeded: -got)).text)")
      }
    }
    return true
  }

  // MARK: Out

  private func answer(_ header: VfioUserHeader) {
    let size = Int(header.size)
    let payload = Array(buffer[VfioUserFormat.headerSize..<size])
    count = 0
    // A long message is rare: its room is given back.
    if buffer.count > 4096 { buffer = [UInt8](repeating: 0, count: 512) }
    do throws(VfioUserFault) {
      let request = try VfioUserRequest(command: header.command, payload: payload)
      finish(header, try device.handle(request, descriptors), error: 0)
    } catch {
      note(error)
      finish(header, VfioUserDevice.Reply(), error: error.code)
    }
  }

  private func note(_ fault: VfioUserFault) {
    faults += 1
    if faults <= Self.loggedFaults { log(fault.reason) }
    if faults == Self.loggedFaults { log("more errors of this client are not logged") }
  }

  private func finish(_ header: VfioUserHeader, _ reply: VfioUserDevice.Reply, error: UInt32) {
    descriptors.close()
    // Who is refused learns why, and is let go.
    if !device.isConnected { isClosing = true }
    guard !header.wantsNoReply else { return }
    output = header.reply(payload: reply.payload.count, error: error).bytes + reply.payload
    sent = 0
    passesMemory = reply.passesMemory
  }

  /// Sends what is to be sent; `false`: the client has to read first.
  private func flush() throws(VfioUserEnd) -> Bool {
    while sent < output.count {
      let number = descriptor.number
      let start = sent
      var passed = memory
      let passes = passesMemory && start == 0 && memory >= 0
      let result = unsafe output.withUnsafeBytes { bytes in
        guard let base = bytes.baseAddress else { return 0 }
        return unsafe cl_send(
          number, base + start, bytes.count - start, &passed, passes ? 1 : 0)
      }
      switch result {
      case 1...: sent += result
      case -Int(SystemError.tryAgain): return false
      case -Int(SystemError.interrupted): continue
      default:
        throw VfioUserEnd(
          reason: "is gone: \(SystemError(Int32(truncatingIfNeeded: -result)).text)")
      }
    }
    output.removeAll(keepingCapacity: true)
    sent = 0
    return true
  }
}
