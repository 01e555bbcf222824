import CommandOptions
import Foundation
import FrontendCommands
import Testing
import ToolSupport

@testable import BoardCommands

/// Decoders and formats, with input that nobody should believe.
@Suite struct LookTests {
  // MARK: Words of a ping

  @Test func pingWordsComeBackAndOthersDoNot() {
    for phase in [PingWord.Phase.ready, .begin, .begun, .ask, .seen, .end] {
      for content in [UInt16(0), 1, .max] {
        let word = PingWord.state(phase, content)
        #expect(PingWord.read(word)?.phase == phase)
        #expect(PingWord.read(word)?.content == content)
        #expect(stateMeaning(word) != nil)
      }
    }
    // No state of another protocol is taken for one.
    for state: UInt32 in [0, 1, 2, 3, 0x434d_0101, 0x434d_0102, .max, 0xce90_0000, 0xce97_0000] {
      #expect(PingWord.read(state) == nil)
    }
  }

  @Test func timesAreSummedUp() {
    let times = PingTimes((1...1000).map { UInt64($0 * 1000) })
    #expect(times.percentile(500) == 500_000)
    #expect(times.percentile(999) == 999_000)
    #expect(times.percentile(1000) == 1_000_000)
    #expect(times.mean == 500_500)
    #expect(times.histogram.reduce(0) { $0 + $1.count } == 1000)
    #expect(times.histogram.first?.from == 512)
    let none = PingTimes([])
    #expect(none.percentile(500) == 0)
    #expect(none.mean == 0)
    #expect(none.histogram.isEmpty)
    #expect(PingTimes([0, .max]).histogram.map { $0.from } == [0, 1 << 63])
    #expect(microseconds(1) == "0.0")
    #expect(microseconds(12_345) == "12.3")
    #expect(microseconds(.max) == "0.0")
  }

  // MARK: Formats

  @Test func hexadecimalComesBack() {
    #expect(bytesOf(hex: hexBytes([0, 1, 0xab, 0xff])) == [0, 1, 0xab, 0xff])
    for text in ["0", "0g", "AB", "0x", "é"] { #expect(bytesOf(hex: text) == nil) }
    #expect(bytesOf(hex: "") == [])
  }

  @Test func fieldsOfAnswersAreFound() {
    let text = "{\"ok\":true,\"id\":7,\"name\":\"a b\",\"big\":99999999999999999999,\"no\":\"x"
    #expect(JSONField.number("id", text) == 7)
    #expect(JSONField.number("i", text) == nil)
    #expect(JSONField.number("big", text) == nil)
    #expect(JSONField.number("name", text) == nil)
    #expect(JSONField.string("name", text) == "a b")
    #expect(JSONField.string("no", text) == "x")
    #expect(JSONField.string("ok", text) == nil)
    let place = RingPlace(slot: 1, queue: 2, size: 8, descriptors: 3, available: 4, used: .max)
    #expect(RingPlace.parse("{\"ok\":true,\"rings\":[\(place.json)]}") == [place])
    #expect(RingPlace.parse("{\"slot\":9,\"queue\":0}{\"slot\":0") == [])
  }

  @Test func objectsAndColumnsAreText() throws {
    var object = JSONObject()
    object.add("text", "quote \" and\nline")
    object.add("none", nil)
    object.add("number", number: UInt64.max)
    object.add("flag", flag: false)
    object.add("list", strings: ["a", "b"])
    let value = try decoded(object.text)
    #expect(value["text"] as? String == "quote \" and\nline")
    #expect(value["none"] is NSNull)
    #expect(value["list"] as? [String] == ["a", "b"])
    #expect(JSONObject().text == "{}")
    #expect(columns([["a", "bbb"], ["cc", "d"]]) == "a   bbb\ncc  d\n")
    #expect(sizeText(0) == "0")
    #expect(sizeText(4096) == "4K")
    #expect(sizeText(4097) == "4097")
    #expect(sizeText(1 << 63) == "8388608T")
    #expect(bitNames(7, [(1, "one"), (2, "two")]) == "one+two+0x4")
    #expect(statusText(0xf) == "acknowledge+driver+featuresOK+driverOK")
  }

  // MARK: Rings

  /// Memory of a link with a ring of four descriptors at 0, 0x100 and 0x200.
  struct Memory {
    var bytes = [UInt8](repeating: 0, count: 4096)

    mutating func put(_ value: UInt64, _ at: Int, _ count: Int) {
      for index in 0..<count { bytes[at + index] = UInt8(truncatingIfNeeded: value >> (8 * index)) }
    }

    mutating func descriptor(
      _ index: Int, _ address: UInt64, _ count: UInt64, flags: UInt64, next: UInt64
    ) {
      put(address, 16 * index, 8)
      put(count, 16 * index + 8, 4)
      put(flags, 16 * index + 12, 2)
      put(next, 16 * index + 14, 2)
    }

    func read(_ offset: Int, _ count: Int) -> [UInt8] {
      guard offset >= 0, count > 0, offset <= bytes.count - count else { return [] }
      return Array(bytes[offset..<offset + count])
    }

    func picture(
      size: UInt32 = 4, table: UInt64 = 0, available: UInt64 = 0x100, used: UInt64 = 0x200,
      base: UInt64 = 0
    ) throws -> RingPicture {
      try RingPicture(
        size: size, descriptors: table, available: available, used: used, base: base, limit: 4096
      ) { offset, count in read(offset, count) }
    }
  }

  @Test func aRingIsDecoded() throws {
    var memory = Memory()
    memory.put(6, 0x102, 2)
    memory.put(5, 0x202, 2)
    // Position 5 of four entries is entry 1.
    memory.put(2, 0x104 + 2, 2)
    memory.descriptor(2, 0x400, 16, flags: 1, next: 3)
    memory.descriptor(3, 0xfff, 1, flags: 2, next: 0)
    let ring = try memory.picture()
    #expect(ring.problem == nil)
    #expect(ring.inFlight == 1)
    #expect(ring.chains.count == 1)
    #expect(ring.chains[0].position == 5)
    #expect(ring.chains[0].descriptors.map { $0.index } == [2, 3])
    #expect(ring.chains[0].descriptors.map { $0.flagText } == ["next", "write"])
    #expect(ring.chains[0].descriptors.map { $0.isInside } == [true, true])
    #expect(ring.chains[0].problem == nil)
  }

  @Test func hostileRingsAreDescribedAndNotFollowed() throws {
    var memory = Memory()
    memory.put(3, 0x102, 2)
    memory.put(0xffff, 0x104, 2)
    memory.put(1, 0x106, 2)
    memory.put(2, 0x108, 2)
    memory.descriptor(1, .max, 0xffff_ffff, flags: 1, next: 1)
    memory.descriptor(2, 4095, 2, flags: 0xffff, next: 9)
    let ring = try memory.picture()
    #expect(ring.chains[0].problem == "descriptor 65535 is none of 4")
    #expect(ring.chains[1].problem == "longer")
    #expect(ring.chains[1].descriptors.count == RingPicture.descriptorLimit)
    #expect(ring.chains[1].descriptors[0].isInside == false)
    #expect(ring.chains[2].descriptors[0].isInside == false)
    #expect(ring.chains[2].problem == "descriptor 9 is none of 4")
    for size: UInt32 in [0, 3, 65536, .max] {
      #expect(try memory.picture(size: size).problem?.contains("no power of 2") == true)
    }
    for place: UInt64 in [4096, .max, 1 << 63, 4094] {
      #expect(try memory.picture(available: place).problem != nil)
      #expect(try memory.picture(used: place).problem != nil)
    }
    #expect(try memory.picture(table: .max).problem != nil)
    let far = try memory.picture(table: 4090)
    #expect(far.chains[1].problem == "descriptor 1 is outside the link's memory")
    // What is subtracted makes small addresses large, not negative.
    #expect(try memory.picture(base: 1).problem != nil)
    memory.put(0x8000, 0x102, 2)
    let many = try memory.picture()
    #expect(many.problem == "more chains in flight than it has descriptors")
    #expect(many.chains.count == RingPicture.chainLimit)
  }

  /// Any memory at all: nothing traps, nothing is endless.
  @Test func noiseIsDecoded() throws {
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<200 {
      var memory = Memory()
      for index in memory.bytes.indices { memory.bytes[index] = generator.next() }
      let ring = try memory.picture(
        size: 1 << (generator.next() as UInt32 % 16), table: generator.next() as UInt64 % 5000,
        available: generator.next() as UInt64 % 5000, used: generator.next() as UInt64 % 5000)
      #expect(ring.chains.count <= RingPicture.chainLimit)
      for chain in ring.chains { #expect(chain.descriptors.count <= RingPicture.descriptorLimit) }
    }
  }

  // MARK: Pages

  @Test func everyVerbHasAWholePage() throws {
    for tool in BoardTool.allCases {
      let page = tool.page
      #expect(BoardTool(page.name) == tool)
      #expect(page.usage.hasPrefix(page.name))
      let shown = try runTool(["help", page.name])
      #expect(shown.status == 0)
      #expect(shown.output == page.text)
      #expect(try runTool([page.name, "--help"]).output == page.text)
      for option in page.options { #expect(shown.output.contains("--\(option.name)")) }
      for line in page.text.split(separator: "\n") where line.utf8.count > 110 {
        Issue.record("help \(page.name): a line of \(line.utf8.count) bytes")
      }
      #expect(try runTool([page.name, "--nonsense"]).status == 2)
    }
    for tool in FrontendTool.allCases {
      let shown = try runTool(["help", "frontend", tool.name])
      #expect(shown.output == tool.page.text)
      #expect(try runTool(["frontend", tool.name, "--help"]).output == tool.page.text)
      for option in tool.page.options { #expect(shown.output.contains("--\(option.name)")) }
    }
    #expect(try runTool(["help", "frontend"]).output.contains(FrontendTool.network.page.text))
    #expect(try runTool(["help", "status"]).output == StatusTool.page.text)
    #expect(try runTool(["help", "nothing"]).status == 2)
    #expect(try runTool([]).status == 2)
    #expect(try runTool(["--version"]).output.hasPrefix("ivshmem 0."))
    let all = try runTool(["help"]).output
    let book = try String(
      contentsOf: URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("docs/ivshmem.md"), encoding: .utf8)
    for tool in BoardTool.allCases {
      #expect(all.contains("ivshmem \(tool.page.name)"))
      #expect(book.contains("| `\(tool.page.name)"), "docs/ivshmem.md lacks \(tool.page.name)")
    }
  }
}
