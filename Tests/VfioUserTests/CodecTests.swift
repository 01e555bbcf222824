import CLinux
import LinuxSupport
import Testing
import VfioUser

/// The codec alone: bytes in, requests or error numbers out.
@Suite struct CodecTests {
  static func request(_ command: VfioUserCommand, _ payload: [UInt8]) throws -> VfioUserRequest {
    try VfioUserRequest(command: command.rawValue, payload: payload)
  }

  static func fault(_ command: UInt16, _ payload: [UInt8]) -> UInt32? {
    do throws(VfioUserFault) {
      _ = try VfioUserRequest(command: command, payload: payload)
      return nil
    } catch { return error.code }
  }

  @Test func headersTravel() {
    let header = VfioUserHeader(
      id: 0x1234, command: 5, size: 48, flags: 0x31, error: 22)
    #expect(
      header.bytes == [0x34, 0x12, 5, 0, 48, 0, 0, 0, 0x31, 0, 0, 0, 22, 0, 0, 0])
    #expect(VfioUserHeader(header.bytes) == header)
    #expect(header.wantsNoReply && !header.isCommand)
    // Every type but 0 is no command.
    for type in UInt32(0)..<16 {
      let typed = VfioUserHeader(id: 0, command: 1, size: 16, flags: type)
      #expect(typed.isCommand == (type == 0))
    }
    #expect(VfioUserHeader([]).size == 0)
  }

  /// Every command number there is: known, or not supported; never anything else.
  @Test func everyCommandNumberHasAnAnswer() {
    let known = Set(VfioUserCommand.allCases.map(\.rawValue))
    for command in UInt16.min...UInt16.max {
      let fault = Self.fault(command, [])
      if known.contains(command) {
        #expect(fault == (command == VfioUserCommand.reset.rawValue ? nil : 22))
      } else {
        #expect(fault == 95)
      }
    }
  }

  /// A payload that is one byte short of what its request needs is refused, a longer one is not.
  @Test(arguments: [
    (VfioUserCommand.version, 4), (.mapMemory, 32), (.unmapMemory, 24), (.deviceInfo, 16),
    (.regionInfo, 32), (.interruptInfo, 16), (.setInterrupts, 20), (.read, 16), (.write, 16),
  ])
  func shortPayloadsAreRefused(command: VfioUserCommand, needed: Int) {
    for count in 0..<needed {
      #expect(Self.fault(command.rawValue, [UInt8](repeating: 0, count: count)) == 22)
    }
    // Read and write of nothing, and interrupts without an action, are refused for what they say.
    let isMeaningless = [.read, .write, .setInterrupts].contains(command)
    let whole = [UInt8](repeating: 0, count: needed)
    #expect(Self.fault(command.rawValue, whole) == (isMeaningless ? 22 : nil))
    #expect(Self.fault(command.rawValue, whole + [0, 0, 0]) == (isMeaningless ? 22 : nil))
  }

  /// All 64 combinations of interrupt flags: one kind of data and one action, or an error.
  @Test func interruptFlagsAreExclusive() throws {
    for flags in UInt32(0)..<256 {
      let fault = Self.fault(8, words(20, flags, 2, 0, 0))
      let isOne = { (part: UInt32) in part != 0 && part & (part - 1) == 0 }
      let isGood = flags < 64 && isOne(flags & 7) && isOne(flags & 0x38)
      #expect((fault == nil) == isGood, "flags \(flags)")
    }
    #expect(Self.fault(8, words(20, 0x24 | 1 << 31, 2, 0, 0)) == 22)
  }

  @Test func interruptRangesAreBounded() throws {
    let most: UInt32 = .max
    for (start, count) in [(most, most), (most, 1), (1, most), (2048, 1), (2000, 49)] {
      #expect(Self.fault(8, words(20, 0x24, 2, start, count)) == 22)
    }
    for index in [5, 6, most] { #expect(Self.fault(8, words(20, 0x21, index, 0, 0)) == 22) }
    #expect(Self.fault(8, words(20, 0x22, 2, 0, 3) + [1, 0]) == 22)
    guard
      case .setInterrupts(let request) = try Self.request(
        .setInterrupts, words(20, 0x12, 0, 0, 3) + [1, 0, 7])
    else { throw ScriptedError.wrongHeader }
    #expect(request.data == .booleans([true, false, true]) && request.action == .unmask)
  }

  @Test func accessesAreBounded() throws {
    let limit = UInt32(VfioUserFormat.dataLimit)
    for count in [0, limit + 1, .max] {
      #expect(Self.fault(9, words(0, 0, 0, count)) == 22)
      #expect(Self.fault(10, words(0, 0, 0, count)) == 22)
    }
    #expect(Self.fault(9, words(0, 0, 9, 4)) == 22)
    #expect(Self.fault(10, words(0, 0, 0, 4) + [1, 2, 3]) == 22)
    #expect(Self.fault(10, words(0, 0, 0, 4) + [1, 2, 3, 4, 5]) == 22)
    #expect(
      try Self.request(.read, words(8, 1, 2, limit))
        == .read(region: 2, offset: 1 << 32 | 8, count: Int(limit)))
    #expect(
      try Self.request(.write, words(4, 0, 7, 2) + [9, 8])
        == .write(region: 7, offset: 4, data: [9, 8]))
  }

  @Test func unmappingWithADirtyMapIsNotSupported() throws {
    #expect(Self.fault(3, words(24, 1, 0, 0, 0, 0)) == 95)
    #expect(
      try Self.request(.unmapMemory, words(24, 0, 1, 2, 3, 4, 5))
        == .unmapMemory(words(24, 0, 1, 2, 3, 4)))
  }

  // MARK: The function

  static func function(_ vectors: UInt16, _ address: UInt64? = nil) -> PCIFunction {
    PCIFunction(
      FunctionDescription(
        peer: 1, maxPeers: 2, vectors: vectors, classCode: 0xff_c002, stateTableSize: 4096,
        readWriteSize: 1 << 33, outputSize: 8192, memoryBarSize: address == nil ? 1 << 34 : 0,
        baseAddress: address))
  }

  /// Every byte, written with ones and with zeroes: only the documented bits change.
  @Test(arguments: [0, 1, 16])
  func onlyWhatIsWritableChanges(vectors: UInt16) {
    let first = Self.function(vectors)
    var writable = [UInt8](repeating: 0, count: 256)
    for offset in 0..<256 {
      var function = first
      function.write([0xff], at: offset)
      let ones = function.read(at: 0, count: 256)
      function.write([0x00], at: offset)
      let zeroes = function.read(at: 0, count: 256)
      for other in 0..<256 where other != offset {
        #expect(ones[other] == zeroes[other] && ones[other] == first.read(at: other, count: 1)[0])
      }
      writable[offset] = ones[offset] ^ zeroes[offset]
      function.reset()
      #expect(function.read(at: 0, count: 256) == first.read(at: 0, count: 256))
    }
    var expected = [UInt8](repeating: 0, count: 256)
    (expected[0x04], expected[0x05], expected[0x0c], expected[0x3c]) = (0x06, 0x04, 0xff, 0xff)
    (expected[0x11], expected[0x12], expected[0x13]) = (0xf0, 0xff, 0xff)
    // BAR 2 of 16 GiB: nothing below bit 34.
    (expected[0x1c], expected[0x1d], expected[0x1e], expected[0x1f]) = (0xfc, 0xff, 0xff, 0xff)
    expected[0x43] = 1
    if vectors > 0 {
      (expected[0x15], expected[0x16], expected[0x17]) = (0xfe, 0xff, 0xff)
      expected[0x63] = 0xc0
    }
    #expect(writable == expected)
  }

  @Test func accessesBesideConfigurationSpaceAreHarmless() {
    var function = Self.function(2)
    let before = function.read(at: 0, count: 256)
    function.write([UInt8](repeating: 0xff, count: 64), at: 255)
    function.write([0], at: 1 << 40)
    #expect(function.read(at: 0, count: 256) == before)
    #expect(function.read(at: 254, count: 4) == [0xff, 0xff, 0xff, 0xff])
  }

  @Test func withoutBarTwoTheAddressIsShown() {
    let bytes = Self.function(0, 0x8_4f00_0000).read(at: 0, count: 128)
    #expect(bytes[0x42] == 0x20 && little(bytes, 0x58, 8) == 0x8_4f00_0000)
    #expect(little(bytes, 0x18, 8) == 0)
    #expect(little(bytes, 0x48, 8) == 1 << 33)
  }
}
