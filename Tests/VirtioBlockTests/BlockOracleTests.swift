import HostResources
import SharedMemory
import Testing
import VirtioBlock
import Virtqueue

/// Where the descriptors of a chain end; those of the writable part by the length of its data.
typealias BlockCuts = (readable: [Int], writable: @Sendable (Int) -> [Int])

/// A medium of four sectors as an array, with the rules of VIRTIO 1.4, 5.2.6 said once more.
struct BlockModel {
  var bytes: [UInt8]
  var capacity: UInt64 { UInt64(bytes.count / 512) }

  func range(_ sector: UInt64, _ count: Int) -> Range<Int>? {
    guard count > 0, count % 512 == 0, sector < capacity,
      UInt64(count / 512) <= capacity - sector
    else { return nil }
    return Int(sector) * 512..<Int(sector) * 512 + count
  }

  /// The answer to `readable` bytes with room for `room` bytes, of which the last is the status.
  mutating func answer(_ readable: [UInt8], room: Int) -> BlockAnswer {
    var into = [UInt8](repeating: 0xee, count: room)
    func number(_ at: Int, _ width: Int) -> UInt64 {
      (0..<width).reduce(0) { $0 | UInt64(readable[at + $1]) << UInt64(8 * $1) }
    }
    guard readable.count >= 16, room > 0 else { return BlockAnswer(written: 0, bytes: into) }
    let sector = number(8, 8)
    let data = Array(readable[16...])
    var status: UInt8 = 1
    var written = 0
    switch number(0, 4) {
    case 0:
      if let range = range(sector, room - 1) {
        into.replaceSubrange(0..<room - 1, with: bytes[range])
        (status, written) = (0, room - 1)
      }
    case 1:
      if let range = range(sector, data.count) {
        bytes.replaceSubrange(range, with: data)
        status = 0
      }
    case 4: status = 0
    case 8:
      written = min(20, room - 1)
      let name = Array("memory".utf8) + [UInt8](repeating: 0, count: 14)
      into.replaceSubrange(0..<written, with: name[0..<written])
      status = 0
    case 11, 13:
      if data.count == 16 {
        let flags = number(28, 4)
        let allowed: UInt64 = number(0, 4) == 13 ? 1 : 0
        if flags & ~allowed != 0 {
          status = 2
        } else if number(24, 4) <= 1 << 21,
          let range = range(number(16, 8), Int(number(24, 4)) * 512)
        {
          bytes.replaceSubrange(range, with: [UInt8](repeating: 0, count: range.count))
          status = 0
        }
      }
    default: status = 2
    }
    into[room - 1] = status
    return BlockAnswer(written: UInt32(written + 1), bytes: into)
  }
}

/// Every small request in every layout beside the model.
@Suite struct BlockOracleTests {
  static let types: [UInt32] = [0, 1, 2, 4, 5, 8, 11, 13, 14, 0x8000_0000, .max]
  /// Where the descriptors end: usual, header split, everything apart, header and data merged,
  /// status with the data, single bytes around every border.
  static let layouts: [BlockCuts] = [
    ([16], { [$0] }), ([8, 16], { [$0] }), ([1, 4, 8, 15, 16, 17], { [1, $0 - 1, $0] }),
    ([], { _ in [] }), ([20, 300], { [$0 - 300] }), ([15, 16, 17, 528], { [511, 512, $0] }),
  ]

  @Test(arguments: types)
  func smallRequests(type: UInt32) throws {
    var rig = try BlockRig(MemoryBlockHost(byteCount: 2048))
    var driver = try rig.driverQueue()
    var dice = BlockDice(state: UInt64(type) + 1)
    var model = BlockModel(bytes: [UInt8](repeating: 0, count: 2048))
    for layout in Self.layouts {
      for sector: UInt64 in [0, 1, 3, 4, 5, 1 << 55, .max] {
        for length in [0, 1, 16, 20, 511, 512, 513, 1024, 2048, 2560] {
          try Self.check(&rig, &driver, &model, type, sector, length, layout, &dice)
        }
      }
    }
    for index in 0..<2048 {
      let byte = rig.device.host.byte(at: index)
      #expect(byte == model.bytes[index])
    }
  }

  static func check(
    _ rig: inout BlockRig<MemoryBlockHost>, _ driver: inout DriverQueue,
    _ model: inout BlockModel, _ type: UInt32, _ sector: UInt64, _ length: Int,
    _ layout: BlockCuts, _ dice: inout BlockDice
  ) throws {
    let isOut = type == 1 || type == 11 || type == 13
    var data = isOut ? dice.bytes(length) : []
    if type >= 11, length == 16 {
      data = blockRange(sector, UInt32(dice.below(4)), dice.below(4) == 0 ? 1 : 0)
    }
    let readable = blockHeader(type, sector) + data
    let room = isOut ? 1 : length + 1
    let expected = model.answer(readable, room: room)
    let found = try rig.exchange(
      &driver, readable, cuts: layout.readable, writable: room,
      writableCuts: layout.writable(room - 1))
    #expect(found == expected, "type \(type) sector \(sector) length \(length)")
  }

  /// Random bytes where the header should be: an answer like the model's, never a trap.
  @Test(arguments: UInt64(1)...4)
  func hostileBytes(seed: UInt64) throws {
    var rig = try BlockRig(MemoryBlockHost(byteCount: 2048))
    var driver = try rig.driverQueue()
    var dice = BlockDice(state: seed)
    var model = BlockModel(bytes: [UInt8](repeating: 0, count: 2048))
    for round in 0..<1500 {
      var readable = dice.bytes(dice.below(3) == 0 ? dice.below(64) : 16 + dice.below(3) * 512)
      if readable.count >= 16, dice.below(2) == 0 {
        readable.replaceSubrange(0..<4, with: littleEndian(UInt64(dice.below(16)), 4))
      }
      if readable.count >= 16, dice.below(2) == 0 {
        readable.replaceSubrange(8..<16, with: littleEndian(UInt64(dice.below(6)), 8))
      }
      let room = readable.isEmpty ? 1 + dice.below(600) : dice.below(3) * 512 + dice.below(2)
      let cuts = (0..<dice.below(6)).map { _ in dice.below(600) }.sorted()
      let expected = model.answer(readable, room: room)
      let found = try rig.exchange(
        &driver, readable, cuts: cuts, writable: room, writableCuts: cuts)
      #expect(found == expected, "seed \(seed) round \(round)")
    }
  }
}
