import SharedMemory
import Testing
import VirtioConsole
import VirtioDevice
import Virtqueue

typealias ConsoleRig = DeviceRig<ConsoleDevice<ScriptedConsoleHost>>

/// A console over scripted ports.
func consoleRig(ports: Int, _ change: (inout ScriptedConsoleHost) -> Void = { _ in }) throws
  -> ConsoleRig
{
  let books = RigMemory(1 << 20, alignment: 64, filledWith: 0)
  var arena = unsafe PrivateArena(unsafeBase: books.base, count: 1 << 20)
  var host = ScriptedConsoleHost(ports: ports)
  change(&host)
  guard let size = QueueSize(64),
    let device = ConsoleDevice(host: host, maximumQueueSize: size, arena: &arena)
  else { preconditionFailure("the books are large enough") }
  return try ConsoleRig(device, keeping: books)
}

/// One driver queue with its buffers, by hand.
struct HandQueue: ~Copyable {
  var queue: DriverQueue
  var spot: Int

  init(_ rig: inout ConsoleRig, _ index: Int) throws {
    queue = try rig.enable(index)
    spot = ConsoleRig.dataBase + index * 0x10000
  }

  /// Sends bytes, cut into pieces of at most `cut` bytes.
  mutating func send(_ rig: borrowing ConsoleRig, _ bytes: [UInt8], cut: Int = .max) throws {
    rig.store(bytes, at: spot)
    var pieces: [BufferSegment] = []
    var start = 0
    while start < bytes.count {
      let count = min(cut, bytes.count - start)
      pieces.append(BufferSegment(offset: spot + start, count: count))
      start += count
    }
    let none: [BufferSegment] = []
    try queue.add(readable: pieces.span, writable: none.span, token: UInt32(spot))
    spot += bytes.count
    _ = queue.publish()
  }

  /// Offers a buffer; its token is where it lies.
  mutating func offer(_ count: Int) throws {
    let piece: [BufferSegment] = [BufferSegment(offset: spot, count: count)]
    let none: [BufferSegment] = []
    try queue.add(readable: none.span, writable: piece.span, token: UInt32(spot))
    spot += count
    _ = queue.publish()
  }

  /// The next answer has to be `bytes`, or none to be there.
  mutating func expect(
    _ rig: borrowing ConsoleRig, _ bytes: [UInt8]?,
    at location: SourceLocation = #_sourceLocation
  ) throws {
    let answer = try take(rig)
    #expect(answer == bytes, sourceLocation: location)
  }

  /// The next answer's bytes.
  mutating func take(_ rig: borrowing ConsoleRig) throws -> [UInt8]? {
    guard let used = try queue.takeUsed() else { return nil }
    return rig.load(Int(used.token), Int(used.written))
  }
}

func message(_ port: UInt32, _ event: UInt16, _ value: UInt16) -> [UInt8] {
  (0..<4).map { UInt8(truncatingIfNeeded: port >> UInt32(8 * $0)) }
    + [UInt8(event & 255), UInt8(event >> 8), UInt8(value & 255), UInt8(value >> 8)]
}

@Suite struct ConsoleDeviceTests {
  static let several: FeatureSet = .version1 | .consoleMultiport | .consoleSize

  @Test func whatItIs() throws {
    let one = try consoleRig(ports: 1)
    #expect(one.device.deviceID == 3)
    #expect(one.device.queueCount == 2)
    #expect(one.device.offeredFeatures == FeatureSet.consoleSize | .consoleEmergencyWrite)
    let three = try consoleRig(ports: 3)
    #expect(three.device.queueCount == 8)
    #expect(three.device.offeredFeatures.contains(.consoleMultiport))
    #expect(three.device.configurationByte(at: 4) == 3)
    let most = try consoleRig(ports: ConsoleFormat.portLimit)
    #expect(most.device.queueCount == DeviceLimits.queues)
  }

  @Test func queuesAreNumberedAsTheSpecificationSays() {
    let expected: [ConsoleQueue] = [
      .receive(port: 0), .transmit(port: 0), .controlReceive, .controlTransmit,
      .receive(port: 1), .transmit(port: 1), .receive(port: 2), .transmit(port: 2),
    ]
    for (index, queue) in expected.enumerated() {
      #expect(ConsoleQueue(index: index) == queue)
      #expect(queue.index == index)
    }
  }

  /// Columns, rows, ports, each where VIRTIO 1.4, 5.3.4 puts it; a change is announced once.
  @Test func theSizeIsInTheConfiguration() throws {
    var rig = try consoleRig(ports: 1) {
      $0.ports[0].size = ConsoleSize(columns: 0x1234, rows: 0x56)
    }
    func bytes(_ rig: borrowing ConsoleRig) -> [UInt8] {
      var bytes: [UInt8] = []
      for offset in 0..<rig.device.configurationSize {
        bytes.append(rig.device.configurationByte(at: offset))
      }
      return bytes
    }
    func hasChanged(_ rig: inout ConsoleRig) -> Bool { rig.device.takeConfigurationChange() }
    let before = bytes(rig)
    #expect(before == [0x34, 0x12, 0x56, 0, 1, 0, 0, 0, 0, 0, 0, 0])
    let change1 = hasChanged(&rig)
    #expect(change1 == false)
    rig.device.host.ports[0].size.rows = 50
    rig.device.host.hasNews = true
    try rig.settle()
    let change2 = hasChanged(&rig)
    #expect(change2 == true)
    let change3 = hasChanged(&rig)
    #expect(change3 == false)
    let after = bytes(rig)
    #expect(after[2] == 50)
  }

  /// The emergency register works before anything is set up, and nothing else may be written.
  @Test func emergencyWrites() throws {
    var rig = try consoleRig(ports: 1)
    for (index, byte) in Array("dead\n".utf8).enumerated() {
      let width = [4, 1, 2, 8, 4][index]
      let isTaken = rig.device.writeConfiguration(
        at: 8, width: width, value: 0x7700 | UInt64(byte))
      #expect(isTaken)
    }
    #expect(rig.device.host.ports[0].outgoing == Array("dead\n".utf8))
    for offset in [0, 2, 4, 9, 10, 11] {
      let isTaken = rig.device.writeConfiguration(at: offset, width: 1, value: 1)
      #expect(!isTaken)
    }
    rig.device.host.ports[0].room = 0
    let isTaken = rig.device.writeConfiguration(at: 8, width: 4, value: 65)
    #expect(isTaken)
    #expect(rig.device.counters.bytesDropped == 1)
  }

  /// Bytes wait in the device until there is a buffer, and no chain is taken without a byte.
  @Test func bytesWaitForBuffers() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.start(features: .version1)
    var receive = try HandQueue(&rig, 0)
    try receive.offer(3)
    try rig.settle()
    #expect(rig.heldCount(0) == 0)
    try receive.expect(rig, nil)
    rig.device.host.ports[0].incoming = Array("hello".utf8)
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, Array("hel".utf8))
    try receive.expect(rig, nil)
    try receive.offer(100)
    try rig.settle()
    try receive.expect(rig, Array("lo".utf8))
  }

  /// The device reads ahead no more than its buffer; the rest stays with the host.
  @Test func readingAheadIsBounded() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.host.ports[0].incoming = [UInt8](repeating: 7, count: 100_000)
    try rig.settle()
    #expect(rig.device.host.ports[0].incoming.count == 100_000 - 4096)
    // A reset loses nothing of it.
    rig.reset()
    rig.device.start(features: .version1)
    var receive = try HandQueue(&rig, 0)
    for _ in 0..<30 { try receive.offer(4096) }
    try rig.settle()
    var count = 0
    while let bytes = try receive.take(rig) { count += bytes.count }
    #expect(count == 100_000)
  }

  /// A slow host holds the chain, not the device: other chains wait behind it, in order.
  @Test func aSlowHostHoldsTheDriverBack() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.start(features: .version1)
    rig.device.host.ports[0].room = 5
    var transmit = try HandQueue(&rig, 1)
    try transmit.send(rig, Array("first chain ".utf8), cut: 3)
    try transmit.send(rig, Array("second".utf8))
    try rig.settle()
    #expect(rig.heldCount(1) == 1)
    #expect(rig.device.inFlightCount == 1)
    try transmit.expect(rig, nil)
    #expect(rig.device.host.ports[0].outgoing == Array("first".utf8))
    #expect(rig.device.counters.blockedChains == 1)
    rig.device.host.ports[0].room = 4
    rig.device.host.hasNews = true
    try rig.settle()
    try transmit.expect(rig, nil)
    rig.device.host.ports[0].room = .max
    rig.device.host.hasNews = true
    try rig.settle()
    #expect(rig.device.inFlightCount == 0)
    try transmit.expect(rig, [])
    try transmit.expect(rig, [])
    #expect(rig.device.host.ports[0].outgoing == Array("first chain second".utf8))
  }

  @Test func withNobodyThereBytesAreDropped() throws {
    var rig = try consoleRig(ports: 1) { $0.ports[0].isOpen = false }
    rig.device.start(features: .version1)
    var transmit = try HandQueue(&rig, 1)
    try transmit.send(rig, Array("lost".utf8), cut: 1)
    try rig.settle()
    try transmit.expect(rig, [])
    #expect(rig.device.counters.bytesDropped == 4)
  }

  /// A host that vanishes in the middle of a chain lets it go.
  @Test func aHostThatVanishesFreesItsChain() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.start(features: .version1)
    rig.device.host.ports[0].room = 1
    var transmit = try HandQueue(&rig, 1)
    try transmit.send(rig, Array("abcdef".utf8), cut: 2)
    try rig.settle()
    #expect(rig.device.inFlightCount == 1)
    rig.device.host.ports[0].isOpen = false
    rig.device.host.hasNews = true
    try rig.settle()
    try transmit.expect(rig, [])
    #expect(rig.device.counters.bytesFromDriver == 1)
    #expect(rig.device.counters.bytesDropped == 5)
  }

  /// The stop of one queue, and of the device, does not wait for the host.
  @Test func aStoppedQueueWaitsForNobody() throws {
    var rig = try consoleRig(ports: 2)
    rig.device.start(features: Self.several)
    rig.device.host.ports[1].room = 0
    var transmit = try HandQueue(&rig, 5)
    try transmit.send(rig, Array("stuck".utf8))
    try rig.settle()
    #expect(rig.device.inFlightCount == 1)
    for queue in [0, 1, 2, 3, 4] { rig.device.cancel(queue: queue) }
    try rig.settle()
    #expect(rig.device.inFlightCount == 1)
    rig.device.cancel(queue: 5)
    try rig.settle()
    #expect(rig.device.inFlightCount == 0)
    try transmit.expect(rig, [])
    try transmit.send(rig, Array("again".utf8))
    try rig.settle()
    #expect(rig.device.inFlightCount == 1)
    rig.reset()
    #expect(rig.device.inFlightCount == 0)
    #expect(rig.device.counters.bytesDropped == 10)
  }

  /// A chain that names the same bytes again and again does not keep the others waiting.
  @Test func aHugeChainTakesTurns() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.start(features: .version1)
    var driver = try rig.enable(1)
    let piece = BufferSegment(offset: ConsoleRig.dataBase, count: 64 << 10)
    let many = [BufferSegment](repeating: piece, count: 10)
    let none: [BufferSegment] = []
    try driver.add(readable: many.span, writable: none.span, token: 1)
    _ = driver.publish()
    try rig.pump()
    #expect(rig.device.host.ports[0].outgoing.count == 64 << 10)
    for _ in 0..<20 { try rig.pump() }
    #expect(rig.device.host.ports[0].outgoing.count == 640 << 10)
    let used = try driver.takeUsed()
    #expect(used != nil)
  }

  // MARK: Several ports

  /// The whole introduction, byte for byte (VIRTIO 1.4, 5.3.6.2).
  @Test func portsIntroduceThemselves() throws {
    var rig = try consoleRig(ports: 2) {
      $0.ports[0].size = ConsoleSize(columns: 80, rows: 25)
      $0.ports[1].name = "org.x"
      $0.ports[1].isOpen = false
    }
    rig.device.start(features: Self.several)
    var receive = try HandQueue(&rig, 2)
    var transmit = try HandQueue(&rig, 3)
    for _ in 0..<16 { try receive.offer(64) }
    try rig.settle()
    try receive.expect(rig, nil)
    try transmit.send(rig, message(.max, 0, 1))
    try rig.settle()
    try receive.expect(rig, message(0, 1, 1))
    try receive.expect(rig, message(1, 1, 1))
    try receive.expect(rig, nil)
    try transmit.send(rig, message(0, 3, 1), cut: 3)
    try transmit.send(rig, message(1, 3, 1))
    try rig.settle()
    try receive.expect(rig, message(0, 4, 1))
    try receive.expect(rig, message(0, 5, 1) + [80, 0, 25, 0])
    try receive.expect(rig, message(0, 6, 1))
    try receive.expect(rig, message(1, 7, 1) + Array("org.x".utf8))
    try receive.expect(rig, nil)
    rig.device.host.ports[1].isOpen = true
    rig.device.host.ports[0].size.rows = 30
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, message(0, 5, 1) + [80, 0, 30, 0])
    try receive.expect(rig, message(1, 6, 1))
    rig.device.host.ports[1].isOpen = false
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, message(1, 6, 0))
    #expect(rig.device.counters.badMessages == 0)
  }

  /// A port's bytes wait until somebody has it open at the driver's end.
  @Test func bytesWaitForAnOpenPort() throws {
    var rig = try consoleRig(ports: 2)
    rig.device.start(features: Self.several)
    var receive = try HandQueue(&rig, 4)
    var control = try HandQueue(&rig, 3)
    try receive.offer(16)
    rig.device.host.ports[1].incoming = [1, 2, 3]
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, nil)
    try control.send(rig, message(1, 6, 1))
    try rig.settle()
    try receive.expect(rig, [1, 2, 3])
    try control.send(rig, message(1, 6, 0))
    rig.device.host.ports[1].incoming = [4]
    rig.device.host.hasNews = true
    try receive.offer(16)
    try rig.settle()
    try receive.expect(rig, nil)
  }

  /// A device in the place of one that ended: its driver has introduced itself to that one and will
  /// not do it again. It is told of all ports anew, and bytes do not wait for what it said before.
  @Test func aDriverThatHasSaidEverythingIsServed() throws {
    var rig = try consoleRig(ports: 2) { $0.ports[1].name = "org.x" }
    rig.device.resume(features: Self.several)
    var receive = try HandQueue(&rig, 4)
    var toDriver = try HandQueue(&rig, 2)
    var fromDriver = try HandQueue(&rig, 3)
    for _ in 0..<8 { try toDriver.offer(64) }
    for _ in 0..<2 { try receive.offer(16) }
    rig.device.host.ports[1].incoming = [1, 2, 3]
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, [1, 2, 3])
    try toDriver.expect(rig, message(0, 1, 1))
    try toDriver.expect(rig, message(1, 1, 1))
    try toDriver.expect(rig, nil)
    // Then as at first.
    try fromDriver.send(rig, message(1, 3, 1))
    try rig.settle()
    try toDriver.expect(rig, message(1, 7, 1) + Array("org.x".utf8))
    try fromDriver.send(rig, message(1, 6, 0))
    rig.device.host.ports[1].incoming = [4]
    rig.device.host.hasNews = true
    try rig.settle()
    try receive.expect(rig, nil)
    // The next driver begins at nothing.
    rig.device.stop()
    rig.device.start(features: Self.several)
    #expect(rig.device.canServe(queue: 2) == false)
    #expect(rig.device.canServe(queue: 4) == false)
  }

  /// Without MULTIPORT only the queues of port 0 are served, and it needs no introduction.
  @Test func withoutMultiportThereIsPortZero() throws {
    var rig = try consoleRig(ports: 2)
    rig.device.start(features: .version1)
    var first = try HandQueue(&rig, 1)
    var control = try HandQueue(&rig, 3)
    var second = try HandQueue(&rig, 5)
    try first.send(rig, [1])
    try control.send(rig, message(.max, 0, 1))
    try second.send(rig, [2])
    try rig.settle()
    #expect(rig.device.host.ports[0].outgoing == [1])
    #expect(rig.device.host.ports[1].outgoing == [])
    #expect(rig.device.counters.messagesFromDriver == 0)
    #expect(rig.device.counters.messagesToDriver == 0)
  }

  @Test func portsComeAndGo() throws {
    var rig = try consoleRig(ports: 2)
    rig.device.start(features: Self.several)
    var receive = try HandQueue(&rig, 2)
    var control = try HandQueue(&rig, 3)
    var transmit = try HandQueue(&rig, 5)
    for _ in 0..<16 { try receive.offer(64) }
    rig.device.setPresent(false, port: 1)
    try control.send(rig, message(.max, 0, 1))
    try rig.settle()
    try receive.expect(rig, message(0, 1, 1))
    try receive.expect(rig, nil)
    rig.device.setPresent(true, port: 1)
    try rig.settle()
    try receive.expect(rig, message(1, 1, 1))
    try control.send(rig, message(1, 3, 1))
    try rig.settle()
    try receive.expect(rig, message(1, 6, 1))
    rig.device.setPresent(false, port: 1)
    rig.device.setPresent(true, port: 1)
    try rig.settle()
    try receive.expect(rig, message(1, 2, 1))
    try receive.expect(rig, message(1, 1, 1))
    rig.device.setPresent(false, port: 1)
    try transmit.send(rig, [1, 2])
    try rig.settle()
    #expect(rig.device.counters.bytesDropped == 2)
  }

  // MARK: Hostile drivers

  /// Control messages of every length, and every event for ports that exist or not.
  @Test func everyControlMessageIsSurvived() throws {
    var rig = try consoleRig(ports: 3) { $0.ports[1].name = String(repeating: "n", count: 64) }
    rig.device.start(features: Self.several)
    var bad: UInt64 = 0
    for length in 1...24 {
      var control = try HandQueue(&rig, 3)
      try control.send(
        rig, Array((message(0, 6, 1) + message(1, 6, 1) + message(2, 6, 1)).prefix(length)))
      try rig.settle()
      try control.expect(rig, [])
      if length < 8 { bad += 1 }
      #expect(rig.device.counters.badMessages == bad)
    }
    for port: UInt32 in [0, 1, 2, 3, 14, 15, 255, 65535, 1 << 31, .max] {
      for event: UInt16 in [0, 1, 2, 3, 4, 5, 6, 7, 8, 255, 256, .max] {
        for value: UInt16 in [0, 1, 2, .max] {
          var control = try HandQueue(&rig, 3)
          try control.send(rig, message(port, event, value))
          try rig.settle()
          try control.expect(rig, [])
          let isMine = event == 0 || (port < 3 && (event == 3 || event == 6))
          if !isMine { bad += 1 }
        }
      }
    }
    #expect(rig.device.counters.badMessages == bad)
  }

  /// A chain that cannot hold a message gets none of it, and the message is not lost.
  @Test func shortBuffersGetNothing() throws {
    var rig = try consoleRig(ports: 2)
    rig.device.start(features: Self.several)
    var receive = try HandQueue(&rig, 2)
    var control = try HandQueue(&rig, 3)
    for count in 1...7 { try receive.offer(count) }
    try control.send(rig, message(.max, 0, 1))
    try rig.settle()
    for _ in 1...7 { try receive.expect(rig, []) }
    #expect(rig.device.counters.shortBuffers == 7)
    try receive.offer(8)
    try rig.settle()
    try receive.expect(rig, message(0, 1, 1))
  }

  /// Chains of the wrong direction carry nothing.
  @Test func wrongDirectionsCarryNothing() throws {
    var rig = try consoleRig(ports: 1)
    rig.device.start(features: .version1)
    var receive = try HandQueue(&rig, 0)
    var transmit = try HandQueue(&rig, 1)
    rig.device.host.ports[0].incoming = [9]
    rig.device.host.hasNews = true
    try receive.send(rig, [1, 2, 3])
    try transmit.offer(10)
    try rig.settle()
    try receive.expect(rig, [])
    try transmit.expect(rig, [])
    #expect(rig.device.host.ports[0].outgoing == [])
    try receive.offer(4)
    try rig.settle()
    try receive.expect(rig, [9])
  }
}
