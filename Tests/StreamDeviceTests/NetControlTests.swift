import SharedMemory
import Testing
import VirtioDevice
import VirtioNet
import Virtqueue

@Suite struct VirtioNetControlTests {
  static let features: FeatureSet = FeatureSet.netControl.union(.netControlReceive)
    .union(.netControlReceiveExtra).union(.netControlAddress).union(.netAnnounce)
    .union(.netStatus).union(.netControlOffloads).union(.netGuestChecksum).union(.netGuestTCP4)

  /// Which of these destinations get through.
  static func taken(_ rig: inout NetRig, _ receive: inout NetHand) throws -> [Bool] {
    let destinations = [
      Frames.driver, Frames.other, .broadcast, MACAddress(rawValue: 0x5e_0001),
      MACAddress(rawValue: 0x5e_0003),
    ]
    var result: [Bool] = []
    for destination in destinations {
      let before = rig.device.counters.framesToDriver
      rig.device.host.incoming = [TestFrame(bytes: Frames.plain(60, to: destination))]
      rig.device.host.hasNews = true
      try receive.put(rig, [], writable: [100])
      try rig.settle()
      result.append(rig.device.counters.framesToDriver > before)
    }
    return result
  }

  /// Each mode alone, on and off, after promiscuous mode is off.
  @Test func receiveModes() throws {
    let expected: [(number: UInt8, on: [Bool])] = [
      (0, [true, true, true, true, true]), (1, [true, false, true, true, true]),
      (2, [true, true, true, false, false]), (3, [true, false, true, false, false]),
      (4, [false, false, true, false, false]), (5, [true, false, false, false, false]),
    ]
    for (number, on) in expected {
      var rig = try netRig()
      rig.device.start(features: Self.features)
      var receive = try NetHand(&rig, 0)
      var control = try NetHand(&rig, 2)
      let atFirst = try Self.taken(&rig, &receive)
      #expect(atFirst == [true, true, true, true, true])
      let off = try control.command(&rig, [0, 0, 0])
      #expect(off == 0)
      let answer = try control.command(&rig, [0, number, 1])
      #expect(answer == 0)
      let withMode = try Self.taken(&rig, &receive)
      #expect(withMode == on, "mode \(number)")
      let again = try control.command(&rig, [0, number, 0])
      #expect(again == 0)
      let without = try Self.taken(&rig, &receive)
      #expect(without == [true, false, true, false, false])
    }
  }

  static func table(_ unicast: [MACAddress], _ multicast: [MACAddress]) -> [UInt8] {
    func part(_ addresses: [MACAddress]) -> [UInt8] {
      [UInt8(addresses.count & 255), UInt8(addresses.count >> 8), 0, 0]
        + addresses.flatMap { bytes(of: $0) }
    }
    return [1, 0] + part(unicast) + part(multicast)
  }

  @Test func tables() throws {
    var rig = try netRig()
    rig.device.start(features: Self.features)
    var receive = try NetHand(&rig, 0)
    var control = try NetHand(&rig, 2)
    _ = try control.command(&rig, [0, 0, 0])
    let many = (0..<40).map { MACAddress(rawValue: 0x02 | UInt64($0) << 40) }
    let cases: [([UInt8], UInt8, [Bool])] = [
      (Self.table([Frames.other], []), 0, [true, true, true, false, false]),
      (Self.table([], [MACAddress(rawValue: 0x5e_0003)]), 0, [true, false, true, false, true]),
      // Too many: all of the kind.
      (Self.table(many, []), 0, [true, true, true, false, false]),
      (Self.table([], many), 0, [true, false, true, true, true]),
      (Self.table([], []), 0, [true, false, true, false, false]),
      // Counts that do not fit the bytes change nothing.
      (Array(Self.table([Frames.other], []).dropLast()), 1, [true, false, true, false, false]),
      (Self.table([Frames.other], []) + [0], 1, [true, false, true, false, false]),
      ([1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], 1, [true, false, true, false, false]),
      ([1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x2a], 1, [true, false, true, false, false]),
      ([1, 0], 1, [true, false, true, false, false]),
    ]
    for (index, (command, answer, expected)) in cases.enumerated() {
      let found = try control.command(&rig, command)
      #expect(found == answer, "case \(index)")
      let taken = try Self.taken(&rig, &receive)
      #expect(taken == expected, "case \(index)")
    }
  }

  @Test func theAddress() throws {
    var rig = try netRig()
    rig.device.start(features: Self.features)
    var control = try NetHand(&rig, 2)
    let set = try control.command(&rig, [1, 1] + bytes(of: Frames.other))
    #expect(set == 0)
    #expect(rig.device.host.given == Frames.other)
    #expect(rig.device.configurationByte(at: 5) == 2)
    for wrong in [MACAddress.broadcast, MACAddress.none] {
      let answer = try control.command(&rig, [1, 1] + bytes(of: wrong))
      #expect(answer == 1)
    }
    rig.device.host.grantsAddress = false
    let refused = try control.command(&rig, [1, 1] + bytes(of: Frames.driver))
    #expect(refused == 1)
    #expect(rig.device.address == Frames.other)
    // The next driver finds the device's own one.
    rig.device.host.grantsAddress = true
    rig.reset()
    #expect(rig.device.address == Frames.driver)
    #expect(rig.device.host.given == Frames.driver)
  }

  /// The link and the wish for an announcement are in the status, and each change is told.
  @Test func statusChanges() throws {
    var rig = try netRig()
    func changed(_ rig: inout NetRig) throws -> Bool {
      rig.device.host.hasNews = true
      try rig.settle()
      return rig.device.takeConfigurationChange()
    }
    rig.device.start(features: Self.features)
    var control = try NetHand(&rig, 2)
    let first = try changed(&rig)
    #expect(!first && rig.device.status == .linkUp)
    rig.device.host.isLinkUp = false
    let down = try changed(&rig)
    #expect(down && rig.device.status == NetStatus())
    rig.device.host.isLinkUp = true
    rig.device.host.wantsAnnouncement = true
    let up = try changed(&rig)
    #expect(up && rig.device.configurationByte(at: 6) == 3)
    let acknowledged = try control.command(&rig, [3, 0])
    #expect(acknowledged == 0 && rig.device.status == .linkUp)
    let twice = try control.command(&rig, [3, 0])
    #expect(twice == 1)
  }

  /// Commands of features that were not agreed, of no class, too short or too long.
  @Test func wrongCommands() throws {
    let commands: [[UInt8]] = [
      [0, 0, 1], [0, 2, 1], [1, 0, 0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 2, 0, 0, 0, 0, 9], [3, 0],
      [4, 0, 1, 0], [5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ]
    var rig = try netRig()
    rig.device.start(features: .netControl)
    var control = try NetHand(&rig, 2)
    for command in commands {
      let answer = try control.command(&rig, command)
      #expect(answer == 1, "\(command)")
    }
    rig.reset()
    rig.device.start(features: Self.features)
    var other = try NetHand(&rig, 2)
    let wrong: [[UInt8]] = [
      [], [0], [0, 0], [0, 0, 2], [0, 0, 1, 0], [0, 6, 1], [1, 1, 2, 0, 0, 0, 0],
      [2, 0, 1, 0], [4, 0, 1, 0], [5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], [9, 9, 9],
      [5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    ]
    for command in wrong {
      let answer = try other.command(&rig, command)
      #expect(answer == 1, "\(command)")
    }
    // Without room for the answer nothing is done.
    try other.put(rig, [0, 0, 0])
    try rig.settle()
    let nothing = try other.take(rig)
    #expect(nothing == [])
    #expect(rig.device.counters.badCommands == UInt64(commands.count + wrong.count + 1))
  }

  /// Offloads that are switched off are done here from the next frame on, also for one that waits.
  @Test func offloadsAreSwitched() throws {
    var rig = try netRig()
    rig.device.start(features: Self.features)
    var receive = try NetHand(&rig, 0)
    var control = try NetHand(&rig, 2)
    let bytes = Frames.tcp([1, 2, 3])
    let offload = try VirtioNetFrameTests.check(
      Frames.header(isIPv6: false, size: 0), bytes
    ).get()
    rig.device.host.incoming = [TestFrame(bytes: bytes, offload: offload)]
    try rig.settle()
    // TSO needs the checksum.
    let lone = try control.command(&rig, [5, 0, 0x80, 0, 0, 0, 0, 0, 0, 0])
    #expect(lone == 1)
    let off = try control.command(&rig, [5, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    #expect(off == 0)
    try receive.put(rig, [], writable: [100])
    try rig.settle()
    let answer = try #require(try receive.take(rig))
    #expect(answer[0] == 0 && Frames.isWhole(Array(answer[12...]), isIPv6: false))
  }

  /// Two flows on two pairs: what comes back takes the pair the driver used; a pair that is
  /// switched off is not used any more, not even for a frame that waits for it.
  @Test func flowsStayOnTheirPair() throws {
    var rig = try netRig(pairs: 3)
    rig.device.start(features: Self.features | .netQueuePairs)
    var control = try NetHand(&rig, 6)
    for (count, expected) in [(UInt8(0), UInt8(1)), (4, 1), (3, 0)] {
      let answer = try control.command(&rig, [4, 0, count, 0])
      #expect(answer == expected)
    }
    var transmit = try NetHand(&rig, 5)
    var first = try NetHand(&rig, 0)
    var third = try NetHand(&rig, 4)
    let flow = Frames.tcp([7], port: 4242)
    try transmit.send(rig, NetHeader(), flow)
    try rig.settle()
    rig.device.host.incoming = [TestFrame(bytes: flow), TestFrame(bytes: Frames.plain(60))]
    rig.device.host.hasNews = true
    try first.put(rig, [], writable: [100])
    try third.put(rig, [], writable: [100])
    try rig.settle()
    let answers = [try first.take(rig)?.count, try third.take(rig)?.count]
    #expect(answers == [72, 12 + flow.count])
    rig.device.host.incoming = [TestFrame(bytes: flow)]
    rig.device.host.hasNews = true
    try rig.settle()
    let one = try control.command(&rig, [4, 0, 1, 0])
    #expect(one == 0)
    try first.put(rig, [], writable: [100])
    try rig.settle()
    let moved = try first.take(rig)
    #expect(moved?.count == 12 + flow.count)
  }

  /// A device in the place of one that ended: its driver may have switched pairs on, and sends on
  /// them without saying so again; it gets frames where every driver has buffers.
  @Test func aDriverWithPairsIsServed() throws {
    var rig = try netRig(pairs: 3)
    rig.device.resume(features: Self.features | .netQueuePairs)
    var transmit = try NetHand(&rig, 5)
    var first = try NetHand(&rig, 0)
    let flow = Frames.tcp([7], port: 4242)
    try transmit.send(rig, NetHeader(), flow)
    try rig.settle()
    #expect(rig.device.host.outgoing.count == 1)
    rig.device.host.incoming = [TestFrame(bytes: flow)]
    rig.device.host.hasNews = true
    try first.put(rig, [], writable: [100])
    try rig.settle()
    let got = try first.take(rig)
    #expect(got?.count == 12 + flow.count)
    // What it says from now on holds, and so does its end.
    var control = try NetHand(&rig, 6)
    let answer = try control.command(&rig, [4, 0, 2, 0])
    #expect(answer == 0)
    #expect(rig.device.canServe(queue: 3) && !rig.device.canServe(queue: 5))
    rig.device.stop()
    rig.device.start(features: Self.features | .netQueuePairs)
    #expect(rig.device.canServe(queue: 1) && !rig.device.canServe(queue: 3))
  }

  /// Without VIRTIO_NET_F_MQ the control queue is the third, whatever the device could do.
  @Test func theControlQueueWithoutPairs() throws {
    var rig = try netRig(pairs: 4)
    rig.device.start(features: Self.features)
    var control = try NetHand(&rig, 2)
    let answer = try control.command(&rig, [0, 0, 0])
    #expect(answer == 0)
    let others = (3..<9).map { rig.device.canServe(queue: $0) }
    #expect(!others.contains(true))
  }
}
