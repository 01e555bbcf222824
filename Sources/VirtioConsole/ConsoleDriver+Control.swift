import SharedMemory
public import Virtqueue

// Ports and control messages (VIRTIO 1.4, 5.3.5 and 5.3.6.2).
extension ConsoleDriver {
  /// Whether the device has this port.
  public func isAdded(port: Int) -> Bool { ports[port].isAdded }
  /// Whether the port is a console for people.
  public func isConsole(port: Int) -> Bool { ports[port].isConsole }
  /// Whether somebody is at the device's end.
  public func isHostOpen(port: Int) -> Bool { ports[port].isHostOpen }
  /// The terminal's size; unknown until the device has told.
  public func size(port: Int) -> ConsoleSize { ports[port].size }
  /// Bytes of the port's name.
  public func nameCount(port: Int) -> Int { ports[port].nameCount }
  /// Byte `index` of the port's name, below ``nameCount(port:)``.
  public func nameByte(port: Int, at index: Int) -> UInt8 {
    precondition(index >= 0 && index < ports[port].nameCount)
    return names[port * ConsoleFormat.nameLimit + index]
  }

  /// Opens a port at this end, or closes it; the device is told, now and after every restart. A
  /// console port is opened when the device names it one.
  public mutating func setOpen(_ isOpen: Bool, port index: Int) {
    guard ports[index].isOpen != isOpen else { return }
    ports[index].isOpen = isOpen
    if isMultiport, ports[index].isAdded { ports[index].owesOpen = true }
    sendMessages()
  }

  /// Takes back what the device is done with, reads its control messages and answers them; whether
  /// there was anything.
  ///
  /// - Throws: what the device did wrong on a queue: reset it and set it up again.
  public mutating func step() throws(QueueError) -> Bool {
    var found = false
    for index in 0..<ports.count {
      let free = ports[index].freeBuffers
      try reclaim(index)
      if ports[index].freeBuffers != free { found = true }
    }
    guard isMultiport, isAttached(ConsoleQueue.controlTransmit.index) else { return found }
    for _ in 0..<ConsoleDriverLayout.controlDepth {
      guard let used = try queues[ConsoleQueue.controlReceive.index].takeUsed() else { break }
      found = true
      take(token: Int(used.token), count: Int(used.written))
      offerMessageBuffer(Int(used.token))
    }
    for _ in 0..<ConsoleDriverLayout.controlDepth {
      guard let used = try queues[ConsoleQueue.controlTransmit.index].takeUsed() else { break }
      found = true
      freeMessages |= 1 << used.token
    }
    sendMessages()
    return found
  }

  @inline(never)
  mutating func offerMessageBuffer(_ token: Int) {
    guard isAttached(ConsoleQueue.controlReceive.index) else { return }
    add(
      ConsoleQueue.controlReceive.index, messageBuffer(token), isReadable: false, token: token)
  }

  private func messageBuffer(_ token: Int) -> BufferSegment {
    into.slice(
      from: layout.ports * layout.depth * layout.bufferSize
        + token * ConsoleDriverLayout.inStride, count: ConsoleDriverLayout.inStride)
  }

  // MARK: From the device

  private mutating func take(token: Int, count: Int) {
    counters.messages &+= 1
    var bytes = InlineArray<128, UInt8>(repeating: 0)
    let start = messageBuffer(token).offset
    var span = bytes.mutableSpan
    var part = span._mutatingExtracting(0..<count)
    region.copy(region.readRange(start..<start + count), into: &part)
    let size = ConsoleFormat.messageSize
    guard count >= size,
      take(ConsoleMessage(bytes.span), rest: bytes.span.extracting(size..<count))
    else {
      counters.badMessages &+= 1
      return
    }
  }

  private mutating func take(_ message: ConsoleMessage, rest: Span<UInt8>) -> Bool {
    guard message.port < UInt32(ports.count), let event = ConsoleEvent(rawValue: message.event)
    else { return false }
    let index = Int(message.port)
    if event == .portAdd {
      ports[index].isAdded = true
      ports[index].owesReady = true
      ports[index].owesOpen = ports[index].isOpen
      return true
    }
    guard ports[index].isAdded else { return false }
    switch event {
    case .portRemove:
      ports[index].isAdded = false
      ports[index].isConsole = false
      ports[index].isHostOpen = false
      ports[index].owesReady = false
      ports[index].owesOpen = false
      ports[index].nameCount = 0
    case .consolePort:
      ports[index].isConsole = message.value != 0
      // A console is opened for whoever comes (VIRTIO 1.4, 5.3.6.2.2).
      guard ports[index].isConsole else { break }
      ports[index].isOpen = true
      ports[index].owesOpen = true
    case .portOpen: ports[index].isHostOpen = message.value != 0
    case .resize:
      guard rest.count >= 4 else { return false }
      ports[index].size = ConsoleSize(
        columns: UInt16(rest[0]) | UInt16(rest[1]) << 8,
        rows: UInt16(rest[2]) | UInt16(rest[3]) << 8)
    case .portName: takeName(index, rest)
    case .portAdd, .deviceReady, .portReady: return false
    }
    return true
  }

  private mutating func takeName(_ index: Int, _ bytes: Span<UInt8>) {
    var count = 0
    while count < min(bytes.count, ConsoleFormat.nameLimit), bytes[count] != 0 {
      names[index * ConsoleFormat.nameLimit + count] = bytes[count]
      count += 1
    }
    ports[index].nameCount = count
  }

  // MARK: To the device

  /// Sends the messages that are due, as far as there are buffers for them.
  mutating func sendMessages() {
    guard isMultiport, isAttached(ConsoleQueue.controlTransmit.index) else { return }
    if owesDeviceReady,
      send(ConsoleMessage(port: ConsoleMessage.noPort, event: .deviceReady, value: 1))
    {
      owesDeviceReady = false
    }
    for index in 0..<ports.count {
      let port = UInt32(index)
      if ports[index].owesReady, send(ConsoleMessage(port: port, event: .portReady, value: 1)) {
        ports[index].owesReady = false
      }
      guard ports[index].owesOpen, !ports[index].owesReady else { continue }
      let value: UInt16 = ports[index].isOpen ? 1 : 0
      if send(ConsoleMessage(port: port, event: .portOpen, value: value)) {
        ports[index].owesOpen = false
      }
    }
  }

  @inline(never)
  private mutating func send(_ message: ConsoleMessage) -> Bool {
    guard freeMessages != 0 else { return false }
    let token = freeMessages.trailingZeroBitCount
    freeMessages &= freeMessages &- 1
    let buffer = out.slice(
      from: layout.ports * layout.depth * layout.bufferSize
        + token * ConsoleDriverLayout.outStride, count: ConsoleFormat.messageSize)
    for index in 0..<ConsoleFormat.messageSize {
      region.store8(message.byte(at: index), at: buffer.offset + index)
    }
    add(ConsoleQueue.controlTransmit.index, buffer, isReadable: true, token: token)
    return true
  }
}
