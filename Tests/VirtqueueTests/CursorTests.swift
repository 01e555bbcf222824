import SharedMemory
import Testing
import Virtqueue

/// Readers and writers over chains that are cut in any way, beside plain arrays.
@Suite struct CursorTests {
  /// A chain of the given lengths; the bytes are `dice`'s, and also returned in order.
  static func offer(
    _ rig: inout Rig, _ driver: inout DriverQueue, readable: [Int], writable: [Int],
    _ dice: inout Dice
  ) throws -> [UInt8] {
    var bytes: [UInt8] = []
    var offset = Rig.dataBase
    func place(_ lengths: [Int]) -> [BufferSegment] {
      lengths.map { length in
        defer { offset += length + 3 }
        return BufferSegment(offset: offset, count: length)
      }
    }
    let toRead = place(readable)
    let toWrite = place(writable)
    for segment in toRead {
      for index in 0..<segment.count {
        let byte = UInt8(truncatingIfNeeded: dice.next())
        rig.region.store8(byte, at: segment.offset + index)
        bytes.append(byte)
      }
    }
    try driver.add(readable: toRead.span, writable: toWrite.span, token: 0)
    _ = driver.publish()
    return bytes
  }

  @Test(arguments: UInt64(1)...40)
  func anyCutReadsAndWritesTheSameBytes(seed: UInt64) throws {
    var dice = Dice(state: seed)
    var rig = Rig(size: 16, features: QueueFeatures())
    var driver = try rig.driver()
    var device = try rig.device()
    var segments = rig.segments()
    // One value for several chains: what the last one left in the tables must not show.
    for _ in 0..<4 {
      try Self.exchange(&rig, &driver, &device, &segments, &dice, seed)
      while try driver.takeUsed() != nil {}
    }
    let whole = rig.guardsAreWhole
    #expect(whole)
  }

  static func exchange(
    _ rig: inout Rig, _ driver: inout DriverQueue, _ device: inout DeviceQueue,
    _ segments: inout ChainSegments, _ dice: inout Dice, _ seed: UInt64
  ) throws {
    let readable = (0..<1 + dice.below(5)).map { _ in dice.below(9) } + [1]
    let writable = (0..<1 + dice.below(5)).map { _ in dice.below(9) } + [1]
    let bytes = try Self.offer(
      &rig, &driver, readable: readable, writable: writable, &dice)
    guard let chain = try device.takeChain(into: &segments) else {
      Issue.record("the chain is missing, seed \(seed)")
      return
    }
    let seen = Self.readAll(segments, rig.region, &dice)
    #expect(seen == bytes, "seed \(seed)")
    let room = writable.reduce(0, +)
    #expect(segments.writableByteCount == room)
    let message = (0..<room + 5).map { UInt8(truncatingIfNeeded: $0 + 100) }
    let written = Self.writeAll(message, segments, rig.region, &dice)
    #expect(written == room, "seed \(seed)")
    var back: [UInt8] = []
    for index in 0..<segments.writableCount {
      let range = segments.writable(index)
      for byte in 0..<range.count { back.append(rig.region.load8(range.offset + byte)) }
    }
    #expect(back == Array(message.prefix(room)), "seed \(seed)")
    let last = segments.lastWritableByte
    #expect(last.map { rig.region.load8($0.offset) } == message[room - 1])
    device.complete(chain, written: UInt32(room))
    _ = device.publish()
  }

  /// Reads, or skips one byte and reads it by offset, in steps of any length.
  static func readAll(
    _ segments: borrowing ChainSegments, _ region: SharedRegion, _ dice: inout Dice
  ) -> [UInt8] {
    var reader = ChainReader(segments, in: region)
    var seen: [UInt8] = []
    while reader.remaining > 0 {
      var piece = [UInt8](repeating: 0, count: 1 + dice.below(6))
      var span = piece.mutableSpan
      let count =
        dice.below(3) == 0
        ? segments.copyReadable(from: seen.count, into: &span, in: region)
        : reader.read(into: &span)
      let behind = seen.count + count
      seen += piece.prefix(count)
      // Bring the cursor to where the copy ended.
      _ = reader.skip(reader.remaining - (segments.readableByteCount - behind))
    }
    return seen
  }

  static func writeAll(
    _ message: [UInt8], _ segments: borrowing ChainSegments, _ region: SharedRegion,
    _ dice: inout Dice
  ) -> Int {
    var writer = ChainWriter(segments, in: region)
    var done = 0
    while done < message.count {
      let count = min(1 + dice.below(6), message.count - done)
      let wrote = writer.write(message.span.extracting(done..<done + count))
      done += wrote
      if wrote < count { break }
    }
    return done
  }

  @Test func theStatusByteMayLieAnywhere() throws {
    for cut in [[5], [4, 1], [1, 1, 1, 1, 1], [5, 0], [0, 5], [2, 0, 3, 0]] {
      var dice = Dice(state: 3)
      var rig = Rig(size: 16, features: QueueFeatures())
      var driver = try rig.driver()
      var device = try rig.device()
      var segments = rig.segments()
      _ = try Self.offer(&rig, &driver, readable: [16], writable: cut, &dice)
      guard let chain = try device.takeChain(into: &segments) else { continue }
      var writer = ChainWriter(segments, in: rig.region)
      let moved = writer.skipToLast(1)
      let status = writer.next()
      let end = writer.next()
      #expect(moved && status?.count == 1 && end == nil)
      #expect(status == segments.lastWritableByte)
      #expect(segments.writableByte(at: 5) == nil && segments.writableByte(at: -1) == nil)
      device.complete(chain, written: 0)
    }
  }

  @Test func aDescriptorWithoutAByteMayPointAnywhere() throws {
    var rig = Rig(size: 8, features: QueueFeatures())
    DeviceQueueTests.describe(rig.region, 0, 0, 0, 1, 1)
    DeviceQueueTests.describe(rig.region, 1, 0x10000, 4, 1, 2)
    DeviceQueueTests.describe(rig.region, 2, .max, 0, 2, 0)
    DeviceQueueTests.offer(rig.region, [0], index: 1)
    var queue = try rig.device()
    var segments = rig.segments()
    guard let chain = try queue.takeChain(into: &segments) else {
      Issue.record("the chain is missing")
      return
    }
    #expect(segments.readableByteCount == 4 && segments.writableByteCount == 0)
    #expect(segments.lastWritableByte == nil)
    queue.complete(chain, written: 0)
  }
}
