import Foundation
import Testing
import VirtioDevice
import VirtioTransport

/// docs/protocol.md against the code: every row of its tables, and nothing missing.
@Suite struct ProtocolPageTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func page() throws -> String {
    try String(contentsOf: root.appendingPathComponent("docs/protocol.md"), encoding: .utf8)
  }

  /// The rows of a table: number and name.
  static func table(_ name: String) throws -> [Int: String] {
    var rows: [Int: String] = [:]
    var isInside = false
    for line in try page().components(separatedBy: "\n") {
      if line == "<!-- table: \(name) -->" {
        isInside = true
        continue
      }
      guard isInside else { continue }
      guard line.hasPrefix("|") else { break }
      let cells = line.split(separator: "|", omittingEmptySubsequences: false)
        .map { $0.trimmingCharacters(in: .whitespaces) }
      let text = cells[1]
      let value = text.hasSuffix("h") ? Int(text.dropLast(), radix: 16) : Int(text)
      if let value { rows[value] = cells[2] }
    }
    return rows
  }

  static func check(_ name: String, _ coded: (Int) -> String?) throws {
    let rows = try table(name)
    #expect(!rows.isEmpty, "\(name): no such table")
    for value in 0..<0x1000 {
      #expect(rows[value] == coded(value), "\(name): \(String(value, radix: 16))h")
    }
  }

  @Test func everyTableAgrees() throws {
    try Self.check("Header") { BlockLayout.Header(rawValue: $0).map { "\($0)" } }
    try Self.check("DriverSlot") { BlockLayout.DriverSlot(rawValue: $0).map { "\($0)" } }
    try Self.check("DeviceSlot") { BlockLayout.DeviceSlot(rawValue: $0).map { "\($0)" } }
    try Self.check("MMIORegister") { MMIORegister(rawValue: $0).map { "\($0)" } }
    try Self.check("RegisterRefusal") {
      RegisterRefusal(rawValue: UInt32($0)).map { "\($0)" }
    }
    try Self.check("LinkReason") { LinkReason(rawValue: UInt32($0)).map { "\($0)" } }
  }

  @Test func theStatusBitsAgree() throws {
    let rows = try Self.table("ExtendedStatus")
    let coded: [(String, ExtendedStatus)] = [
      ("present", .present), ("blocked", .blocked), ("busy", .busy), ("quiescing", .quiescing),
      ("error", .error), ("goingAway", .goingAway),
    ]
    #expect(rows.count == coded.count)
    for (name, status) in coded {
      #expect(rows[status.rawValue.trailingZeroBitCount] == name)
    }
  }

  @Test func theFixedNumbersAgree() throws {
    let page = try Self.page()
    let magic = String(BlockLayout.magic, radix: 16, uppercase: true)
    #expect(page.contains("\(magic)h"))
    #expect(LinkSide.frontEnd.stateValue == 0x434d_0101)
    #expect(LinkSide.backEnd.stateValue == 0x434d_0102)
    #expect(page.contains("434D0101h") && page.contains("434D0102h"))
    #expect(BlockLayout.deviceBlockSize == 0x3000 && BlockLayout.driverBlockSize == 0x1000)
    #expect(
      BlockLayout.deviceSlot(BlockLayout.slotCount) <= BlockLayout.deviceBlockSize
        && BlockLayout.driverSlot(BlockLayout.slotCount) <= BlockLayout.driverBlockSize)
  }

  /// Every rule has a line in the last section, and what it names exists.
  @Test func everyRuleNamesWhatHoldsIt() throws {
    let page = try Self.page()
    let parts = page.components(separatedBy: "## 11.")
    #expect(parts.count == 2)
    let rules = parts[0].components(separatedBy: "**R").dropFirst()
      .compactMap { Int($0.prefix { $0.isNumber }) }
    #expect(rules == Array(1...24))
    for rule in rules {
      let row = parts[1].components(separatedBy: "\n").first { $0.hasPrefix("| R\(rule) |") }
      guard let row else {
        Issue.record("R\(rule) has no holder")
        continue
      }
      for word in row.components(separatedBy: "`").enumerated() where word.offset % 2 == 1 {
        try Self.findHolder(word.element, of: rule)
      }
      #expect(row.contains("`"), "R\(rule)")
    }
  }

  static func findHolder(_ name: String, of rule: Int) throws {
    if name.contains("/") {
      let file = root.appendingPathComponent(name)
      #expect(FileManager.default.fileExists(atPath: file.path), "R\(rule): \(name)")
      return
    }
    let walk = FileManager.default.enumerator(atPath: root.appendingPathComponent("Tests").path)
    while let path = walk?.nextObject() as? String {
      guard path.hasSuffix(".swift") else { continue }
      let text = try String(
        contentsOf: root.appendingPathComponent("Tests/\(path)"), encoding: .utf8)
      if text.contains("func \(name)(") { return }
    }
    Issue.record("R\(rule): no test is called \(name)")
  }
}
