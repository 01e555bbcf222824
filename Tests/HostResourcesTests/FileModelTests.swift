import Foundation
import HostResources
import SharedMemory
import Testing
import VirtioBlock
import VirtioDevice
import Virtqueue

/// Random requests against a file, many at a time, beside an array of bytes.
@Suite struct FileModelTests {
  /// A way of moving data: on disk or in memory, direct or not, bounced or not, stable or not.
  struct Way: CustomTestStringConvertible, Sendable {
    var folder: String?
    var direct = FileBlockOptions.DirectIO.off
    var memory = FileBlockOptions.RegionMemory.unpinnable
    var cache = FileBlockOptions.Cache.writeback
    var isUnalignedSafe = true
    var testDescription: String {
      "\(folder ?? "disk") direct \(direct) \(memory) \(cache) unaligned \(isUnalignedSafe)"
    }
  }

  static let ways: [Way] = [
    Way(folder: "/dev/shm"), Way(folder: "/dev/shm", isUnalignedSafe: false), Way(),
    Way(isUnalignedSafe: false), Way(cache: .writethrough), Way(direct: .on),
    Way(direct: .on, memory: .pinnable), Way(direct: .automatic, memory: .pinnable),
  ]

  static func rig(
    _ way: Way, _ scratch: Scratch, sectors: Int, _ log: LogLines, wake: Int32 = -1
  ) throws -> BlockRig<FileBlockHost> {
    let path = try scratch.file("disk.img", bytes: sectors * 512)
    let options = FileBlockOptions.with {
      $0.direct = way.direct
      $0.memory = way.memory
      $0.cache = way.cache
      $0.slots = 16
      $0.wakeDescriptor = wake
    }
    return try BlockRig(
      FileBlockHost(path: path, options: options, log: log.hook), slots: 16,
      isUnalignedSafe: way.isUnalignedSafe)
  }

  /// One request that is under way.
  struct Open {
    let type: UInt32
    let range: Range<Int>
    let into: [BufferSegment]
    let status: Int
    let place: Int
  }

  @Test(arguments: ways, UInt64(1)...3)
  func besideAnArray(way: Way, seed: UInt64) throws {
    let scratch = Scratch(in: way.folder)
    let log = LogLines()
    var rig = try Self.rig(way, scratch, sectors: 2048, log)
    var driver = try rig.driverQueue()
    var dice = BlockDice(state: seed)
    var model = [UInt8](repeating: 0, count: 2048 * 512)
    var open: [UInt32: Open] = [:]
    for token in UInt32(0)..<300 {
      while open.count >= 12 || dice.below(4) == 0, !open.isEmpty {
        try Self.collect(&rig, &driver, &open, model, seed)
      }
      guard let next = Self.choose(&dice, open) else { continue }
      open[token] = try Self.start(&rig, &driver, next, token, &model, &dice)
      if dice.below(2) == 0 { _ = driver.publish() }
    }
    while !open.isEmpty { try Self.collect(&rig, &driver, &open, model, seed) }
    #expect(log.all == [])
    let file = try Data(contentsOf: scratch.folder.appendingPathComponent("disk.img"))
    #expect(file == Data(model), "seed \(seed)")
  }

  /// A request whose sectors nobody else has under way: their order would be nobody's business.
  static func choose(
    _ dice: inout BlockDice, _ open: [UInt32: Open]
  ) -> (type: UInt32, range: Range<Int>, place: Int)? {
    let types: [UInt32] = [0, 0, 0, 1, 1, 1, 4, 11, 13]
    let type = types[dice.below(types.count)]
    let length = dice.below(6) == 0 ? 1 + dice.below(700) : 1 + dice.below(17)
    let first = dice.below(2048 - length)
    let range = first * 512..<(first + length) * 512
    guard type == 4 || open.values.allSatisfy({ !$0.range.overlaps(range) }) else { return nil }
    guard let place = (0..<12).first(where: { p in open.values.allSatisfy { $0.place != p } })
    else { return nil }
    return (type, type == 4 ? 0..<0 : range, place)
  }

  static func start(
    _ rig: inout BlockRig<FileBlockHost>, _ driver: inout DriverQueue,
    _ next: (type: UInt32, range: Range<Int>, place: Int), _ token: UInt32,
    _ model: inout [UInt8], _ dice: inout BlockDice
  ) throws -> Open {
    let base = 0x100000 + next.place * 0x80000
    let sector = UInt64(next.range.lowerBound / 512)
    let isRange = next.type == 11 || next.type == 13
    var header = blockHeader(next.type, isRange ? 0 : sector)
    var data: [BufferSegment] = []
    // Pages apart, some aligned and some not, some of odd length.
    var spot = base + 0x1000 + (dice.below(2) == 0 ? 0 : dice.below(600))
    var left = next.type <= 1 ? next.range.count : 0
    while left > 0 {
      let count = data.count == 20 || dice.below(3) == 0 ? left : min(left, 1 + dice.below(9000))
      data.append(BufferSegment(offset: spot, count: count))
      spot += count
      left -= count
    }
    switch next.type {
    case 1:
      let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: dice.next()), count: 64)
      for index in next.range { model[index] = bytes[index % 64] &+ UInt8(index >> 9 & 0xff) }
      var done = next.range.lowerBound
      for piece in data {
        rig.store(Array(model[done..<done + piece.count]), at: piece.offset)
        done += piece.count
      }
    case 11, 13:
      header += blockRange(
        sector, UInt32(next.range.count / 512), next.type == 13 ? UInt32(dice.below(2)) : 0)
      model.replaceSubrange(next.range, with: repeatElement(0, count: next.range.count))
    default: break
    }
    rig.store(header, at: base)
    let status = BufferSegment(offset: base + 0x100, count: 1)
    rig.store([0xee], at: status.offset)
    let first = BufferSegment(offset: base, count: header.count)
    let out = next.type == 1 ? [first] + data : [first]
    let into = next.type == 0 ? data + [status] : [status]
    try driver.add(readable: out.span, writable: into.span, token: token)
    return Open(
      type: next.type, range: next.range, into: data, status: status.offset, place: next.place)
  }

  static func collect(
    _ rig: inout BlockRig<FileBlockHost>, _ driver: inout DriverQueue,
    _ open: inout [UInt32: Open], _ model: [UInt8], _ seed: UInt64
  ) throws {
    _ = driver.publish()
    for _ in 0..<50_000_000 {
      try rig.pump()
      guard let used = try driver.takeUsed() else { continue }
      guard let done = open.removeValue(forKey: used.token) else {
        Issue.record("an answer nobody waits for, seed \(seed)")
        return
      }
      #expect(rig.region.load8(done.status) == 0, "seed \(seed) type \(done.type)")
      if done.type == 0 {
        let bytes = done.into.flatMap { rig.load($0.offset, $0.count) }
        #expect(bytes == Array(model[done.range]), "seed \(seed)")
        #expect(used.written == UInt32(done.range.count + 1))
      }
      return
    }
    Issue.record("a request never ended, seed \(seed)")
    open.removeAll()
  }
}
