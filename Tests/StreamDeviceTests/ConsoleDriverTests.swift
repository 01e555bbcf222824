import SharedMemory
import Testing
import VirtioConsole
import VirtioDevice
import Virtqueue

/// A driver beside the device over the same rings.
struct ConsolePair: ~Copyable {
  // In this order: the driver's books lie in the rig's memory, which has to end after it.
  var driver: ConsoleDriver
  var rig: ConsoleRig
  let features: FeatureSet

  init(ports: Int, depth: Int, bufferSize: Int, isMultiport: Bool) throws {
    var rig = try consoleRig(ports: ports) {
      for port in 1..<max(ports, 1) where port < ports { $0.ports[port].name = "port.\(port)" }
    }
    features = isMultiport ? ConsoleDeviceTests.several : .version1 | .consoleSize
    let layout = ConsoleDriverLayout(ports: ports, depth: depth, bufferSize: bufferSize)
    let out = BufferSegment(offset: ConsoleRig.dataBase, count: layout.outBytes)
    let into = BufferSegment(offset: ConsoleRig.dataBase + (1 << 20), count: layout.inBytes)
    let made = ConsoleDriver(
      layout, out: out, into: into, region: rig.region, arena: &rig.driverBooks)
    guard let driver = made else { preconditionFailure("the books are large enough") }
    self.driver = driver
    self.rig = rig
  }

  static func connected(
    ports: Int, depth: Int, bufferSize: Int, isMultiport: Bool = true
  ) throws -> ConsolePair {
    var pair = try ConsolePair(
      ports: ports, depth: depth, bufferSize: bufferSize, isMultiport: isMultiport)
    try pair.connect()
    return pair
  }

  /// A fresh device meets the driver.
  mutating func connect() throws {
    rig.reset()
    driver.detach()
    for index in 0..<(features.contains(.consoleMultiport) ? driver.layout.queueCount : 2) {
      driver.attach(try rig.enable(index), at: index)
    }
    rig.device.start(features: features)
    driver.begin(features: features)
    _ = driver.publish()
  }

  mutating func settle() throws {
    for _ in 0..<1000 {
      let hasMoved = try driver.step()
      _ = driver.publish()
      guard try rig.pump() || hasMoved else { return }
    }
    preconditionFailure("the two never come to rest")
  }

  mutating func write(_ port: Int, _ bytes: [UInt8]) throws -> Int {
    let count = try driver.write(port: port, bytes.span)
    _ = driver.publish()
    return count
  }

  mutating func read(_ port: Int, _ limit: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: limit)
    var span = bytes.mutableSpan
    let count = try driver.read(port: port, into: &span)
    _ = driver.publish()
    return Array(bytes[..<count])
  }
}

@Suite struct ConsoleDriverTests {
  @Test func portsAreLearnt() throws {
    var pair = try ConsolePair.connected(ports: 3, depth: 4, bufferSize: 64, isMultiport: true)
    pair.rig.device.host.ports[0].size = ConsoleSize(columns: 132, rows: 43)
    pair.rig.device.host.ports[2].isOpen = false
    pair.rig.device.host.hasNews = true
    try pair.settle()
    for port in 0..<3 {
      #expect(pair.driver.isAdded(port: port) == true)
      #expect(pair.driver.isConsole(port: port) == (port == 0))
      #expect(pair.driver.isHostOpen(port: port) == (port < 2))
    }
    #expect(pair.driver.size(port: 0) == ConsoleSize(columns: 132, rows: 43))
    var name: [UInt8] = []
    for index in 0..<pair.driver.nameCount(port: 2) {
      name.append(pair.driver.nameByte(port: 2, at: index))
    }
    #expect(name == Array("port.2".utf8))
    #expect(pair.driver.counters.badMessages == 0)
    #expect(pair.rig.device.counters.badMessages == 0)
  }

  /// The specification has console ports opened at once; others are opened by their users.
  @Test func aConsolePortIsOpenedByItself() throws {
    var pair = try ConsolePair.connected(ports: 2, depth: 4, bufferSize: 64, isMultiport: true)
    for port in 0..<2 { pair.rig.device.host.ports[port].incoming = [7] }
    pair.rig.device.host.hasNews = true
    try pair.settle()
    let console = try pair.read(0, 10)
    #expect(console == [7])
    let closed = try pair.read(1, 10)
    #expect(closed == [])
    pair.driver.setOpen(true, port: 1)
    try pair.settle()
    let opened = try pair.read(1, 10)
    #expect(opened == [7])
  }

  /// What the device has taken is taken back by a step, so that nothing is left to wake up for.
  @Test(arguments: [false, true])
  func aStepLeavesNothingPending(isMultiport: Bool) throws {
    var pair = try ConsolePair.connected(
      ports: isMultiport ? 2 : 1, depth: 4, bufferSize: 64, isMultiport: isMultiport)
    try pair.settle()
    let count = try pair.write(0, [1, 2, 3])
    #expect(count == 3)
    try pair.settle()
    #expect(pair.driver.hasCompletion == false)
  }

  @Test func withoutMultiportItJustTalks() throws {
    var pair = try ConsolePair.connected(ports: 1, depth: 2, bufferSize: 8, isMultiport: false)
    #expect(pair.driver.isConsole(port: 0) == true)
    pair.rig.device.host.ports[0].incoming = Array("from the host".utf8)
    pair.rig.device.host.hasNews = true
    try pair.settle()
    var got = try pair.read(0, 100)
    try pair.settle()
    got += try pair.read(0, 100)
    #expect(got == Array("from the host".utf8))
    let sent = try pair.write(0, Array("from the driver".utf8))
    #expect(sent == 15)
    try pair.settle()
    #expect(pair.rig.device.host.ports[0].outgoing == Array("from the driver".utf8))
  }

  /// Bytes in both directions over all ports, beside two lists a port, while the host is slow,
  /// goes away and comes back, the driver closes ports, and the device is reset: nothing is lost,
  /// doubled or out of order.
  @Test(arguments: 1...32)
  func streamsBesideLists(seed: Int) throws {
    var dice = Dice(state: UInt64(seed))
    let isMultiport = seed % 4 != 0
    let ports = isMultiport ? 2 + dice.below(4) : 1
    var pair = try ConsolePair.connected(
      ports: ports, depth: 1 + dice.below(8), bufferSize: 20 + dice.below(700),
      isMultiport: isMultiport)
    for port in 0..<ports { pair.driver.setOpen(true, port: port) }
    var toHost = [[UInt8]](repeating: [], count: ports)
    var toDriver = toHost
    var read = toHost
    for _ in 0..<300 {
      let port = dice.below(ports)
      switch dice.below(14) {
      case 0...2:
        let bytes = dice.bytes(1 + dice.below(2000))
        let count = try pair.write(port, bytes)
        toHost[port] += bytes[..<count]
      case 3...4:
        let bytes = dice.bytes(1 + dice.below(3000))
        pair.rig.device.host.ports[port].incoming += bytes
        toDriver[port] += bytes
        pair.rig.device.host.hasNews = true
      case 5:
        pair.rig.device.host.ports[port].room = dice.below(2) == 0 ? .max : dice.below(500)
        pair.rig.device.host.hasNews = true
      case 6: pair.rig.device.host.grain = dice.below(2) == 0 ? .max : 1 + dice.below(200)
      case 7: pair.driver.setOpen(dice.below(3) > 0, port: port)
      case 8...9: read[port] += try pair.read(port, 1 + dice.below(4000))
      case 10:
        pair.rig.device.host.ports[port].size.rows &+= 1
        pair.rig.device.host.hasNews = true
      default: try pair.settle()
      }
    }
    // Everything flows in the end.
    pair.rig.device.host.grain = .max
    for port in 0..<ports {
      pair.rig.device.host.ports[port].room = .max
      pair.driver.setOpen(true, port: port)
    }
    for _ in 0..<10_000 {
      pair.rig.device.host.hasNews = true
      try pair.settle()
      var count = 0
      for port in 0..<ports {
        let bytes = try pair.read(port, 4096)
        read[port] += bytes
        count += bytes.count
      }
      if count == 0 { break }
    }
    for port in 0..<ports {
      // A comparison inside the macro would print every byte.
      let isReadWhole = read[port] == toDriver[port]
      #expect(isReadWhole, "port \(port): \(read[port].count) of \(toDriver[port].count)")
      let outgoing = pair.rig.device.host.ports[port].outgoing
      let isSentWhole = outgoing == toHost[port]
      #expect(isSentWhole, "port \(port): \(outgoing.count) of \(toHost[port].count)")
      let unsent = try pair.driver.unsentCount(port: port)
      #expect(unsent == 0)
    }
    #expect(pair.rig.device.counters.bytesDropped == 0)
    #expect(pair.driver.counters.badMessages == 0)
    if isMultiport {
      #expect(pair.driver.size(port: 0).rows == pair.rig.device.host.ports[0].size.rows)
    }
  }

  /// What no device took goes out again, in order; ports that were open are opened again.
  @Test(arguments: 1...20)
  func restartsLoseNothing(seed: Int) throws {
    var dice = Dice(state: UInt64(seed) &* 977)
    var pair = try ConsolePair.connected(
      ports: 2, depth: 8, bufferSize: 50, isMultiport: true)
    pair.driver.setOpen(true, port: 1)
    var sent: [UInt8] = []
    for _ in 0..<30 {
      let bytes = dice.bytes(1 + dice.below(300))
      let count = try pair.write(1, bytes)
      sent += bytes[..<count]
      // The host is quick here: what the device took it has returned.
      if dice.below(2) == 0 { try pair.settle() }
      if dice.below(4) == 0 { try pair.connect() }
    }
    try pair.settle()
    let isWhole = pair.rig.device.host.ports[1].outgoing == sent
    #expect(isWhole, "\(pair.rig.device.host.ports[1].outgoing.count) of \(sent.count)")
    #expect(pair.driver.counters.resubmitted > 0)
    pair.rig.device.host.ports[1].incoming = [1, 2, 3]
    pair.rig.device.host.hasNews = true
    try pair.settle()
    let got = try pair.read(1, 10)
    #expect(got == [1, 2, 3])
  }

  /// A device that says anything at all in its control messages.
  @Test(arguments: 1...40)
  func hostileMessagesAreCounted(seed: Int) throws {
    var dice = Dice(state: UInt64(seed) &* 31)
    var pair = try ConsolePair.connected(ports: 2, depth: 2, bufferSize: 32, isMultiport: true)
    try pair.settle()
    // The device side of the control queue, by hand: the driver keeps 16 buffers in it.
    let ring = 0x1000 + 2 * ConsoleRig.ringStride
    var index = pair.rig.region.load16(ring + 0x2000 + 2)
    for _ in 0..<200 {
      let head = pair.rig.region.load16(ring + 0x1000 + 4 + 2 * Int(index & 63))
      let address = Int(pair.rig.region.load64(ring + 16 * Int(head)))
      let count = dice.below(129)
      var bytes = dice.bytes(128)
      if dice.below(2) == 0 {
        bytes.replaceSubrange(
          0..<8,
          with: message(
            UInt32(dice.below(4)), UInt16(dice.below(9)), UInt16(dice.below(3))))
      }
      pair.rig.store(bytes, at: address)
      pair.rig.region.store32(UInt32(head), at: ring + 0x2000 + 4 + 8 * Int(index & 63))
      pair.rig.region.store32(UInt32(count), at: ring + 0x2000 + 8 + 8 * Int(index & 63))
      index &+= 1
      pair.rig.region.store16Releasing(index, at: ring + 0x2000 + 2)
      let hasMoved = try pair.driver.step()
      #expect(hasMoved)
      _ = pair.driver.publish()
    }
    #expect(pair.driver.counters.badMessages > 0)
    #expect(pair.driver.nameCount(port: 1) <= ConsoleFormat.nameLimit)
  }
}
