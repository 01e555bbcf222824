import CLinux
import HostResources
import LinuxSupport
import SharedMemory
import Testing
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

@Suite(.serialized) struct VhostUserMessageTests {
  @Test func everythingThatIsOfferedIsSaid() throws {
    var rig = try VhostRig.make()
    try rig.send(.getFeatures)
    let features = rig.replyWord(0)
    for bit in [6, 9, 28, 29, 30, 32] as [UInt64] { #expect(features >> bit & 1 == 1) }
    // Without a mapping of the driver's own, guest addresses are physical: nothing to translate.
    #expect(features >> 33 & 1 == 0)
    try rig.send(.getProtocolFeatures)
    #expect(rig.replyWord(0) == 0x1f229)
    try rig.send(.setProtocolFeatures, split(rig.replyWord(0)))
    try rig.send(.getQueueCount)
    #expect(rig.replyWord(0) == 2)
    try rig.send(.getMemorySlotLimit)
    #expect(rig.replyWord(0) == 32)
  }

  @Test func anAcknowledgementIsGivenWhenItIsAskedFor() throws {
    var rig = try VhostRig.make()
    try rig.send(.setProtocolFeatures, split(VhostRig.protocolFeatures))
    #expect(try rig.send(raw: 3, [], flags: 1) == .done)
    #expect(try rig.send(raw: 3, [], flags: 9) == .reply(descriptor: -1))
    #expect(rig.replyWord(0) == 0)
    #expect(rig.reply.flags == 5)
  }

  @Test func configurationSpaceIsReadAndWritten() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    // More than the device has is filled with zeroes: later drivers ask for more.
    let asked = payload([0, 200, 0]) + [UInt8](repeating: 0, count: 200)
    #expect(try rig.send(raw: 24, asked) == .reply(descriptor: -1))
    #expect(rig.replyWord(12) == 2048)
    #expect(rig.replyWord(12 + 100) == 0)
    // Writeback is byte 32.
    try rig.send(raw: 25, payload([32, 1, 0]) + [0])
    try rig.send(raw: 24, payload([32, 1, 0]) + [0])
    #expect(rig.replyWord(12) & 0xff == 0)
    #expect(throws: VhostUserError.self) { try rig.send(raw: 24, payload([250, 10, 0])) }
    #expect(throws: VhostUserError.self) { try rig.send(raw: 25, payload([59, 8, 0])) }
  }

  struct Need {
    let request: VhostUserRequest
    let bytes: Int
    let descriptors: Int
  }

  static let needs: [Need] = [
    Need(request: .setFeatures, bytes: 8, descriptors: 0),
    Need(request: .setProtocolFeatures, bytes: 8, descriptors: 0),
    Need(request: .setMemoryTable, bytes: 40, descriptors: 1),
    Need(request: .setVringSize, bytes: 8, descriptors: 0),
    Need(request: .setVringAddresses, bytes: 40, descriptors: 0),
    Need(request: .setVringBase, bytes: 8, descriptors: 0),
    Need(request: .getVringBase, bytes: 8, descriptors: 0),
    Need(request: .setVringKick, bytes: 8, descriptors: 1),
    Need(request: .setVringCall, bytes: 8, descriptors: 1),
    Need(request: .setVringError, bytes: 8, descriptors: 1),
    Need(request: .setVringEnable, bytes: 8, descriptors: 0),
    Need(request: .getConfiguration, bytes: 12, descriptors: 0),
    Need(request: .setConfiguration, bytes: 12, descriptors: 0),
    Need(request: .getInflight, bytes: 20, descriptors: 0),
    Need(request: .setInflight, bytes: 20, descriptors: 1),
    Need(request: .vringKick, bytes: 8, descriptors: 0),
    Need(request: .addMemoryRegion, bytes: 40, descriptors: 1),
    Need(request: .removeMemoryRegion, bytes: 40, descriptors: 0),
    Need(request: .setStatus, bytes: 8, descriptors: 0),
  ]

  /// Every message cut off at every length is an error with a reason, and leaks nothing.
  @Test(arguments: needs)
  func aMessageCutOffAnywhereIsAnError(need: Need) throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let file = rig.memory.descriptor
    let before = openCount(file)
    do {
      // A word that is right in every message: one region, queue 0 or 1, a size.
      let whole = payload([1, 0] + VhostRig.region())
      for count in 0..<need.bytes {
        let descriptors = try (0..<need.descriptors).map { _ in try duplicate(file) }
        #expect(throws: VhostUserError.self, "\(need.request) of \(count) bytes") {
          try rig.send(
            raw: need.request.rawValue, Array(whole[..<count]), descriptors: descriptors)
        }
      }
    }
    rig.message.clear()
    #expect(openCount(file) == before)
  }

  @Test(arguments: needs)
  func tooManyOrTooFewDescriptorsAreAnError(need: Need) throws {
    // A descriptor that comes with the removal of a region is allowed, and closed.
    guard need.request != .removeMemoryRegion else { return }
    var rig = try VhostRig.make()
    try rig.negotiate()
    let file = rig.memory.descriptor
    let before = openCount(file)
    do {
      let whole = payload([1, 0] + VhostRig.region())
      for count in 0...8 where count != need.descriptors {
        let descriptors = try (0..<count).map { _ in try duplicate(file) }
        #expect(throws: VhostUserError.self) {
          try rig.send(
            raw: need.request.rawValue, Array(whole[..<need.bytes]), descriptors: descriptors)
        }
      }
    }
    rig.message.clear()
    #expect(openCount(file) == before)
  }

  @Test(arguments: [0, 6, 7, 19, 20, 22, 23, 26, 33, 41, 44, 0x8000_0000, .max] as [UInt32])
  func unknownMessagesAreAnError(request: UInt32) throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    #expect(throws: VhostUserError.unknown(request: request)) {
      try rig.send(raw: request, [UInt8](repeating: 0, count: 64))
    }
  }

  @Test func whatWasNotAgreedIsUnknown() throws {
    var rig = try VhostRig.make()
    for request: UInt32 in [17, 21, 24, 25, 31, 32, 34, 35, 36, 37, 38, 39, 40] {
      #expect(throws: VhostUserError.unknown(request: request)) {
        try rig.send(raw: request, [UInt8](repeating: 0, count: 64))
      }
    }
  }

  @Test(arguments: [0, 2, 3, 5] as [UInt32])
  func wrongVersionsAndRepliesAreAnError(flags: UInt32) throws {
    var rig = try VhostRig.make()
    #expect(throws: VhostUserError.badHeader(request: 1, flags: flags)) {
      try rig.send(raw: 1, [], flags: flags)
    }
  }

  @Test func featuresThatWereNotOfferedAreAnError() throws {
    var rig = try VhostRig.make()
    #expect(throws: VhostUserError.self) { try rig.send(.setFeatures, split(1 << 63)) }
    #expect(throws: VhostUserError.self) { try rig.send(.setProtocolFeatures, split(1 << 1)) }
  }

  struct Table {
    let what: String
    let words: [UInt32]
    var descriptors = 1
  }

  static let badTables: [Table] = [
    Table(what: "no region", words: [0, 0], descriptors: 0),
    Table(what: "nine regions", words: [9, 0], descriptors: 8),
    Table(what: "an enormous count", words: [.max, 0], descriptors: 8),
    Table(what: "empty", words: [1, 0] + VhostRig.region(size: 0)),
    Table(what: "guest wraps", words: [1, 0] + VhostRig.region(guest: .max - 4095)),
    Table(what: "user wraps", words: [1, 0] + VhostRig.region(user: .max - 4095)),
    Table(what: "offset wraps", words: [1, 0] + VhostRig.region(offset: .max - 4095)),
    Table(what: "behind the file", words: [1, 0] + VhostRig.region(offset: 4 << 20)),
    Table(what: "one page too long", words: [1, 0] + VhostRig.region(size: (4 << 20) + 4096)),
    Table(what: "odd in its page", words: [1, 0] + VhostRig.region(guest: 0x1_0000_0800)),
    Table(
      what: "guest overlap",
      words: [2, 0] + VhostRig.region() + VhostRig.region(user: 0x1000), descriptors: 2),
    Table(
      what: "user overlap",
      words: [2, 0] + VhostRig.region()
        + VhostRig.region(guest: 0, user: DriverMemory.userBase + 0x1000), descriptors: 2),
  ]

  @Test(arguments: badTables)
  func aMemoryTableThatMakesNoSenseIsAnError(table: Table) throws {
    var rig = try VhostRig.make()
    let before = openCount(rig.memory.descriptor)
    do {
      let descriptors = try (0..<table.descriptors).map { _ in
        try duplicate(rig.memory.descriptor)
      }
      #expect(throws: VhostUserError.self, "\(table.what)") {
        try rig.send(.setMemoryTable, table.words, descriptors: descriptors)
      }
    }
    rig.message.clear()
    let after = openCount(rig.memory.descriptor)
    #expect(after == before)
  }

  @Test func aRegionOfSomethingThatIsNoMemoryIsAnError() throws {
    var rig = try VhostRig.make()
    #expect(throws: VhostUserError.self) {
      try rig.send(.setMemoryTable, [1, 0] + VhostRig.region(), descriptors: [try event()])
    }
  }

  @Test func kicksThatAreNoEventfdAreAnError() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    for request: VhostUserRequest in [.setVringKick, .setVringCall, .setVringError] {
      #expect(throws: VhostUserError.notAnEvent(request: request.rawValue)) {
        try rig.send(request, [0, 0], descriptors: [try duplicate(rig.memory.descriptor)])
      }
    }
  }

  @Test func queuesThatAreNotThereAreAnError() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let requests: [VhostUserRequest] = [
      .setVringSize, .setVringBase, .getVringBase, .setVringEnable, .vringKick,
    ]
    for request in requests {
      for index in [2, 31, 32, .max] as [UInt32] {
        #expect(throws: VhostUserError.noSuchQueue(index, count: 2)) {
          try rig.send(request, [index, 1])
        }
      }
    }
    #expect(throws: VhostUserError.noSuchQueue(255, count: 2)) {
      try rig.send(.setVringKick, [255, 0], descriptors: [try event()])
    }
    for size in [0, 3, 65, 128, 65536, .max] as [UInt32] {
      #expect(throws: VhostUserError.badQueueSize(size, limit: 64)) {
        try rig.send(.setVringSize, [0, size])
      }
    }
  }

  /// QEMU enables every queue, also those the guest has not set up: that is no error, and nothing
  /// is touched.
  @Test func aQueueThatIsEnabledBeforeItIsSetStaysOff() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    try rig.send(.setVringEnable, [0, 1])
    try rig.send(.setVringKick, [0, 0], descriptors: [try event()])
    #expect(try rig.device.step() == false)
    let sleeps = rig.device.prepareToSleep()
    #expect(sleeps)
  }

  @Test func ringAddressesOutsideTheTableAreAnError() throws {
    for part in 0..<3 {
      for bad in [0, DriverMemory.userBase - 16, DriverMemory.userBase + (4 << 20), .max] {
        var rig = try VhostRig.make()
        try rig.negotiate()
        var words: [UInt64] = (0..<3).map { DriverMemory.userBase + UInt64($0 * 0x1000) }
        words[part] = bad as UInt64
        try rig.send(.setVringSize, [0, 64])
        try rig.send(
          .setVringAddresses, [0, 0] + words.flatMap { split($0) } + split(0))
        try rig.send(.setVringKick, [0, 0], descriptors: [try event()])
        #expect(throws: VhostUserError.self) { try rig.send(.setVringEnable, [0, 1]) }
      }
    }
  }

  @Test func aRunningRingIsNotChanged() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    _ = try rig.driverQueue(0)
    try rig.enable(0)
    for request: VhostUserRequest in [.setVringSize, .setVringBase] {
      #expect(throws: VhostUserError.self) { try rig.send(request, [0, 32]) }
    }
  }
}
