import CellFormat
import Foundation
import Testing

/// By hand: `CELLMATE_CELLS` names a folder of `.cell` files that others built; each has to decode
/// and to encode to the same bytes. Without it there is nothing to do: no such file is kept here.
@Suite struct CellCorpusTests {
  static func files() -> [URL] {
    guard let folder = CellFuzzTests.environment("CELLMATE_CELLS"),
      let walk = FileManager.default.enumerator(atPath: folder)
    else { return [] }
    return walk.compactMap { $0 as? String }.filter { $0.hasSuffix(".cell") }.sorted()
      .map { URL(fileURLWithPath: folder).appendingPathComponent($0) }
  }

  @Test func filesOfOthersAreKeptByteForByte() throws {
    let files = Self.files()
    for file in files {
      let bytes = [UInt8](try Data(contentsOf: file))
      let decoded = try ConfigurationFile(decoding: bytes)
      #expect(decoded.encoded() == bytes, "\(file.path)")
    }
    if !files.isEmpty { print("cell corpus: \(files.count) files decoded and encoded") }
  }
}
