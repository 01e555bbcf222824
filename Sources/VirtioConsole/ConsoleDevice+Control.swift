import SharedMemory
import VirtioDevice
import Virtqueue

// Control messages (VIRTIO 1.4, 5.3.6.2).
extension ConsoleDevice where Host: ~Copyable {
  /// Adds a port while the device runs, or takes it away: the driver is told, what it has sent is
  /// dropped. All ports are there at first.
  public mutating func setPresent(_ isPresent: Bool, port index: Int) {
    var port = ports[index]
    guard port.isPresent != isPresent else { return }
    port.isPresent = isPresent
    // A port that goes and comes back before the driver could be told is told as both.
    if isPresent {
      if isMultiport { port.notices.insert(.add) }
    } else {
      port.notices = port.isAnnounced ? .remove : ConsoleNotices()
      port.isReady = false
      port.isDriverOpen = false
    }
    ports[index] = port
    isLookDue = true
    host.requestLook()
  }

  /// Whether the driver has yet to be told something.
  var hasNotice: Bool {
    for index in 0..<ports.count where !ports[index].notices.isEmpty { return true }
    return false
  }

  /// Puts the next message into a chain; returns its length, 0 when there was no room for it.
  mutating func giveNotice(
    to segments: borrowing ChainSegments, in region: SharedRegion
  ) -> UInt32 {
    var found = 0
    while found < ports.count, ports[found].notices.isEmpty { found += 1 }
    precondition(found < ports.count, "called while there is a notice")
    // Removal goes before a new life of the same port.
    let notices = ports[found].notices
    let notice = notices.contains(.remove) ? .remove : notices.first
    var bytes = InlineArray<72, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let count = write(notice, of: found, into: &span)
    guard segments.writableByteCount >= count else {
      counters.shortBuffers &+= 1
      return 0
    }
    _ = segments.copyWritable(from: bytes.span.extracting(0..<count), at: 0, in: region)
    ports[found].notices = notices.subtracting(notice)
    if notice == .add { ports[found].isAnnounced = true }
    if notice == .remove { ports[found].isAnnounced = false }
    counters.messagesToDriver &+= 1
    return UInt32(truncatingIfNeeded: count)
  }

  /// Writes the message for `notice`; returns its length.
  private func write(
    _ notice: ConsoleNotices, of index: Int, into bytes: inout MutableSpan<UInt8>
  ) -> Int {
    let port = ports[index]
    var message = ConsoleMessage(port: UInt32(index), event: .portAdd, value: 1)
    var count = ConsoleFormat.messageSize
    switch notice {
    case .add: break
    case .remove: message.event = ConsoleEvent.portRemove.rawValue
    case .console: message.event = ConsoleEvent.consolePort.rawValue
    case .open:
      message.event = ConsoleEvent.portOpen.rawValue
      message.value = port.isHostOpen ? 1 : 0
    case .resize:
      message.event = ConsoleEvent.resize.rawValue
      for offset in 0..<4 { bytes[count + offset] = port.size.byte(at: offset) }
      count += 4
    default:
      message.event = ConsoleEvent.portName.rawValue
      for offset in 0..<ConsoleFormat.nameLimit {
        let byte = host.nameByte(port: index, at: offset)
        guard byte != 0 else { break }
        bytes[count] = byte
        count += 1
      }
    }
    for offset in 0..<ConsoleFormat.messageSize { bytes[offset] = message.byte(at: offset) }
    return count
  }

  /// Reads one message of the driver, once, and does what it says.
  mutating func takeMessage(_ segments: borrowing ChainSegments, in region: SharedRegion) {
    var bytes = InlineArray<8, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    counters.messagesFromDriver &+= 1
    guard segments.copyReadable(from: 0, into: &span, in: region) == bytes.count else {
      counters.badMessages &+= 1
      return
    }
    let message = ConsoleMessage(bytes.span)
    let isKnown: Bool
    switch ConsoleEvent(rawValue: message.event) {
    case .deviceReady: isKnown = deviceIsReady(message)
    case .portReady: isKnown = portIsReady(message)
    case .portOpen: isKnown = portIsOpen(message)
    case .portAdd, .portRemove, .consolePort, .resize, .portName, nil: isKnown = false
    }
    if !isKnown { counters.badMessages &+= 1 }
  }

  /// The driver wants to hear of all ports; one that failed hears nothing.
  private mutating func deviceIsReady(_ message: ConsoleMessage) -> Bool {
    guard message.value == 1 else { return true }
    for index in 0..<ports.count where ports[index].isPresent { ports[index].notices.insert(.add) }
    return true
  }

  /// The port a message means, if it is there.
  private func port(_ message: ConsoleMessage) -> Int? {
    guard message.port < UInt32(ports.count), ports[Int(message.port)].isPresent else {
      return nil
    }
    return Int(message.port)
  }

  private mutating func portIsReady(_ message: ConsoleMessage) -> Bool {
    guard let index = port(message) else { return false }
    ports[index].isReady = message.value != 0
    guard message.value != 0 else {
      ports[index].isDriverOpen = false
      return true
    }
    var notices = ConsoleNotices()
    if index == 0 {
      notices.insert(.console)
      if features.contains(.consoleSize) { notices.insert(.resize) }
    }
    if host.nameByte(port: index, at: 0) != 0 { notices.insert(.name) }
    if ports[index].isHostOpen { notices.insert(.open) }
    ports[index].notices.insert(notices)
    return true
  }

  private mutating func portIsOpen(_ message: ConsoleMessage) -> Bool {
    guard let index = port(message) else { return false }
    ports[index].isDriverOpen = message.value != 0
    return true
  }
}
