import SharedMemory
import Testing
import Virtqueue

/// Both sides beside a plain model of a queue: random batches, completion orders and features.
@Suite struct ModelTests {
  static let featureSets: [QueueFeatures] = [
    QueueFeatures(), .eventIndex, .indirectDescriptors, .inOrder,
    .eventIndex | .indirectDescriptors, .eventIndex | .inOrder | .indirectDescriptors,
  ]

  @Test(arguments: featureSets, [UInt32(1), 2, 8, 64])
  func whatGoesInComesOutOnce(features: QueueFeatures, size: UInt32) throws {
    for seed in UInt64(1)...3 {
      try Self.run(features, size, seed)
    }
  }

  static func run(_ features: QueueFeatures, _ size: UInt32, _ seed: UInt64) throws {
    var dice = Dice(state: seed &* 77 &+ UInt64(size))
    var rig = Rig(size: size, features: features)
    var driver = try rig.driver(indirect: features.contains(.indirectDescriptors))
    var device = try rig.device()
    var segments = rig.segments()
    var expected: [UInt32: (readable: Int, writable: Int)] = [:]
    var held: [(ticket: ChainTicket, writable: Int)] = []
    var nextToken: UInt32 = 0
    var notified = 0
    var finished = 0
    var wrong = 0
    // 70,000 chains let the 16-bit indices wrap for the small rings.
    let rounds = size <= 8 && seed == 1 ? 12_000 : 1_000
    for _ in 0..<rounds {
      for _ in 0..<dice.below(6) {
        let readable = [BufferSegment](
          repeating: BufferSegment(offset: Rig.dataBase, count: 1 + dice.below(64)),
          count: dice.below(3))
        let writable = [BufferSegment](
          repeating: BufferSegment(offset: Rig.dataBase + 4096, count: 1 + dice.below(64)),
          count: readable.isEmpty ? 1 : dice.below(3))
        do throws(AddError) {
          try driver.add(readable: readable.span, writable: writable.span, token: nextToken)
        } catch { continue }
        expected[nextToken] = (
          readable.reduce(0) { $0 + $1.count }, writable.reduce(0) { $0 + $1.count }
        )
        nextToken += 1
      }
      if driver.publish() { notified += 1 }
      for _ in 0..<dice.below(8) {
        guard let chain = try device.takeChain(into: &segments) else { break }
        let writable = segments.writableByteCount
        if dice.below(2) == 0 {
          device.complete(chain, written: UInt32(writable))
        } else {
          held.append((chain.detach(), writable))
        }
      }
      while !held.isEmpty, dice.below(3) != 0 {
        let done = held.remove(at: dice.below(held.count))
        let isLive = device.complete(done.ticket, written: UInt32(done.writable))
        if !isLive { wrong += 1 }
      }
      _ = device.publish()
      while let used = try driver.takeUsed() {
        let known = expected.removeValue(forKey: used.token)
        if known.map({ UInt32($0.writable) }) != used.written { wrong += 1 }
        finished += 1
      }
    }
    for done in held { device.complete(done.ticket, written: UInt32(done.writable)) }
    while let chain = try device.takeChain(into: &segments) {
      device.complete(chain, written: UInt32(segments.writableByteCount))
    }
    _ = device.publish()
    while let used = try driver.takeUsed() {
      if expected.removeValue(forKey: used.token) == nil { wrong += 1 }
      finished += 1
    }
    // Counted, not expected one by one: an expectation costs more than a chain.
    #expect(wrong == 0, "seed \(seed)")
    #expect(expected.isEmpty, "seed \(seed)")
    #expect(finished == Int(nextToken))
    let free = driver.freeDescriptorCount
    #expect(free == Int(size))
    let whole = rig.guardsAreWhole
    #expect(whole)
  }
}
