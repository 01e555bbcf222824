import CLinux
public import LinuxSupport
import SharedMemory
public import VirtioDevice
public import Virtqueue

/// Why a back-end cannot be used: what was seen and what was expected.
public enum VhostUserFrontendError: Error, Equatable, Sendable {
  /// Nobody listens on the socket, or it cannot be opened.
  case connect(SystemError)
  /// A message could not be sent, or what came back is no message.
  case message(VhostUserError)
  /// An answer to another question, or with the wrong size.
  case badReply(request: UInt32, seen: UInt32, size: Int, expected: Int)
  /// The back-end refused a message.
  case refused(request: UInt32, code: UInt64)
  /// No answer in time.
  case deadline(request: UInt32)
  /// A feature this driver cannot do without is not offered.
  case missingFeatures(FeatureSet)
  /// The back-end has fewer queues.
  case queues(wanted: Int, offered: UInt64)
  /// Memory or an event could not be made.
  case system(SystemError)
  /// The rings do not fit the memory: our own set-up.
  case queue(QueueError)

  /// One line for people.
  public var text: String {
    switch self {
    case .connect(let error): "\(error.text); is a back-end serving there?"
    case .message(let error): error.text
    case .badReply(let request, let seen, let size, let expected):
      "message \(request) was answered by \(seen) with \(size) bytes; expected \(expected) bytes"
    case .refused(let request, let code): "message \(request) was refused (\(code))"
    case .deadline(let request): "message \(request) was not answered in time"
    case .missingFeatures(let features):
      "it does not offer features \(hex(features.rawValue))"
    case .queues(let wanted, let offered): "\(wanted) queues are wanted, \(offered) offered"
    case .system(let error): error.text
    case .queue(let error): "setting up a ring: \(error)"
    }
  }
}

/// The driver's side of a vhost-user connection: negotiation and rings in a ``DriverMemory``.
///
/// The back-end is not trusted: every answer is compared with its question and waited for with a
/// deadline. The first error makes the connection useless; connect anew, with the same memory.
public struct VhostUserFrontend: ~Copyable {
  /// What was agreed; empty before ``negotiate(wanted:required:memory:)``.
  public private(set) var features = FeatureSet()
  /// What was agreed about the protocol.
  public private(set) var protocolFeatures = ProtocolFeatures()
  /// Kicks sent.
  public private(set) var kicks: UInt64 = 0
  private var socket: VhostUserSocket
  private let patience: UInt64
  private var isGreeted = false
  private var message = VhostUserMessage()
  private var kickEvents = InlineArray<32, Int32>(repeating: -1)
  private var callEvents = InlineArray<32, Int32>(repeating: -1)

  /// Connects.
  ///
  /// - Parameter patience: how long one answer may take, in nanoseconds.
  public static func connect(
    path: String, patience: UInt64
  ) throws(VhostUserFrontendError) -> VhostUserFrontend {
    do throws(SystemError) {
      let socket = try Descriptor(unsafe cl_connect_stream(path))
      return VhostUserFrontend(VhostUserSocket(owning: socket), patience)
    } catch { throw .connect(error) }
  }

  @inline(never)
  private init(_ socket: consuming VhostUserSocket, _ patience: UInt64) {
    self.socket = socket
    self.patience = patience
  }

  deinit {
    for queue in 0..<32 {
      if kickEvents[queue] >= 0 { cl_close(kickEvents[queue]) }
      if callEvents[queue] >= 0 { cl_close(callEvents[queue]) }
    }
  }

  /// The socket: becomes readable when the back-end leaves.
  public var descriptor: Int32 { socket.descriptor.number }
  /// The event by which the back-end calls for queue `index`; -1 before it is enabled.
  public func callDescriptor(_ index: Int) -> Int32 { callEvents[index] }

  // MARK: Messages

  /// Starts a message; what it carries is appended before it is sent.
  @inline(never)
  private mutating func begin(_ request: VhostUserRequest) {
    message.begin(request.rawValue, flags: 0)
  }

  /// Sends the message that was begun.
  @inline(never)
  private mutating func send(_ descriptor: Int32 = -1) throws(VhostUserFrontendError) {
    do throws(VhostUserError) {
      try socket.send(message, descriptor: descriptor)
    } catch { throw .message(error) }
  }

  /// Waits for the answer to the message that was sent, of exactly `size` bytes, into `message`.
  private mutating func receive(size: Int) throws(VhostUserFrontendError) {
    let request = message.request
    let end = cl_monotonic_ns() + patience
    while true {
      do throws(VhostUserError) {
        if try socket.receive(&message) { break }
      } catch { throw .message(error) }
      let now = cl_monotonic_ns()
      guard now < end else { throw .deadline(request: request) }
      var entry = cl_poll_entry(
        fd: socket.descriptor.number, events: Int16(CL_POLL_IN), revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, Int64(end - now))
    }
    guard message.request == request,
      message.flags & VhostUserFormat.replyFlag != 0, message.size == size
    else {
      throw .badReply(
        request: request, seen: message.request, size: message.size, expected: size)
    }
  }

  private mutating func ask(
    _ request: VhostUserRequest
  ) throws(VhostUserFrontendError) -> UInt64 {
    begin(request)
    try send()
    try receive(size: 8)
    return message.word64(0)
  }

  /// Sends the message that was begun and, where that was agreed, waits until it was carried out.
  @inline(never)
  private mutating func tell(_ descriptor: Int32 = -1) throws(VhostUserFrontendError) {
    let wantsReply = protocolFeatures.contains(.replyAcknowledge)
    if wantsReply { message.flags |= VhostUserFormat.needReplyFlag }
    let request = message.request
    try send(descriptor)
    guard wantsReply else { return }
    try receive(size: 8)
    let code = message.word64(0)
    guard code == 0 else { throw .refused(request: request, code: code) }
  }

  /// Tells one 64-bit word.
  @inline(never)
  private mutating func tell(
    _ request: VhostUserRequest, _ word: UInt64, _ descriptor: Int32 = -1
  ) throws(VhostUserFrontendError) {
    begin(request)
    message.append64(word)
    try tell(descriptor)
  }

  /// Tells two 32-bit words.
  private mutating func tell(
    _ request: VhostUserRequest, _ first: UInt32, _ second: UInt32
  ) throws(VhostUserFrontendError) {
    try tell(request, UInt64(first) | UInt64(second) << 32)
  }

  // MARK: Set-up

  /// Agrees on features and hands the memory over.
  ///
  /// - Returns: what was agreed: what is offered of `wanted`.
  public mutating func negotiate(
    wanted: FeatureSet, required: FeatureSet = .version1, memory: borrowing DriverMemory
  ) throws(VhostUserFrontendError) -> FeatureSet {
    let offered = try greet()
    let hasProtocol = offered & VhostUserFormat.protocolFeaturesBit != 0
    let set = FeatureSet(rawValue: offered)
    guard required.isSubset(of: set) else { throw .missingFeatures(required.subtracting(set)) }
    features = set.intersection(wanted.union(required))
    let accepted =
      features.rawValue | (hasProtocol ? VhostUserFormat.protocolFeaturesBit : 0)
    try tell(.setFeatures, accepted)
    let size = UInt64(memory.region.count)
    begin(.setMemoryTable)
    message.append64(1)
    message.append64(DriverMemory.guestBase)
    message.append64(size)
    message.append64(DriverMemory.userBase)
    message.append64(0)
    try tell(memory.descriptor)
    return features
  }

  /// What the device offers; nothing is set up, and what is set up stays.
  public mutating func offeredFeatures() throws(VhostUserFrontendError) -> FeatureSet {
    FeatureSet(rawValue: isGreeted ? try ask(.getFeatures) : try greet())
  }

  /// The start of a connection: what is offered, and agreement on the protocol.
  private mutating func greet() throws(VhostUserFrontendError) -> UInt64 {
    let offered = try ask(.getFeatures)
    if offered & VhostUserFormat.protocolFeaturesBit != 0 {
      let offeredProtocol = ProtocolFeatures(rawValue: try ask(.getProtocolFeatures))
      let agreed = offeredProtocol.intersection(
        .multiQueue | .replyAcknowledge | .configuration | .reset)
      begin(.setProtocolFeatures)
      message.append64(agreed.rawValue)
      try send()
      protocolFeatures = agreed
    }
    begin(.setOwner)
    try tell()
    isGreeted = true
    return offered
  }

  /// How many queues the device has; 1 when it cannot say.
  public mutating func queueCount() throws(VhostUserFrontendError) -> UInt64 {
    protocolFeatures.contains(.multiQueue) ? try ask(.getQueueCount) : 1
  }

  /// Copies configuration space from its start on; zeroes when the back-end has none.
  public mutating func configuration(
    into bytes: inout MutableSpan<UInt8>
  ) throws(VhostUserFrontendError) {
    guard protocolFeatures.contains(.configuration) else { return }
    let count = min(bytes.count, VhostUserFormat.configurationLimit)
    begin(.getConfiguration)
    message.append32(0)
    message.append32(UInt32(count))
    message.append32(0)
    for _ in 0..<count { message.append8(0) }
    try send()
    try receive(size: 12 + count)
    for index in 0..<count { bytes[index] = message.byte(12 + index) }
  }

  /// Writes a word of configuration space as a driver does; whether the back-end takes any.
  public mutating func writeConfiguration(
    _ value: UInt32, at offset: Int
  ) throws(VhostUserFrontendError) -> Bool {
    guard protocolFeatures.contains(.configuration) else { return false }
    begin(.setConfiguration)
    for word in [UInt32(offset), 4, 0, value] { message.append32(word) }
    try tell()
    return true
  }

  /// Tells the back-end about queue `index` (0 ..< 32), whose rings the driver has made already,
  /// and starts it.
  public mutating func enableQueue(
    _ index: Int, _ configuration: QueueConfiguration
  ) throws(VhostUserFrontendError) {
    let number = UInt32(index)
    try tell(.setVringSize, number, UInt32(configuration.size.rawValue))
    try tell(.setVringBase, number, 0)
    let shift = DriverMemory.userBase &- DriverMemory.guestBase
    begin(.setVringAddresses)
    message.append64(UInt64(number))
    message.append64(configuration.descriptorTable &+ shift)
    message.append64(configuration.usedRing &+ shift)
    message.append64(configuration.availableRing &+ shift)
    message.append64(0)
    try tell()
    kickEvents[index] = try Self.event(kickEvents[index])
    callEvents[index] = try Self.event(callEvents[index])
    try tell(.setVringCall, UInt64(number), callEvents[index])
    try tell(.setVringKick, UInt64(number), kickEvents[index])
    guard protocolFeatures != ProtocolFeatures() else { return }
    try tell(.setVringEnable, number, 1)
  }

  private static func event(_ old: Int32) throws(VhostUserFrontendError) -> Int32 {
    if old >= 0 { return old }
    do throws(SystemError) {
      let event = try Descriptor(cl_eventfd())
      _ = try SystemError.check(cl_set_nonblocking(event.number))
      return event.release()
    } catch { throw .system(error) }
  }

  /// Stops queue `index`; when it returns the device touches neither its rings nor its buffers.
  ///
  /// - Returns: where the device stands in the available ring.
  public mutating func stopQueue(_ index: Int) throws(VhostUserFrontendError) -> UInt16 {
    begin(.getVringBase)
    message.append64(UInt64(index))
    try send()
    try receive(size: 8)
    return UInt16(truncatingIfNeeded: message.word32(4))
  }

  /// Tells the device that queue `index` has new chains.
  public mutating func kick(_ index: Int) {
    kicks &+= 1
    _ = cl_event_signal(kickEvents[index])
  }
}
