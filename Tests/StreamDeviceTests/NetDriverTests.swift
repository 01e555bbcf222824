import SharedMemory
import Testing
import VirtioDevice
import VirtioNet
import Virtqueue

/// A driver beside the device over the same rings.
struct NetPair: ~Copyable {
  // In this order: the driver's books lie in the rig's memory, which has to end after it.
  var driver: NetDriver
  var rig: NetRig
  var features = FeatureSet()

  init(pairs: Int = 1, depth: Int, receiveSize: Int, sendSize: Int = 1600) throws {
    var rig = try netRig(pairs: pairs)
    let layout = NetDriverLayout(
      pairs: pairs, depth: depth, sendSize: sendSize, receiveSize: receiveSize)
    let out = BufferSegment(offset: NetRig.dataBase, count: layout.outBytes)
    let into = BufferSegment(offset: NetRig.dataBase + layout.outBytes, count: layout.inBytes)
    precondition(into.offset + into.count <= NetRig.total)
    let made = NetDriver(
      layout, out: out, into: into, region: rig.region, arena: &rig.driverBooks)
    guard let driver = made else { preconditionFailure("the books are large enough") }
    self.driver = driver
    self.rig = rig
  }

  /// Resets the device and sets it up with `features` among those on offer.
  mutating func connect(_ features: FeatureSet = FeatureSet(rawValue: .max)) throws {
    driver.detach()
    rig.reset()
    self.features = NetDriver.wanted(of: rig.device.offeredFeatures.intersection(features))
    let pairs = self.features.contains(.netQueuePairs) ? rig.device.pairs : 1
    for index in 0..<2 * pairs + 1 {
      guard let place = NetQueue(index: index, pairs: pairs) else { continue }
      driver.attach(try rig.enable(index), at: place)
    }
    rig.device.start(features: self.features)
    driver.begin(features: self.features)
    _ = driver.publish()
  }

  mutating func receive(pair: Int = 0) throws -> TestFrame? {
    var bytes = [UInt8](repeating: 0, count: NetFormat.frameLimit)
    var span = bytes.mutableSpan
    var offload = FrameOffload()
    let count = try driver.receive(into: &span, &offload, pair: pair)
    _ = driver.publish()
    return count == 0 ? nil : TestFrame(bytes: Array(bytes[..<count]), offload: offload)
  }

  mutating func command(_ command: NetCommand, _ argument: UInt64 = 0) throws -> Bool? {
    guard driver.start(command, argument) else { return nil }
    _ = driver.publish()
    try rig.settle()
    return try driver.takeAnswer()
  }
}

@Suite struct VirtioNetDriverTests {
  @Test func framesBothWays() throws {
    var pair = try NetPair(depth: 4, receiveSize: 1600)
    try pair.connect()
    let frame = Frames.plain(60)
    let isSent = try pair.driver.send(frame.span)
    #expect(isSent)
    _ = pair.driver.publish()
    pair.rig.device.host.incoming = [TestFrame(bytes: Frames.plain(70))]
    pair.rig.device.host.hasNews = true
    try pair.rig.settle()
    #expect(pair.rig.device.host.outgoing == [TestFrame(bytes: frame)])
    let found = try pair.receive()
    #expect(found == TestFrame(bytes: Frames.plain(70)))
    let none = try pair.receive()
    #expect(none == nil)
  }

  @Test func commands() throws {
    var pair = try NetPair(pairs: 2, depth: 4, receiveSize: 1600)
    try pair.connect()
    let answers = [
      try pair.command(.promiscuous, 0), try pair.command(.setPairs, 2),
      try pair.command(.setPairs, 3), try pair.command(.setAddress, Frames.other.rawValue),
      try pair.command(.announced), try pair.command(.setOffloads, 2),
    ]
    // Three pairs are more than there are: that is not asked at all.
    #expect(answers == [true, true, nil, true, false, true])
    #expect(pair.rig.device.address == Frames.other)
    #expect(pair.driver.counters.refusedCommands == 1)
    let addresses = (0..<NetFormat.filterLimit).map { MACAddress(rawValue: 2 | UInt64($0) << 40) }
    let isStarted = pair.driver.startTables(unicast: addresses.span, multicast: addresses.span)
    let another = pair.driver.start(.promiscuous, 1)
    #expect(isStarted && !another)
    _ = pair.driver.publish()
    try pair.rig.settle()
    let answer = try pair.driver.takeAnswer()
    #expect(answer == true)
    pair.rig.device.host.incoming = [
      TestFrame(bytes: Frames.plain(60, to: addresses[31])),
      TestFrame(bytes: Frames.plain(61, to: MACAddress(rawValue: 0xff_00_00_00_00_06))),
    ]
    pair.rig.device.host.hasNews = true
    try pair.rig.settle()
    let found = try pair.receive()
    #expect(found?.bytes.count == 60)
    let none = try pair.receive()
    #expect(none == nil)
    #expect(pair.rig.device.counters.filtered == 1)
  }

  /// No command of a feature that was not agreed, no pair that was not switched on.
  @Test func nothingWithoutItsFeature() throws {
    var pair = try NetPair(pairs: 2, depth: 4, receiveSize: 1600)
    try pair.connect(.netControl)
    for command in [
      NetCommand.promiscuous, .allMulticast, .allUnicast, .noMulticast, .noUnicast, .noBroadcast,
      .setAddress, .announced, .setPairs, .setOffloads,
    ] {
      let isStarted = pair.driver.start(command, 1)
      #expect(!isStarted, "\(command)")
    }
    let none: [MACAddress] = []
    let isStarted = pair.driver.startTables(unicast: none.span, multicast: none.span)
    #expect(!isStarted)
    // Before the command only the first pair is used, whatever the caller says.
    try pair.connect()
    let frame = Frames.plain(60)
    let isSent = try pair.driver.send(frame.span, pair: 1)
    _ = pair.driver.publish()
    try pair.rig.settle()
    let taken = [pair.rig.taken(queue: 1), pair.rig.taken(queue: 3)]
    #expect(isSent && pair.driver.activePairs == 1 && taken == [1, 0])
    let answer = try pair.command(.setPairs, 2)
    #expect(answer == true && pair.driver.activePairs == 2)
    let isSentOnSecond = try pair.driver.send(frame.span, pair: 1)
    _ = pair.driver.publish()
    try pair.rig.settle()
    let takenNow = [pair.rig.taken(queue: 1), pair.rig.taken(queue: 3)]
    #expect(isSentOnSecond && takenNow == [1, 1])
    // On its way out a pair takes nothing more, answered or not.
    let isStartedAgain = pair.driver.start(.setPairs, 1)
    #expect(isStartedAgain && pair.driver.activePairs == 1)
  }

  @Test func configurations() {
    var raw: [UInt8] = [2, 0, 0, 0, 0, 1, 2, 0, 3, 0, 0x28, 0x23]
    let all = FeatureSet(rawValue: .max)
    let full = NetConfiguration(raw.span, features: all)
    #expect(full.address == Frames.driver && !full.isLinkUp && full.isAnnouncementDue)
    #expect(full.pairs == 3 && full.mtu == 9000)
    let none = NetConfiguration(raw.span, features: FeatureSet())
    #expect(none.address == nil && none.isLinkUp && !none.isAnnouncementDue)
    #expect(none.pairs == 1 && none.mtu == 1500)
    raw = [3, 0, 0, 0, 0, 1, 1, 0, 0xff, 0xff, 67, 0]
    let wrong = NetConfiguration(raw.span, features: all)
    #expect(wrong.address == nil && wrong.pairs == NetFormat.pairLimit && wrong.mtu == 1500)
  }

  /// Both sides against a model, with random features, sizes, back-pressure and resets. In each
  /// direction what arrives is what was put in, in order; only a reset loses frames.
  @Test(arguments: 1...60)
  func driverAndDevice(seed: Int) throws {
    var dice = Dice(state: UInt64(seed))
    let isMergeable = dice.below(2) == 0
    var pair = try NetPair(
      depth: 24 + dice.below(40), receiveSize: isMergeable ? 100 + dice.below(2000) : 1600)
    let mask = FeatureSet(rawValue: dice.next() << 32 | dice.next())
      .union(isMergeable ? .netMergeable : FeatureSet())
      .subtracting(isMergeable ? FeatureSet() : FeatureSet.netMergeable)
      .subtracting(.netControlReceive).subtracting(isMergeable ? FeatureSet() : .netGuestTCP4)
    try pair.connect(mask)
    var sent: [[UInt8]] = []
    var given: [[UInt8]] = []
    var received: [[UInt8]] = []
    var number = 0
    func frame(_ dice: inout Dice) -> [UInt8] {
      number += 1
      let start: [UInt8] = Frames.plain(20 + dice.below(1480))
      return start + Frames.word(number)
    }
    for _ in 0..<300 {
      switch dice.below(10) {
      case 0...2:
        let next = frame(&dice)
        if try pair.driver.send(next.span) { sent.append(next) }
        _ = pair.driver.publish()
      case 3, 4:
        let next = frame(&dice)
        pair.rig.device.host.incoming.append(TestFrame(bytes: next))
        given.append(next)
        pair.rig.device.host.hasNews = true
      case 5:
        pair.rig.device.host.room = dice.below(6)
        pair.rig.device.host.hasNews = true
      case 6, 7: try pair.rig.pump()
      case 8 where dice.below(12) == 0: try pair.connect(mask)
      default: while let found = try pair.receive() { received.append(found.bytes) }
      }
    }
    pair.rig.device.host.room = .max
    for _ in 0..<200 {
      pair.rig.device.host.hasNews = true
      try pair.rig.settle()
      guard let found = try pair.receive() else { break }
      received.append(found.bytes)
    }
    try pair.rig.settle()
    // What came is what was given, less what the resets lost: in its order, nothing twice.
    func isPart(_ part: [[UInt8]], of whole: [[UInt8]]) -> Bool {
      var rest = whole[...]
      for frame in part {
        guard let place = rest.firstIndex(of: frame) else { return false }
        rest = rest[(place + 1)...]
      }
      return true
    }
    let out = pair.rig.device.host.outgoing.map(\.bytes)
    #expect(isPart(received, of: given), "seed \(seed)")
    #expect(isPart(out, of: sent), "seed \(seed)")
    let counters = pair.rig.device.counters
    let driver = pair.driver.counters
    #expect(driver.badFrames == 0 && driver.empty == 0 && counters.noRoom == 0, "seed \(seed)")
    #expect(counters.badHeaders == 0 && counters.undersized == 0, "seed \(seed)")
    #expect(UInt64(sent.count - out.count) <= driver.lost + counters.lostInReset, "seed \(seed)")
    if driver.lost + counters.lostInReset == 0 {
      #expect(received == given || counters.framesToDriver == UInt64(received.count))
      #expect(out == sent, "seed \(seed)")
    }
  }
}

/// Sides that say anything.
@Suite struct VirtioNetHostileTests {
  /// A driver that sends random chains on every queue, with headers that are nearly right: the
  /// device takes them all, gives the host only frames whose offload fits, and traps nowhere.
  @Test(arguments: 1...80)
  func aHostileDriver(seed: Int) throws {
    var dice = Dice(state: UInt64(seed))
    var rig = try netRig(pairs: 2)
    for _ in 0..<4 {
      rig.reset()
      rig.device.start(features: FeatureSet(rawValue: dice.next() << 32 | dice.next()))
      for _ in 0..<3 {
        let queue = dice.below(5)
        var hand = try NetHand(&rig, queue)
        for _ in 0..<10 {
          let isIPv6 = dice.below(2) == 0
          var message = bytes(
            of: Frames.header(isIPv6: isIPv6, size: UInt16(dice.below(2) * dice.below(2000))))
          message += Frames.tcp(dice.bytes(dice.below(2500)), isIPv6: isIPv6)
          for _ in 0..<dice.below(4) {
            message[dice.below(66)] = UInt8(truncatingIfNeeded: dice.next())
          }
          if dice.below(3) == 0 {
            message = [UInt8(dice.below(7)), UInt8(dice.below(7))] + dice.bytes(dice.below(30))
          }
          if dice.below(4) == 0 { message.removeLast(dice.below(message.count)) }
          let writable = (0..<dice.below(3)).map { _ in dice.below(300) }
          if message.isEmpty, writable.allSatisfy({ $0 == 0 }) { continue }
          do {
            try hand.put(
              rig, message, cut: 1 + dice.below(2) * 60 + message.count / 8,
              writable: writable.filter { $0 > 0 })
          } catch AddError.full { break }
          if dice.below(3) == 0 {
            let large = Frames.tcp(dice.bytes(4000), isIPv6: isIPv6)
            let header = Frames.header(isIPv6: isIPv6, size: 1000)
            let offload = try VirtioNetFrameTests.check(header, large).get()
            rig.device.host.incoming.append(TestFrame(bytes: large, offload: offload))
            rig.device.host.hasNews = true
          }
          if dice.below(8) == 0 { rig.device.host.room = dice.below(3) }
          if dice.below(8) == 0 { rig.device.cancel(queue: dice.below(5)) }
          try rig.settle()
          rig.device.host.room = .max
          rig.device.host.hasNews = true
          try rig.settle()
        }
      }
      for frame in rig.device.host.outgoing {
        #expect(frame.bytes.count >= 14 && frame.bytes.count <= NetFormat.frameLimit)
        guard frame.offload.needsChecksum else { continue }
        let end = Int(frame.offload.checksumStart) + Int(frame.offload.checksumOffset) + 2
        #expect(end <= frame.bytes.count)
        let isCuttable = FrameCut(frame.bytes.span, frame.offload) != nil
        #expect(isCuttable || frame.offload.segmentation == .none)
      }
    }
  }

  /// A device that returns any buffer with any length and any header: frames come out checked, or
  /// the queue breaks; no trap, and after a reset the driver works.
  @Test(arguments: 1...80)
  func aHostileDevice(seed: Int) throws {
    var dice = Dice(state: UInt64(seed))
    var pair = try NetPair(depth: 16, receiveSize: 200)
    try pair.connect()
    let used = 0x1000 + 0x2000
    let buffers = NetRig.dataBase + pair.driver.layout.outBytes
    var index: UInt16 = 0
    var broken = 0
    for _ in 0..<300 {
      for _ in 0..<dice.below(4) {
        let token = dice.below(dice.below(20) == 0 ? 70 : 16)
        var header = bytes(of: NetHeader())
        header[10] = UInt8(dice.below(4))
        if dice.below(4) == 0 { header[dice.below(12)] = UInt8(truncatingIfNeeded: dice.next()) }
        pair.rig.store(header + Frames.tcp(dice.bytes(100)), at: buffers + (token % 16) * 200)
        let place = used + 4 + 8 * Int(index % 64)
        pair.rig.region.store32(UInt32(token), at: place)
        pair.rig.region.store32(UInt32(dice.below(dice.below(30) == 0 ? 210 : 201)), at: place + 4)
        index &+= 1
      }
      pair.rig.region.store16Releasing(index, at: used + 2)
      do {
        while let frame = try pair.receive() {
          #expect(frame.bytes.count >= 14 && frame.bytes.count <= 16 * 200)
          if frame.offload.segmentation != .none {
            let isCuttable = FrameCut(frame.bytes.span, frame.offload) != nil
            #expect(isCuttable)
          }
        }
      } catch is QueueError {
        broken += 1
        try pair.connect()
        index = 0
      }
    }
    #expect(broken > 0, "seed \(seed)")
    try pair.connect()
    pair.rig.device.host.incoming = [TestFrame(bytes: Frames.plain(60))]
    pair.rig.device.host.hasNews = true
    try pair.rig.settle()
    let found = try pair.receive()
    #expect(found?.bytes.count == 60)
  }
}
