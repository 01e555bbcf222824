import CellFormat
import Testing

@Suite struct CellFormatTests {
  @Test func anEmptyCellIsItsHeaderAndItsCPUSet() throws {
    let bytes = ConfigurationFile.cell(CellConfiguration()).encoded()
    #expect(bytes.count == 132 + 8)
    #expect(try ConfigurationFile(decoding: bytes).encoded() == bytes)
    let system = ConfigurationFile.system(SystemConfiguration()).encoded()
    #expect(system.count == 488 + 8)
    #expect(try ConfigurationFile(decoding: system).encoded() == system)
  }

  @Test(arguments: 1...200) func encodeThenDecodeIsTheIdentity(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let file = RandomCells.file(&random)
    let bytes = file.encoded()
    let back = try ConfigurationFile(decoding: bytes)
    #expect(back == file, "seed \(seed)")
    #expect(back.encoded() == bytes, "seed \(seed)")
  }

  @Test(arguments: 1...12) func noPrefixIsAFile(seed: Int) throws {
    var random = SeededGenerator(seed: UInt64(seed))
    let bytes = RandomCells.file(&random).encoded()
    for length in 0..<bytes.count {
      let error = #expect(throws: FormatError.self) {
        try ConfigurationFile(decoding: Array(bytes.prefix(length)))
      }
      #expect(error?.rule == "E02", "seed \(seed), \(length) of \(bytes.count) bytes")
      #expect((error?.offset ?? .max) <= length)
    }
  }

  @Test(arguments: [1, 7, 4096]) func bytesBehindTheLastArrayAreRefused(extra: Int) {
    var random = SeededGenerator(seed: 5)
    let bytes = RandomCells.file(&random).encoded()
    let error = #expect(throws: FormatError.self) {
      try ConfigurationFile(decoding: bytes + [UInt8](repeating: 0, count: extra))
    }
    #expect(error?.rule == "E02")
    #expect(error?.offset == bytes.count)
    #expect(error?.message.contains("\(extra) byte") == true)
  }

  /// The size of the CPU set and the seven counts, each with values that no file can have.
  @Test(
    arguments: [0x30, 0x34, 0x38, 0x3c, 0x40, 0x44, 0x48, 0x4c],
    [0xffff_ffff, 0x8000_0000, 0x0800_0000, 0x0000_1000] as [UInt64])
  func hugeCountsAreRefusedBeforeAnythingIsRead(offset: Int, count: UInt64) {
    for isSystem in [false, true] {
      var bytes = CellLayoutTests.blank(isSystem: isSystem)
      CellLayoutTests.put(count, 4, at: (isSystem ? 0x164 : 0) + offset, in: &bytes)
      let error = #expect(throws: FormatError.self) { try ConfigurationFile(decoding: bytes) }
      #expect(error?.rule == "E02")
      #expect(error?.message.contains("\(count)") == true, "\(error?.message ?? "")")
    }
  }

  @Test func aCountThatIsOneTooSmallOrTooLargeIsFound() {
    for offset in stride(from: 0x30, through: 0x4c, by: 4) {
      for change in [-1, 1] {
        var bytes = CellLayoutTests.blank(isSystem: false)
        bytes[offset] = UInt8(Int(bytes[offset]) + change)
        #expect(throws: FormatError.self) { try ConfigurationFile(decoding: bytes) }
      }
    }
  }

  @Test(arguments: [0, 1, 3, 7, 9, 64, 4096]) func everyLengthOfACPUSetIsKept(length: Int) throws {
    var cell = CellConfiguration()
    cell.cpuSet = [UInt8](repeating: 0x81, count: length)
    let bytes = ConfigurationFile.cell(cell).encoded()
    let back = try ConfigurationFile(decoding: bytes)
    #expect(back.cell == cell)
    #expect(back.cell.cpus.count == 2 * length)
    #expect(back.cell.cpus.prefix(2) == [0, 7].prefix(2 * length))
  }

  @Test func whatIsNoConfigurationIsSaidToBeNone() {
    let strangers: [[UInt8]] = [
      Array("\u{7f}ELF\u{2}\u{1}\u{1}\u{0}".utf8), Array("JAILSYST".utf8), Array("JHCELT\r\0".utf8),
      [0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 0], [UInt8](repeating: 0xff, count: 600),
      Array("// SPDX-License-Identifier".utf8),
    ]
    for bytes in strangers {
      let error = #expect(throws: FormatError.self) { try ConfigurationFile(decoding: bytes) }
      #expect(error?.rule == "E01")
      #expect(error?.offset == 0)
      #expect(error?.message.contains("no Jailhouse configuration") == true)
    }
  }

  @Test func otherRevisionsAreNamed() {
    for (signature, revisions) in [
      ("JHCLL", [0, 12, 13, 15, 0xffff]), ("JHSYS", [13, 15]), ("JHCELL", [0, 11, 12, 14, 15]),
      ("JHSYST", [12, 14]),
    ] {
      for revision in revisions {
        var bytes = CellLayoutTests.blank(isSystem: signature.hasPrefix("JHS"))
        bytes.replaceSubrange(0..<signature.utf8.count, with: Array(signature.utf8))
        CellLayoutTests.put(UInt64(revision), 2, at: 6, in: &bytes)
        let error = #expect(throws: FormatError.self) { try ConfigurationFile(decoding: bytes) }
        #expect(error?.rule == "E01")
        #expect(error?.offset == 6)
        #expect(error?.message.contains("revision \(revision) ") == true)
      }
    }
  }

  @Test func architecturesBeyondTheKnownAreRefused() throws {
    for architecture in 0...255 {
      var bytes = CellLayoutTests.blank(isSystem: false)
      bytes[5] = UInt8(architecture)
      if architecture <= 2 {
        let file = try ConfigurationFile(decoding: bytes)
        #expect(file.cell.architecture?.rawValue == UInt8(architecture))
      } else {
        let error = #expect(throws: FormatError.self) { try ConfigurationFile(decoding: bytes) }
        #expect(error?.rule == "E01")
        #expect(error?.offset == 5)
      }
    }
  }

  @Test func revision13IsReadAndWrittenBackAsSuch() throws {
    for isSystem in [false, true] {
      var bytes = CellLayoutTests.blank(isSystem: isSystem)
      bytes.replaceSubrange(0..<6, with: Array((isSystem ? "JHSYST" : "JHCELL").utf8))
      bytes[6] = 13
      let file = try ConfigurationFile(decoding: bytes)
      #expect(file.cell.revision == .thirteen)
      #expect(file.cell.architecture == nil)
      #expect(file.encoded() == bytes)
    }
  }

  @Test func flagsNamesAndInterruptsReadAsTheyAreMeant() {
    var cell = CellConfiguration()
    cell.nameBytes = Array("guest".utf8) + [0] + Array("rest of the field".utf8)
    cell.cpuSet = [0b1100, 0, 0, 0, 0, 0, 0, 0x80]
    var chip = IRQChip()
    chip.pinBase = 160
    chip.pinBitmap = [1 << 26 | 1 << 29, 0, 0, 1 << 31]
    cell.irqchips = [chip]
    #expect(cell.name == "guest")
    #expect(cell.cpus == [2, 3, 63])
    #expect(cell.interruptIDs == [186, 189, 287])
  }
}
