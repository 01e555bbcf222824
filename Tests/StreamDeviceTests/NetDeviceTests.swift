import SharedMemory
import Testing
import VirtioDevice
import VirtioNet
import Virtqueue

@Suite struct VirtioNetDeviceTests {
  static let offloads: FeatureSet =
    .netChecksum | .netHostTCP4 | .netHostTCP6 | .netGuestChecksum | .netGuestTCP4 | .netGuestTCP6

  @Test func whatItIs() throws {
    let one = try netRig()
    #expect(one.device.deviceID == 1)
    #expect(one.device.queueCount == 3)
    #expect(!one.device.offeredFeatures.contains(.netQueuePairs))
    #expect(one.device.offeredFeatures == one.device.offeredFeatures.netConsistent)
    let most = try netRig(pairs: NetFormat.pairLimit)
    #expect(most.device.queueCount == 31 && most.device.queueCount <= DeviceLimits.queues)
    #expect(most.device.offeredFeatures.contains(.netQueuePairs))
    var configuration: [UInt8] = []
    for offset in 0..<12 { configuration.append(most.device.configurationByte(at: offset)) }
    #expect(configuration == [2, 0, 0, 0, 0, 1, 1, 0, 15, 0, 0xdc, 5])
  }

  @Test func queuesAreNumberedAsTheSpecificationSays() {
    for pairs in 1...NetFormat.pairLimit {
      for index in 0..<2 * pairs {
        let expected =
          index % 2 == 0
          ? NetQueue.receive(pair: index / 2) : NetQueue.transmit(pair: index / 2)
        #expect(NetQueue(index: index, pairs: pairs) == expected)
        #expect(expected.index(pairs: pairs) == index)
      }
      #expect(NetQueue(index: 2 * pairs, pairs: pairs) == .control)
      #expect(NetQueue(index: 2 * pairs + 1, pairs: pairs) == nil)
    }
  }

  // MARK: From the driver

  /// However the driver cuts header and frame into descriptors, the host gets the frame.
  @Test func framesGoOutHoweverTheyAreCut() throws {
    let frame = Frames.plain(60)
    for cut in [2, 5, 11, 12, 13, 14, 26, 71, 72, 100] {
      var rig = try netRig()
      rig.device.start(features: .version1)
      var hand = try NetHand(&rig, 1)
      try hand.send(rig, NetHeader(), frame, cut: cut)
      try rig.settle()
      let sent = rig.device.host.outgoing
      #expect(sent == [TestFrame(bytes: frame)], "cut \(cut)")
      let answer = try hand.take(rig)
      #expect(answer == [])
    }
  }

  /// Every length up to the first good one, and around the longest: dropped, counted, answered.
  @Test func lengths() throws {
    for (count, isGood) in [(1514, true), (1518, true), (1519, false), (9000, false)] {
      var rig = try netRig()
      rig.device.start(features: .version1)
      var hand = try NetHand(&rig, 1)
      try hand.send(rig, NetHeader(), Frames.plain(count))
      try rig.settle()
      #expect(rig.device.host.outgoing.count == (isGood ? 1 : 0))
      #expect(rig.device.counters.oversized == (isGood ? 0 : 1))
    }
    var rig = try netRig()
    rig.device.start(features: .version1)
    var hand = try NetHand(&rig, 1)
    for count in 1..<26 {
      try hand.put(rig, [UInt8](repeating: 0, count: count))
      try rig.settle()
      let answer = try hand.take(rig)
      #expect(answer == [])
      #expect(rig.device.counters.undersized == UInt64(count))
    }
    try hand.put(rig, [], writable: [64])
    try hand.put(rig, [UInt8](repeating: 0, count: NetFormat.frameLimit + 13))
    try rig.settle()
    #expect(rig.device.counters.undersized == 26)
    #expect(rig.device.counters.oversized == 1)
    #expect(rig.device.host.outgoing.isEmpty)
    try hand.put(rig, [UInt8](repeating: 0, count: 26))
    try rig.settle()
    #expect(rig.device.host.outgoing.count == 1)
  }

  @Test func offloadsGoOutOnlyWhenAgreed() throws {
    let frame = Frames.tcp([UInt8](repeating: 5, count: 4000))
    for isAgreed in [false, true] {
      var rig = try netRig()
      rig.device.start(features: isAgreed ? Self.offloads : .version1)
      var hand = try NetHand(&rig, 1)
      try hand.send(rig, Frames.header(isIPv6: false, size: 1400), frame)
      try rig.settle()
      #expect(rig.device.counters.badHeaders == (isAgreed ? 0 : 1))
      let offload = rig.device.host.outgoing.first?.offload
      #expect(offload?.segmentSize == (isAgreed ? 1400 : nil))
      #expect(offload?.headerLength == (isAgreed ? 54 : nil))
    }
    var rig = try netRig()
    rig.device.host.takesOffloads = false
    #expect(rig.device.offeredFeatures.isDisjoint(with: .netChecksum | .netHostTCP4))
    // TSO without the checksum it needs was not agreed, whatever the driver says.
    rig.device.start(features: .netHostTCP4)
    var hand = try NetHand(&rig, 1)
    try hand.send(rig, Frames.header(isIPv6: false, size: 1400), frame)
    try rig.settle()
    #expect(rig.device.counters.badHeaders == 1)
  }

  /// A host without room holds the transmit queue back; nothing is lost, nothing overtakes.
  @Test func aFullHostHoldsTheDriverBack() throws {
    var rig = try netRig()
    rig.device.start(features: .version1)
    rig.device.host.room = 0
    var hand = try NetHand(&rig, 1)
    for count in 40..<45 { try hand.send(rig, NetHeader(), Frames.plain(count)) }
    try rig.settle()
    #expect(rig.device.counters.blockedFrames == 1)
    #expect(rig.device.host.outgoing.isEmpty)
    for count in 1...5 {
      rig.device.host.room = 1
      rig.device.host.hasNews = true
      try rig.settle()
      #expect(rig.device.host.outgoing.count == count)
    }
    let lengths = rig.device.host.outgoing.map(\.bytes.count)
    #expect(lengths == [40, 41, 42, 43, 44])
    try hand.send(rig, NetHeader(), Frames.plain(50))
    rig.device.host.room = 0
    try rig.settle()
    rig.reset()
    #expect(rig.device.counters.lostInReset == 1)
    rig.device.start(features: .version1)
    rig.device.host.room = 9
    rig.device.host.hasNews = true
    try rig.settle()
    #expect(rig.device.host.outgoing.count == 5)
  }

  // MARK: For the driver

  /// Every way to spread a frame over equal buffers, with mergeable buffers: the bytes, the number
  /// of buffers in the first one, no byte behind.
  @Test func framesAreSpreadOverBuffers() throws {
    for size in 12...40 {
      for count in [14, 15, 27, 28, 29, 60] {
        var rig = try netRig()
        rig.device.start(features: .netMergeable)
        var hand = try NetHand(&rig, 0)
        let frame = Frames.plain(count)
        rig.device.host.incoming = [TestFrame(bytes: frame)]
        let needed = (count + 12 + size - 1) / size
        for number in 1...needed {
          let before = rig.device.inFlightCount
          #expect(before == number - 1)
          try hand.put(rig, [], writable: number % 2 == 0 ? [size] : [1, size - 1])
          try rig.settle()
        }
        var joined: [UInt8] = []
        for _ in 0..<needed {
          let part = try hand.take(rig)
          joined += try #require(part)
        }
        let none = try hand.take(rig)
        #expect(none == nil)
        var header = NetHeader()
        header.bufferCount = UInt16(needed)
        #expect(joined == bytes(of: header) + frame, "size \(size), count \(count)")
        #expect(rig.device.inFlightCount == 0)
      }
    }
  }

  /// Without mergeable buffers a frame has one buffer, and is dropped when that is too small.
  @Test func oneBufferOrNone() throws {
    var rig = try netRig()
    rig.device.start(features: .version1)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [60, 61].map { TestFrame(bytes: Frames.plain($0)) }
    try hand.put(rig, [], writable: [11])
    try hand.put(rig, [], writable: [71])
    try hand.put(rig, [], writable: [73])
    try rig.settle()
    let answers = [try hand.take(rig), try hand.take(rig), try hand.take(rig)]
    var header = NetHeader()
    header.bufferCount = 1
    #expect(answers == [[], [], bytes(of: header) + Frames.plain(61)])
    #expect(rig.device.counters.shortBuffers == 1)
    #expect(rig.device.counters.noRoom == 1)
  }

  /// A ring too small for the frame drops it instead of waiting for buffers that cannot come.
  /// Others may send more than this driver was told to expect: whole, and in segments.
  @Test(arguments: [(1518, true), (1519, false), (9000, false)])
  func framesBeyondTheMTUAreDropped(count: Int, isGood: Bool) throws {
    var rig = try netRig()
    rig.device.start(features: .version1 | .netMTU)
    var hand = try NetHand(&rig, 0)
    try hand.put(rig, [], writable: [10000])
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(count))]
    rig.device.host.hasNews = true
    try rig.settle()
    let found = try hand.take(rig)
    #expect(found?.count == (isGood ? 12 + count : nil))
    #expect(rig.device.counters.beyondMTU == (isGood ? 0 : 1))
  }

  @Test func segmentsBeyondTheMTUAreDropped() throws {
    for (size, isGood) in [(UInt16(1400), true), (2000, false)] {
      var rig = try netRig()
      rig.device.start(features: .version1 | .netMTU)
      var hand = try NetHand(&rig, 0)
      for _ in 0..<4 { try hand.put(rig, [], writable: [4000]) }
      let frame = Frames.tcp([UInt8](repeating: 7, count: 4000))
      var offload = FrameOffload()
      offload.needsChecksum = true
      offload.checksumStart = 34
      offload.checksumOffset = 16
      offload.segmentation = .tcp4
      offload.segmentSize = size
      rig.device.host.incoming = [TestFrame(bytes: frame, offload: offload)]
      rig.device.host.hasNews = true
      try rig.settle()
      let found = try hand.take(rig)
      #expect(found?.count == (isGood ? 12 + 54 + 1400 : nil))
      #expect(rig.device.counters.beyondMTU == (isGood ? 0 : 1))
    }
  }

  @Test func aFrameLargerThanTheRingIsDropped() throws {
    var rig = try netRig(queueSize: 4)
    rig.device.start(features: .netMergeable)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(200))]
    for _ in 0..<4 { try hand.put(rig, [], writable: [20]) }
    try rig.settle()
    for _ in 0..<4 {
      let answer = try hand.take(rig)
      #expect(answer == [])
    }
    #expect(rig.device.counters.noRoom == 1)
    #expect(rig.device.inFlightCount == 0)
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(30))]
    rig.device.host.hasNews = true
    try rig.settle()
    for _ in 0..<3 { try hand.put(rig, [], writable: [20]) }
    try rig.settle()
    #expect(rig.device.counters.framesToDriver == 1)
  }

  /// What the driver does not finish by itself is finished here.
  @Test(arguments: [false, true], [false, true])
  func offloadsTheDriverDoesNotTake(isIPv6: Bool, takesChecksum: Bool) throws {
    let payload = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
    let large = TestFrame(
      bytes: Frames.tcp(payload, isIPv6: isIPv6),
      offload: try VirtioNetFrameTests.check(
        Frames.header(isIPv6: isIPv6, size: 1400), Frames.tcp(payload, isIPv6: isIPv6)
      ).get())
    let small = TestFrame(
      bytes: Frames.tcp([1, 2, 3], isIPv6: isIPv6),
      offload: try VirtioNetFrameTests.check(
        Frames.header(isIPv6: isIPv6, size: 0), Frames.tcp([1, 2, 3], isIPv6: isIPv6)
      ).get())
    var rig = try netRig()
    rig.device.start(features: takesChecksum ? .netGuestChecksum : .version1)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [large, small]
    for _ in 0..<4 { try hand.put(rig, [], writable: [1526]) }
    try rig.settle()
    var joined: [UInt8] = []
    for index in 0..<4 {
      let answer = try #require(try hand.take(rig))
      let header = NetHeader(answer.span)
      let frame = Array(answer[12...])
      let isLeft = index == 3 && takesChecksum
      #expect(header.flags == (isLeft ? 1 : 0) && header.segmentationType == 0)
      #expect(Frames.isWhole(frame, isIPv6: isIPv6) == !isLeft)
      if index < 3 { joined += frame[(Frames.tcpStart(isIPv6, false) + 20)...] }
    }
    #expect(joined == payload)
    #expect(rig.device.counters.segmentsCut == 3)
    #expect(rig.device.counters.checksumsFinished == (takesChecksum ? 0 : 1))
  }

  /// A driver that takes large frames gets them whole, with a header that says so.
  @Test func largeFramesGoWhole() throws {
    let frame = Frames.tcp([UInt8](repeating: 9, count: 60000))
    let offload = try VirtioNetFrameTests.check(
      Frames.header(isIPv6: false, size: 1400), frame
    ).get()
    var rig = try netRig()
    rig.device.start(features: Self.offloads | .netMergeable)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [TestFrame(bytes: frame, offload: offload)]
    for _ in 0..<50 { try hand.put(rig, [], writable: [1526]) }
    try rig.settle()
    var joined: [UInt8] = []
    while let part = try hand.take(rig) { joined += part }
    let header = NetHeader(joined.span)
    #expect(Array(joined[12...]) == frame)
    #expect(header.bufferCount == UInt16((frame.count + 12 + 1525) / 1526))
    #expect(header.segmentationType == 1 && header.segmentSize == 1400 && header.flags == 1)
    #expect(header.headerLength == 54 && header.checksumStart == 34)
  }

  /// A stopped receive queue gives back the buffers of a half frame; the frame starts again.
  @Test func aStoppedQueueGivesItsBuffersBack() throws {
    var rig = try netRig()
    rig.device.start(features: .netMergeable)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(60))]
    for _ in 0..<2 { try hand.put(rig, [], writable: [20]) }
    try rig.settle()
    #expect(rig.device.inFlightCount == 2)
    rig.device.cancel(queue: 0)
    try rig.settle()
    #expect(rig.device.inFlightCount == 0)
    let answers = [try hand.take(rig), try hand.take(rig)]
    #expect(answers == [[], []])
    try hand.put(rig, [], writable: [80])
    try rig.settle()
    let whole = try hand.take(rig)
    #expect(whole?.dropFirst(12) == Frames.plain(60)[...])
  }

  /// A reset with a frame half delivered: nothing is in flight, and the next driver does not get a
  /// frame that was made for this one.
  @Test func aResetDropsTheHalfFrame() throws {
    var rig = try netRig()
    rig.device.start(features: .netMergeable)
    var hand = try NetHand(&rig, 0)
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(60))]
    try hand.put(rig, [], writable: [20])
    try rig.settle()
    rig.reset()
    #expect(rig.device.inFlightCount == 0)
    #expect(rig.device.counters.lostInReset == 1)
    rig.device.host.incoming = [TestFrame(bytes: Frames.plain(61))]
    rig.device.start(features: .version1)
    var next = try NetHand(&rig, 0)
    try next.put(rig, [], writable: [100])
    try rig.settle()
    let whole = try next.take(rig)
    #expect(whole?.count == 73)
  }
}
