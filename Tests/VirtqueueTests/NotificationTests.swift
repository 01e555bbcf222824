import SharedMemory
import Testing
import Virtqueue

/// Who is told what, and what the owner sees of a queue.
@Suite struct NotificationTests {
  static let available = Rig.ringBase + 0x4000
  static let used = Rig.ringBase + 0x6000
  static let buffer = BufferSegment(offset: Rig.dataBase, count: 8)

  /// An event is due when one of the entries just published is the one the other side named
  /// (2.7.10): counted out entry by entry, before and behind the wrap at 65536.
  @Test func bothSidesNotifyExactlyWhenTheNamedEntryIsPublished() throws {
    let size: UInt16 = 8
    var rig = Rig(size: UInt32(size), features: .eventIndex)
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    let usedEvent = Self.available + 4 + 2 * Int(size)
    let availableEvent = Self.used + 4 + 8 * Int(size)
    var dice = Dice(state: 9)
    var index = 0
    var wrong = 0
    while index < 66_000 {
      let batch = 1 + dice.below(Int(size))
      let event = UInt16(truncatingIfNeeded: index + dice.below(12) - 2)
      rig.region.store16(event, at: availableEvent)
      rig.region.store16(event, at: usedEvent)
      let isDue = (index..<index + batch).contains { UInt16(truncatingIfNeeded: $0) == event }
      for _ in 0..<batch { try driver.add([Self.buffer], readableCount: 0, token: 0) }
      if driver.publish() != isDue { wrong += 1 }
      while let chain = try device.takeChain(into: &segments) {
        device.complete(chain, written: 8)
      }
      if device.publish() != isDue { wrong += 1 }
      while try driver.takeUsed() != nil {}
      index += batch
    }
    #expect(wrong == 0)
    let chains = device.counters.chains
    #expect(chains == UInt64(index) && driver.counters.chains == chains)
    #expect(device.indices.used == RingIndex(UInt16(truncatingIfNeeded: index)))
  }

  @Test(arguments: [false, true])
  func theFlagsSuppress(isSuppressed: Bool) throws {
    var rig = Rig(size: 4, features: QueueFeatures())
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    if isSuppressed {
      device.suppressNotifications()
      driver.suppressNotifications()
    } else {
      device.armNotifications()
      driver.armNotifications()
    }
    #expect(rig.region.load16(Self.used) == (isSuppressed ? 1 : 0))
    #expect(rig.region.load16(Self.available) == (isSuppressed ? 1 : 0))
    try driver.add([Self.buffer], readableCount: 0, token: 0)
    let kicks = driver.publish()
    #expect(kicks == !isSuppressed)
    guard let chain = try device.takeChain(into: &segments) else { return }
    device.complete(chain, written: 0)
    let calls = device.publish()
    #expect(calls == !isSuppressed)
    #expect(device.counters.notifications == (isSuppressed ? 0 : 1))
  }

  /// Only what was agreed decides: without EVENT_IDX the flags, with it the event index; the other
  /// one of the two says the opposite here (2.7.7 and 2.7.10).
  @Test(arguments: [false, true], [false, true])
  func whatWasNotAgreedIsNotLookedAt(hasEventIndex: Bool, isDue: Bool) throws {
    var rig = Rig(size: 4, features: hasEventIndex ? .eventIndex : QueueFeatures())
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    let flags: UInt16 = hasEventIndex == isDue ? 1 : 0
    let event: UInt16 = hasEventIndex == isDue ? 0 : 3
    for ring in [Self.available, Self.used] { rig.region.store16(flags, at: ring) }
    rig.region.store16(event, at: Self.available + 4 + 2 * 4)
    rig.region.store16(event, at: Self.used + 4 + 8 * 4)
    try driver.add([Self.buffer], readableCount: 0, token: 0)
    let kicks = driver.publish()
    guard let chain = try device.takeChain(into: &segments) else { return }
    device.complete(chain, written: 0)
    let calls = device.publish()
    #expect(kicks == isDue && calls == isDue)
  }

  /// With EVENT_IDX the driver leaves its flags at 0 all the time (2.7.7.1).
  @Test func theDriversFlagsStayZeroWithEventIndices() throws {
    var rig = Rig(size: 4, features: .eventIndex)
    var driver = try rig.driver()
    #expect(rig.region.load16(Self.available) == 0)
    driver.suppressNotifications()
    #expect(rig.region.load16(Self.available) == 0)
    driver.armNotifications()
    #expect(rig.region.load16(Self.available) == 0)
  }

  @Test func nothingToPublishIsNotPublished() throws {
    var rig = Rig(size: 4, features: QueueFeatures())
    var driver = try rig.driver()
    var device = try rig.device()
    driver.armNotifications()
    device.armNotifications()
    let asked = (driver.publish(), device.publish())
    #expect(!asked.0 && !asked.1)
    let quiet = (driver.publishQuietly(), device.publishQuietly())
    #expect(!quiet.0 && !quiet.1)
  }

  @Test func armingNamesTheNextEntry() throws {
    var rig = Rig(size: 4, features: .eventIndex)
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    for round: UInt16 in 1...3 {
      try driver.add([Self.buffer], readableCount: 0, token: 0)
      #expect(device.hasPending() == false)
      _ = driver.publish()
      #expect(device.hasPending() == true)
      guard let chain = try device.takeChain(into: &segments) else { return }
      device.armNotifications()
      #expect(rig.region.load16(Self.used + 4 + 8 * 4) == round)
      device.complete(chain, written: 0)
      _ = device.publish()
      #expect(driver.hasPending() == true)
      while try driver.takeUsed() != nil {}
      driver.armNotifications()
      #expect(rig.region.load16(Self.available + 4 + 2 * 4) == round)
      driver.armNotifications(after: 3)
      #expect(rig.region.load16(Self.available + 4 + 2 * 4) == round + 2)
    }
  }

  @Test func inlineAndSpanChainsWriteTheSameBytes() throws {
    let features: [QueueFeatures] = [QueueFeatures(), .indirectDescriptors]
    for feature in features {
      var images: [[UInt64]] = []
      for isInline in [false, true] {
        var rig = Rig(size: 8, features: feature)
        var driver = try rig.driver(indirect: feature.contains(.indirectDescriptors))
        let header = BufferSegment(offset: 0x10000, count: 16)
        let data = BufferSegment(offset: 0x11000, count: 512)
        let status = BufferSegment(offset: 0x12000, count: 1)
        if isInline {
          try driver.add([header, data, status], readableCount: 1, token: 1)
        } else {
          try driver.add(
            readable: [header].span, writable: [data, status].span, token: 1)
        }
        _ = driver.publish()
        images.append(
          stride(from: Rig.ringBase, to: Rig.dataBase, by: 8).map { rig.region.load64($0) })
      }
      #expect(images[0] == images[1])
    }
  }

  @Test func whatIsInFlightCanBeSubmittedAgain() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    for token: UInt32 in 10..<15 { try driver.add([Self.buffer], readableCount: 0, token: token) }
    _ = driver.publish()
    for _ in 0..<2 {
      guard let chain = try device.takeChain(into: &segments) else { return }
      device.complete(chain, written: 0)
    }
    _ = device.publish()
    while try driver.takeUsed() != nil {}
    var tokens: Set<UInt32> = []
    driver.forEachInFlight { tokens.insert($0) }
    #expect(tokens == [12, 13, 14])
    #expect(driver.inFlightCount == 3)
  }

  @Test func sizesAndLayouts() {
    let good = (UInt32(0)...70_000).filter { QueueSize($0) != nil }
    #expect(good == (0...15).map { 1 << $0 })
    #expect(QueueSize(UInt32(65_536 + 8)) == nil && QueueSize(-8) == nil)
    let layout = QueueSize(UInt16(256)).map { QueueLayout($0) }
    #expect(layout?.descriptorTable == 4096)
    #expect(layout?.availableRing == 518)
    #expect(layout?.usedRing == 2054)
  }

  // MARK: Our own bugs trap

  @Test func theTicketOfNoQueueIsRefused() throws {
    for generation: UInt32 in [0, 1] {
      var rig = Rig(size: 4, features: QueueFeatures())
      var queue = try DeviceQueue(
        rig.configuration, in: rig.region, access: rig.access, arena: &rig.arena,
        generation: generation)
      let isLive = queue.complete(ChainTicket.none, written: 0)
      #expect(!isLive)
    }
  }

  @Test func aChainReturnedTwiceTraps() async {
    await #expect(processExitsWith: .failure) {
      var rig = Rig(size: 4, features: QueueFeatures())
      var driver = try rig.driver()
      try driver.add([NotificationTests.buffer], readableCount: 0, token: 0)
      _ = driver.publish()
      var queue = try rig.device()
      var segments = rig.segments()
      guard let ticket = try queue.takeChain(into: &segments)?.detach() else { return }
      queue.complete(ticket, written: 0)
      queue.complete(ticket, written: 0)
    }
  }

  @Test func aChainOfAnotherQueueTraps() async {
    await #expect(processExitsWith: .failure) {
      var rig = Rig(size: 4, features: QueueFeatures())
      var driver = try rig.driver()
      try driver.add([NotificationTests.buffer], readableCount: 0, token: 0)
      _ = driver.publish()
      var queue = try rig.device()
      var other = try DeviceQueue(
        rig.configuration, in: rig.region, access: rig.access, arena: &rig.arena, generation: 2)
      var segments = rig.segments()
      guard let chain = try queue.takeChain(into: &segments) else { return }
      other.complete(chain, written: 0)
    }
  }
}
