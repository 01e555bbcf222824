import CLinux
import LinuxSupport
import SharedMemory
import VirtioDevice
import Virtqueue

// What each message does (vhost-user specification, "Front-end message types").
extension VhostUserDevice where Device: ~Copyable {
  /// Carries a message out.
  ///
  /// - Parameter reply: is filled when the result is ``VhostUserHandling/reply(descriptor:)``.
  /// - Throws: why the connection has to end.
  public mutating func handle(
    _ message: inout VhostUserMessage, reply: inout VhostUserMessage
  ) throws(VhostUserError) -> VhostUserHandling {
    guard message.flags & VhostUserFormat.versionMask == VhostUserFormat.version,
      message.flags & VhostUserFormat.replyFlag == 0
    else { throw .badHeader(request: message.request, flags: message.flags) }
    guard let request = VhostUserRequest(rawValue: message.request), isAgreed(request) else {
      throw .unknown(request: message.request)
    }
    if needsQuiet(request, message), !isQuiet {
      // What waits for somebody at a console would keep the front-end waiting as long.
      for queue in 0..<queueCount { device.cancel(queue: queue) }
      return .wait
    }
    counters.messages &+= 1
    try requireDescriptors(request, message)
    reply.begin(message.request, flags: VhostUserFormat.replyFlag)
    let handling = try carryOut(request, &message, &reply)
    guard handling == .done, message.needsReply,
      protocolFeatures.contains(.replyAcknowledge)
    else { return handling }
    reply.append64(0)
    return .reply(descriptor: -1)
  }

  private func isAgreed(_ request: VhostUserRequest) -> Bool {
    switch request {
    case .getConfiguration, .setConfiguration: protocolFeatures.contains(.configuration)
    case .getInflight, .setInflight: protocolFeatures.contains(.inflight)
    case .resetDevice: protocolFeatures.contains(.reset)
    case .vringKick: protocolFeatures.contains(.inBandNotifications)
    case .getMemorySlotLimit, .addMemoryRegion, .removeMemoryRegion:
      protocolFeatures.contains(.memorySlots)
    case .setStatus, .getStatus: protocolFeatures.contains(.status)
    case .setBackendChannel: protocolFeatures.contains(.backendChannel)
    case .getQueueCount: protocolFeatures.contains(.multiQueue)
    case .getFeatures, .setFeatures, .setOwner, .resetOwner, .setMemoryTable, .setVringSize,
      .setVringAddresses, .setVringBase, .getVringBase, .setVringKick, .setVringCall,
      .setVringError, .getProtocolFeatures, .setProtocolFeatures, .setVringEnable:
      true
    }
  }

  /// Whether a message may only be carried out while no request can touch the memory.
  private func needsQuiet(
    _ request: VhostUserRequest, _ message: borrowing VhostUserMessage
  ) -> Bool {
    switch request {
    case .getVringBase, .setMemoryTable, .addMemoryRegion, .removeMemoryRegion, .resetDevice,
      .resetOwner, .setInflight:
      true
    case .setStatus: message.word64(0) == 0
    default: false
    }
  }

  private func requireDescriptors(
    _ request: VhostUserRequest, _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    switch request {
    case .setMemoryTable:
      try message.requireDescriptors(Int(truncatingIfNeeded: message.word32(0)))
    case .setVringKick, .setVringCall, .setVringError:
      let hasNone = message.word64(0) & VhostUserFormat.noDescriptorFlag != 0
      try message.requireDescriptors(hasNone ? 0 : 1)
    case .setBackendChannel, .setInflight, .addMemoryRegion: try message.requireDescriptors(1)
    // A descriptor may come along and is closed.
    case .removeMemoryRegion: break
    default: try message.requireDescriptors(0)
    }
  }

  private mutating func carryOut(
    _ request: VhostUserRequest, _ message: inout VhostUserMessage,
    _ reply: inout VhostUserMessage
  ) throws(VhostUserError) -> VhostUserHandling {
    switch request {
    case .getFeatures: return answer(offered, &reply)
    case .getProtocolFeatures: return answer(ProtocolFeatures.all.rawValue, &reply)
    case .getQueueCount: return answer(UInt64(queueCount), &reply)
    case .getMemorySlotLimit: return answer(UInt64(GuestMemory.slotLimit), &reply)
    case .getStatus: return answer(UInt64(status), &reply)
    case .getVringBase: return try giveVringBase(message, &reply)
    case .getConfiguration: return try giveConfiguration(message, &reply)
    case .getInflight: return try giveInflight(message, &reply)
    case .setFeatures: try setFeatures(message)
    case .setProtocolFeatures: try setProtocolFeatures(message)
    case .setOwner: break
    case .resetOwner, .resetDevice: reset()
    case .setMemoryTable: try setMemoryTable(&message)
    case .addMemoryRegion: try addMemoryRegion(&message)
    case .removeMemoryRegion: try removeMemoryRegion(message)
    case .setVringSize, .setVringAddresses, .setVringBase: try setVring(request, message)
    case .setVringEnable: try setVringEnable(message)
    case .setVringKick, .setVringCall, .setVringError: try setVringEvent(request, &message)
    case .vringKick: try kick(message)
    case .setBackendChannel: try setChannel(&message)
    case .setConfiguration: try setConfiguration(message)
    case .setInflight: try setInflight(&message)
    case .setStatus: try setStatus(message)
    }
    return .done
  }

  private func answer(_ value: UInt64, _ reply: inout VhostUserMessage) -> VhostUserHandling {
    reply.append64(value)
    return .reply(descriptor: -1)
  }

  // MARK: Features and status

  private mutating func setFeatures(_ message: borrowing VhostUserMessage) throws(VhostUserError) {
    try message.require(8)
    let accepted = message.word64(0)
    guard accepted & ~offered == 0 else { throw .features(seen: accepted, offered: offered) }
    let agreed = FeatureSet(rawValue: accepted & ~VhostUserFormat.protocolFeaturesBit)
    if agreed != features, isDeviceStarted {
      throw .badOrder(request: message.request, needs: .stoppedRings)
    }
    features = agreed
    hasProtocolFeatures = accepted & VhostUserFormat.protocolFeaturesBit != 0
    // Without the bit rings are enabled from the start (specification, "Ring states").
    if !hasProtocolFeatures {
      for queue in 0..<queueCount { vrings[queue].isEnabled = true }
    }
  }

  private mutating func setProtocolFeatures(
    _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(8)
    let accepted = message.word64(0)
    guard accepted & ~ProtocolFeatures.all.rawValue == 0 else {
      throw .features(seen: accepted, offered: ProtocolFeatures.all.rawValue)
    }
    protocolFeatures = ProtocolFeatures(rawValue: accepted)
  }

  private mutating func setStatus(_ message: borrowing VhostUserMessage) throws(VhostUserError) {
    try message.require(8)
    let value = message.word64(0)
    if value == 0 { reset() }
    status = UInt8(truncatingIfNeeded: value)
  }

  /// Back to the state after negotiation; memory and descriptors stay.
  private mutating func reset() {
    for queue in 0..<queueCount {
      deactivate(queue)
      vrings[queue].isEnabled = !hasProtocolFeatures && features != FeatureSet()
      vrings[queue].isStarted = false
      // The addresses were those of the driver before: enabling a ring alone must not revive them.
      vrings[queue].isAddressed = false
      vrings[queue].isBroken = false
      vrings[queue].base = 0
    }
    status = 0
    stopDeviceIfIdle()
  }

  // MARK: Memory

  private func region(_ message: borrowing VhostUserMessage, at offset: Int) -> GuestRegionClaim {
    GuestRegionClaim(
      guest: message.word64(offset), user: message.word64(offset + 16),
      size: message.word64(offset + 8), fileOffset: message.word64(offset + 24))
  }

  @inline(never)
  private mutating func setMemoryTable(
    _ message: inout VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(8)
    let count = message.word32(0)
    guard count > 0, count <= UInt32(VhostUserFormat.tableLimit) else {
      throw .memory(.count(count))
    }
    // User-Mode Linux sends more bytes than its regions need: only fewer are an error.
    try message.require(8 + 32 * Int(count))
    suspendRings()
    memory.removeAll()
    for index in 0..<Int(count) { try add(region(message, at: 8 + 32 * index), &message) }
    try resumeRings()
  }

  private mutating func add(
    _ claim: GuestRegionClaim, _ message: inout VhostUserMessage
  ) throws(VhostUserError) {
    guard let file = message.takeDescriptor() else {
      throw .descriptors(request: message.request, seen: 0, expected: 1)
    }
    try memory.add(
      guest: claim.guest, user: claim.user, size: claim.size, fileOffset: claim.fileOffset,
      descriptor: file)
  }

  private mutating func addMemoryRegion(
    _ message: inout VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(40)
    suspendRings()
    try add(region(message, at: 8), &message)
    try resumeRings()
  }

  private mutating func removeMemoryRegion(
    _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(40)
    let claim = region(message, at: 8)
    suspendRings()
    try memory.remove(guest: claim.guest, user: claim.user, size: claim.size)
    try resumeRings()
  }

  // MARK: Rings

  private func queueIndex(_ index: UInt32) throws(VhostUserError) -> Int {
    guard index < UInt32(queueCount) else { throw .noSuchQueue(index, count: queueCount) }
    return Int(index)
  }

  @inline(never)
  private mutating func setVring(
    _ request: VhostUserRequest, _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(request == .setVringAddresses ? 40 : 8)
    let queue = try queueIndex(message.word32(0))
    guard !queues.isOccupied(queue) else {
      throw .badOrder(request: message.request, needs: .stoppedRings)
    }
    let value = message.word32(4)
    switch request {
    case .setVringSize:
      guard let size = QueueSize(value), size.rawValue <= maximumQueueSize.rawValue else {
        throw .badQueueSize(value, limit: maximumQueueSize.rawValue)
      }
      vrings[queue].size = value
    case .setVringBase: vrings[queue].base = UInt16(truncatingIfNeeded: value)
    default:
      vrings[queue].descriptors = message.word64(8)
      vrings[queue].used = message.word64(16)
      vrings[queue].available = message.word64(24)
      vrings[queue].isAddressed = true
    }
  }

  private mutating func setVringEnable(
    _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(8)
    let queue = try queueIndex(message.word32(0))
    vrings[queue].isEnabled = message.word32(4) != 0
    // In-band kicks need no set-up: enabling starts the ring.
    if vrings[queue].isEnabled, protocolFeatures.contains(.inBandNotifications),
      vrings[queue].kick < 0
    {
      vrings[queue].isStarted = vrings[queue].isAddressed
    }
    try activate(queue)
  }

  private mutating func setVringEvent(
    _ request: VhostUserRequest, _ message: inout VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(8)
    let queue = try queueIndex(message.word32(0) & 0xff)
    var number: Int32 = -1
    if let descriptor = message.takeDescriptor() {
      guard cl_is_eventfd(descriptor.number) != 0, cl_set_nonblocking(descriptor.number) >= 0
      else { throw .notAnEvent(request: message.request) }
      number = descriptor.release()
    }
    switch request {
    case .setVringCall:
      if vrings[queue].call >= 0 { cl_close(vrings[queue].call) }
      vrings[queue].call = number
    case .setVringError:
      if vrings[queue].error >= 0 { cl_close(vrings[queue].error) }
      vrings[queue].error = number
    default: try setKick(queue, number, message.request)
    }
  }

  private mutating func setKick(
    _ queue: Int, _ number: Int32, _ request: UInt32
  ) throws(VhostUserError) {
    if vrings[queue].kick >= 0 {
      cl_epoll_remove(epoll, vrings[queue].kick)
      cl_close(vrings[queue].kick)
    }
    vrings[queue].kick = number
    if number >= 0 {
      let added = cl_epoll_add(epoll, number, Self.kickTag + UInt64(queue), 1)
      guard added >= 0 else {
        throw .system(request: request, SystemError(Int32(truncatingIfNeeded: -added)))
      }
    }
    vrings[queue].isStarted = true
    try activate(queue)
  }

  private mutating func kick(_ message: borrowing VhostUserMessage) throws(VhostUserError) {
    try message.require(8)
    let queue = try queueIndex(message.word32(0))
    vrings[queue].isStarted = true
    try activate(queue)
  }

  private mutating func giveVringBase(
    _ message: borrowing VhostUserMessage, _ reply: inout VhostUserMessage
  ) throws(VhostUserError) -> VhostUserHandling {
    try message.require(8)
    let queue = try queueIndex(message.word32(0))
    stopTaking(queue)
    vrings[queue].isAddressed = false
    vrings[queue].isEnabled = !hasProtocolFeatures
    deactivate(queue)
    vrings[queue].isBroken = false
    closeDescriptors(queue)
    vrings[queue].kick = -1
    vrings[queue].call = -1
    vrings[queue].error = -1
    stopDeviceIfIdle()
    reply.append32(UInt32(queue))
    reply.append32(UInt32(vrings[queue].base))
    return .reply(descriptor: -1)
  }

  // MARK: Configuration and the back-end channel

  private mutating func setChannel(_ message: inout VhostUserMessage) throws(VhostUserError) {
    guard let descriptor = message.takeDescriptor() else { return }
    let result = cl_set_nonblocking(descriptor.number)
    guard result >= 0 else {
      throw .system(request: message.request, SystemError(Int32(truncatingIfNeeded: -result)))
    }
    if channel >= 0 { cl_close(channel) }
    channel = descriptor.release()
  }

  private func giveConfiguration(
    _ message: borrowing VhostUserMessage, _ reply: inout VhostUserMessage
  ) throws(VhostUserError) -> VhostUserHandling {
    try message.require(12)
    let offset = message.word32(0)
    let size = message.word32(4)
    let limit = VhostUserFormat.configurationLimit
    guard offset <= UInt32(limit), size <= UInt32(limit) - offset else {
      throw .configuration(offset: offset, size: size, limit: limit)
    }
    reply.append32(offset)
    reply.append32(size)
    reply.append32(message.word32(8))
    for position in Int(offset)..<Int(offset + size) {
      // A driver of a later version asks for fields this device does not have: they are zero.
      reply.append8(
        position < device.configurationSize ? device.configurationByte(at: position) : 0)
    }
    return .reply(descriptor: -1)
  }

  private mutating func setConfiguration(
    _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) {
    try message.require(12)
    let offset = message.word32(0)
    let size = message.word32(4)
    let limit = device.configurationSize
    guard offset <= UInt32(limit), size <= UInt32(limit) - offset else {
      throw .configuration(offset: offset, size: size, limit: limit)
    }
    try message.require(12 + Int(size))
    // Byte by byte unless it is one field: front-ends write whole fields.
    let width = [1, 2, 4, 8].contains(Int(size)) ? Int(size) : 1
    var position = Int(offset)
    try announceIfChanged()
    while position < Int(offset + size) {
      var value: UInt64 = 0
      for byte in (0..<width).reversed() {
        value = value << 8 | UInt64(message.byte(12 + position - Int(offset) + byte))
      }
      // A field that cannot be written stays as it is: the driver reads it back.
      _ = device.writeConfiguration(at: position, width: width, value: value)
      position += width
    }
    // What the front-end wrote itself is no news to it.
    _ = device.takeConfigurationChange()
  }

  // MARK: Inflight tracking

  @inline(never)
  private mutating func giveInflight(
    _ message: borrowing VhostUserMessage, _ reply: inout VhostUserMessage
  ) throws(VhostUserError) -> VhostUserHandling {
    try message.require(20)
    let (queues, entries) = try inflightShape(message)
    let size = (InflightRegion.bytes(queues: queues, size: entries) + 4095) & ~4095
    let file = try Self.makeFile(size, message.request)
    if inflightFile >= 0 { cl_close(inflightFile) }
    inflightFile = file.release()
    reply.append64(size)
    reply.append64(0)
    reply.append16(UInt16(queues))
    reply.append16(UInt16(entries))
    // QEMU counts the padding behind its structure and takes no reply of another size.
    if message.size >= 24 { reply.append32(0) }
    return .reply(descriptor: inflightFile)
  }

  private static func makeFile(
    _ size: UInt64, _ request: UInt32
  ) throws(VhostUserError) -> Descriptor {
    do throws(SystemError) {
      let file = try Descriptor(unsafe cl_memfd("cellmate-inflight"))
      _ = try SystemError.check(cl_truncate(file.number, Int64(size)))
      return file
    } catch { throw .system(request: request, error) }
  }

  private func inflightShape(
    _ message: borrowing VhostUserMessage
  ) throws(VhostUserError) -> (queues: Int, entries: Int) {
    let word = message.word32(16)
    let queues = word & 0xffff
    let entries = word >> 16
    guard queues > 0, queues <= UInt32(queueCount) else {
      throw .noSuchQueue(queues, count: queueCount)
    }
    guard entries > 0, entries <= 32768 else {
      throw .badQueueSize(entries, limit: maximumQueueSize.rawValue)
    }
    return (Int(queues), Int(entries))
  }

  @inline(never)
  private mutating func setInflight(_ message: inout VhostUserMessage) throws(VhostUserError) {
    try message.require(20)
    let (queues, entries) = try inflightShape(message)
    let size = message.word64(0)
    let offset = message.word64(8)
    guard let file = message.takeDescriptor() else { return }
    for queue in 0..<queueCount where self.queues.isOccupied(queue) {
      throw .badOrder(request: message.request, needs: .stoppedRings)
    }
    if inflight.isOccupied(0) { _ = inflight.remove(at: 0) }
    inflight.put(
      try InflightRegion.map(
        file, size: size, offset: offset, queues: queues, queueSize: entries), at: 0)
  }
}

/// A memory region as the front-end states it.
struct GuestRegionClaim {
  let guest: UInt64
  let user: UInt64
  let size: UInt64
  let fileOffset: UInt64
}
