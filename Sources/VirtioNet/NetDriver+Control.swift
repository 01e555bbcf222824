import SharedMemory
import VirtioDevice
public import Virtqueue

// Commands (VIRTIO 1.4, 5.1.9.5): one at a time.
extension NetDriver {
  /// The feature without which a command may not be given.
  private static func need(_ command: NetCommand) -> FeatureSet {
    switch command {
    case .promiscuous, .allMulticast, .setTable: .netControlReceive
    case .allUnicast, .noMulticast, .noUnicast, .noBroadcast: .netControlReceiveExtra
    case .setAddress: .netControlAddress
    case .announced: .netAnnounce
    case .setPairs: .netQueuePairs
    case .setOffloads: .netControlOffloads
    }
  }

  /// Starts a command without tables; whether it could be started: not while another is open, not
  /// without a control queue, and not without the feature it belongs to. It goes out with
  /// ``publish()``.
  ///
  /// - Parameter argument: 0 or 1 for the receive modes, the address, the number of pairs, the
  ///   offload bits; nothing for an announcement.
  public mutating func start(_ command: NetCommand, _ argument: UInt64 = 0) -> Bool {
    let count: Int
    switch command {
    case .promiscuous, .allMulticast, .allUnicast, .noMulticast, .noUnicast, .noBroadcast: count = 1
    case .setAddress: count = 6
    case .setPairs: count = 2
    case .setOffloads: count = 8
    case .announced: count = 0
    case .setTable: return false
    }
    guard canStart, features.contains(Self.need(command)) else { return false }
    if command == .setPairs {
      guard argument >= 1, argument <= UInt64(layout.pairs) else { return false }
      // Queues that are on their way out take nothing more.
      activePairs = min(activePairs, Int(argument))
      askedPairs = Int(argument)
    }
    if command == .setOffloads {
      let wanted = FeatureSet(rawValue: argument)
      guard wanted.isSubset(of: features.intersection(.netGuestOffloads)) else { return false }
    }
    putCommand(command)
    for index in 0..<count {
      putCommandByte(UInt8(truncatingIfNeeded: argument >> UInt64(8 * index)), at: 2 + index)
    }
    open(2 + count)
    return true
  }

  /// Starts the command that sets both tables of addresses to take, at most
  /// ``NetFormat/filterLimit`` each; whether it could be started.
  public mutating func startTables(
    unicast: Span<MACAddress>, multicast: Span<MACAddress>
  ) -> Bool {
    precondition(unicast.count <= NetFormat.filterLimit)
    precondition(multicast.count <= NetFormat.filterLimit)
    guard canStart, features.contains(.netControlReceive) else { return false }
    putCommand(.setTable)
    var place = 2
    place = put(unicast, at: place)
    place = put(multicast, at: place)
    open(place)
    return true
  }

  /// The answer to the command that is open: whether the device did it; `nil` while there is none.
  ///
  /// - Throws: what the device did wrong on the queue: reset it and set it up again.
  public mutating func takeAnswer() throws(QueueError) -> Bool? {
    guard isAttached(.control), isCommandOpen else { return nil }
    guard let used = try queues[NetQueue.control.index(pairs: layout.pairs)].takeUsed() else {
      return nil
    }
    isCommandOpen = false
    var bytes = InlineArray<1, UInt8>(repeating: 1)
    var span = bytes.mutableSpan
    let start = answerBuffer.offset
    region.copy(region.readRange(start..<start + 1), into: &span)
    let isDone = used.written == 1 && bytes[0] == 0
    if !isDone { counters.refusedCommands &+= 1 }
    if isDone, let askedPairs { activePairs = askedPairs }
    askedPairs = nil
    return isDone
  }

  private var canStart: Bool { isAttached(.control) && !isCommandOpen }

  private func putCommandByte(_ byte: UInt8, at index: Int) {
    let start = commandBuffer.offset + index
    region.fill(region.ownRange(start..<start + 1), with: byte)
  }

  private func putCommand(_ command: NetCommand) {
    putCommandByte(UInt8(command.rawValue & 255), at: 0)
    putCommandByte(UInt8(command.rawValue >> 8), at: 1)
  }

  private func put(_ table: Span<MACAddress>, at start: Int) -> Int {
    for index in 0..<4 {
      putCommandByte(UInt8(truncatingIfNeeded: table.count >> (8 * index)), at: start + index)
    }
    for entry in 0..<table.count {
      for index in 0..<6 {
        putCommandByte(table[entry].byte(at: index), at: start + 4 + 6 * entry + index)
      }
    }
    return start + 4 + 6 * table.count
  }

  private mutating func open(_ count: Int) {
    let buffers: InlineArray<2, BufferSegment> = [
      commandBuffer.slice(from: 0, count: count), answerBuffer,
    ]
    add(.control, buffers.span, readable: 1, token: 0)
    isCommandOpen = true
  }
}
