import CLinux
import HostResources
import LinuxSupport
import SharedMemory
import Testing
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

@Suite struct VhostUserInflightTests {
  /// Asks for the books, as a front-end does once, and keeps the descriptor.
  static func getBooks(_ rig: inout VhostRig) throws -> Descriptor {
    guard case .reply(let file) = try rig.send(.getInflight, [0, 0, 0, 0, 2 | 64 << 16]) else {
      preconditionFailure("GET_INFLIGHT_FD has an answer")
    }
    return try Descriptor(cl_duplicate(file))
  }

  static func setBooks(_ rig: inout VhostRig, _ file: borrowing Descriptor) throws {
    // Two queues of 64 entries: 2 * 1088 bytes, in pages.
    let shape: [UInt32] = [4096, 0, 0, 0, 2 | 64 << 16]
    try rig.send(.setInflight, shape, descriptors: [try duplicate(file.number)])
  }

  struct Case {
    let seed: UInt64
    let delayed: UInt64
  }

  static let cases = (1...24).map { Case(seed: $0, delayed: [80, 160, 256][Int($0 % 3)]) }

  /// The back-end is killed again and again with requests in flight. The next one takes exactly
  /// those again, in the order they were taken, and every request is answered exactly once.
  @Test(arguments: cases)
  func nothingIsLostAndNothingIsDoubled(_ each: Case) throws {
    var dice = VhostDice(state: each.seed)
    var plan = TestHost.Plan()
    plan.seed = each.seed
    plan.delayChance = each.delayed
    plan.delayLimit = 6
    var rig = try VhostRig.make(plan: plan)
    try rig.negotiate()
    let books = try Self.getBooks(&rig)
    try Self.setBooks(&rig, books)
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    var open: Set<UInt32> = []
    var answered = 0
    var asked = 0
    var resumed: UInt64 = 0
    for step in 0..<600 {
      while open.count < 12, asked < 4000, dice.below(3) > 0 {
        guard let token = (0..<16).map(UInt32.init).first(where: { !open.contains($0) }) else {
          break
        }
        try VhostUserRingTests.add(
          &queue, rig, .read, sector: UInt64(token), spot: VhostUserRingTests.spot(Int(token)),
          token: token)
        open.insert(token)
        asked += 1
      }
      _ = queue.publish()
      _ = try rig.device.step()
      while let used = try queue.takeUsed() {
        #expect(open.remove(used.token) != nil, "seed \(each.seed) step \(step): doubled")
        answered += 1
      }
      guard dice.below(20) == 0 else { continue }
      // Killed: what the driver has seen by now is the ring's used index, as QEMU reads it.
      resumed += rig.device.counters.resumed
      let used = rig.memory.region.load16(VhostRig.ringOffset(0) + 0x2002)
      plan.seed = dice.next()
      try rig.replaceDevice(plan: plan)
      try rig.negotiate()
      try Self.setBooks(&rig, books)
      try rig.enable(0, base: used)
    }
    for _ in 0..<10_000 where !open.isEmpty {
      _ = try rig.device.step()
      while let used = try queue.takeUsed() {
        #expect(open.remove(used.token) != nil)
        answered += 1
      }
    }
    #expect(open.isEmpty, "seed \(each.seed): lost \(open)")
    #expect(answered == asked)
    #expect(resumed > 0)
  }

  /// The books are the front-end's memory: whatever stands there, nothing traps.
  @Test(arguments: 1...40)
  func booksOfGarbageAreHarmless(seed: Int) throws {
    var dice = VhostDice(state: UInt64(seed))
    var rig = try VhostRig.make()
    try rig.negotiate()
    let books = try Self.getBooks(&rig)
    var bytes = (0..<4096).map { _ in UInt8(truncatingIfNeeded: dice.next()) }
    // Half of the runs say that the books are in use.
    if seed % 2 == 0 { bytes.replaceSubrange(8..<10, with: [1, 0]) }
    let written = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_write_at(books.number, base, buffer.count, 0)
    }
    #expect(written == 4096)
    try Self.setBooks(&rig, books)
    var queue = try rig.driverQueue(0)
    try rig.enable(0)
    for token in 0..<4 {
      try VhostUserRingTests.add(
        &queue, rig, .read, sector: 0, spot: VhostUserRingTests.spot(token), token: UInt32(token))
    }
    _ = queue.publish()
    for _ in 0..<20 { _ = try rig.device.step() }
    _ = rig.device.takeBrokenRing()
  }

  @Test func booksOfTheWrongShapeAreAnError() throws {
    var rig = try VhostRig.make()
    try rig.negotiate()
    let file = rig.memory.descriptor
    let shape: UInt32 = 2 | 64 << 16
    let bad: [[UInt32]] = [
      [100, 0, 0, 0, shape], [0, 256, 0, 0, shape], [8192, 0, .max, .max, shape],
      [8192, 0, 3, 0, shape], [8192, 0, 0, 0, 3 | 64 << 16], [8192, 0, 0, 0, 64 << 16],
      [8192, 0, 0, 0, 2], [8192, 0, 0, 0, 2 | 65535 << 16],
    ]
    for words in bad {
      #expect(throws: VhostUserError.self) {
        try rig.send(.setInflight, words, descriptors: [try duplicate(file)])
      }
    }
  }
}
