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
}
