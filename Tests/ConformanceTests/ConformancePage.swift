import Foundation

/// docs/conformance.md as tables, and what is wrong with it.
struct ConformancePage {
  struct Section: Equatable {
    let number: String
    let who: String
    let count: Int
  }

  struct Row: Equatable {
    let section: String
    let ordinals: ClosedRange<Int>
    let who: String
    let words: String
    let answer: String
  }

  private(set) var sections: [Section] = []
  private(set) var rows: [Row] = []
  /// What could not be read at all.
  private(set) var misread: [String] = []

  init(_ text: String) {
    for cells in Self.table("sections", text) {
      guard cells.count == 4, let count = Int(cells[3]), count > 0, !cells[2].isEmpty else {
        misread.append("section: \(cells)")
        continue
      }
      sections.append(Section(number: cells[0], who: cells[1], count: count))
    }
    for cells in Self.table("statements", text) {
      guard cells.count == 5, let ordinals = Self.ordinals(cells[1]) else {
        misread.append("statement: \(cells)")
        continue
      }
      rows.append(
        Row(
          section: cells[0], ordinals: ordinals, who: cells[2], words: cells[3],
          answer: cells[4]))
    }
  }

  /// The cells of a table, without its two lines of heading.
  static func table(_ name: String, _ text: String) -> [[String]] {
    let parts = text.components(separatedBy: "<!-- table: \(name) -->\n")
    guard parts.count == 2 else { return [] }
    return parts[1].components(separatedBy: "\n").prefix { $0.hasPrefix("|") }.dropFirst(2).map {
      $0.dropFirst().dropLast().components(separatedBy: "|").map {
        $0.trimmingCharacters(in: .whitespaces)
      }
    }
  }

  /// "3" or "3-5".
  static func ordinals(_ text: String) -> ClosedRange<Int>? {
    let ends = text.components(separatedBy: "-").map { Int($0) ?? 0 }
    guard ends.count <= 2, let first = ends.first, let last = ends.last, first > 0, first <= last
    else { return nil }
    return first...last
  }

  // MARK: Rules

  /// Everything wrong with the page; `tests` are the tests there are, `exists` knows the files.
  func faults(tests: Set<String>, exists: (String) -> Bool) -> [String] {
    var faults = misread
    if sections.isEmpty || rows.isEmpty { faults.append("a table is missing") }
    for row in rows where !sections.contains(where: { $0.number == row.section }) {
      faults.append("\(row.section): no such section")
    }
    for (index, section) in sections.enumerated() {
      if sections.prefix(index).contains(where: { $0.number == section.number }) {
        faults.append("\(section.number): stated twice")
      }
      faults += gaps(section)
    }
    for row in rows { faults += Self.faults(row, tests, exists) }
    return faults
  }

  /// The ordinals of a section run from 1 to its count, each once and in order.
  private func gaps(_ section: Section) -> [String] {
    var faults: [String] = []
    var next = 1
    for row in rows where row.section == section.number {
      if row.ordinals.lowerBound != next {
        faults.append("\(section.number): \(row.ordinals) where \(next) is due")
      }
      if row.who != section.who { faults.append("\(section.number): who is \(row.who)?") }
      next = row.ordinals.upperBound + 1
    }
    if next != section.count + 1 {
      faults.append("\(section.number): \(next - 1) statements of \(section.count)")
    }
    return faults
  }

  private static func faults(
    _ row: Row, _ tests: Set<String>, _ exists: (String) -> Bool
  ) -> [String] {
    let name = "\(row.section)/\(row.ordinals.lowerBound)"
    var faults: [String] = []
    if row.words.count < 5 { faults.append("\(name): no paraphrase") }
    // The specification's own words are its own: its key words in capitals give a copy away.
    for word in ["MUST", "SHOULD", "SHALL", "RECOMMENDED", "MAY"] {
      if row.words.components(separatedBy: .alphanumerics.inverted).contains(word) {
        faults.append("\(name): '\(word)' in a paraphrase")
      }
    }
    for kind in ["not applicable", "deviation"] where row.answer.hasPrefix(kind) {
      let reason = row.answer.dropFirst(kind.count)
      if !reason.hasPrefix(": ") || reason.count < 12 { faults.append("\(name): no reason") }
      if kind == "deviation", row.ordinals.count > 1 { faults.append("\(name): one at a time") }
      // Tests that a reason names exist, too.
      return faults
        + quoted(row.answer).filter { $0.contains("Tests.") }
        .filter { !tests.contains($0) }.map { "\(name): no test \($0)" }
    }
    let holders = quoted(row.answer)
    let plain = holders.map { "`\($0)`" }.joined(separator: ", ")
    if holders.isEmpty || plain != row.answer { faults.append("\(name): no answer") }
    if row.ordinals.count > 1 { faults.append("\(name): one at a time") }
    for holder in holders where !tests.contains(holder) {
      if !(holder.hasPrefix("Models/") && exists(holder)) {
        faults.append("\(name): no test \(holder)")
      }
    }
    return faults
  }

  private static func quoted(_ text: String) -> [String] {
    text.components(separatedBy: "`").enumerated().filter { $0.offset % 2 == 1 }.map(\.element)
  }

  // MARK: The tests there are

  /// `Suite.test` of every test in a source file: a function with `@Test` in the lines directly
  /// above it, in the type or extension that was opened last.
  static func tests(in source: String) -> Set<String> {
    var found: Set<String> = []
    var suite = ""
    var hasAttribute = false
    for line in source.components(separatedBy: "\n") {
      let words = line.components(separatedBy: .alphanumerics.inverted).filter { !$0.isEmpty }
      let isTopLevel = line.first.map { !$0.isWhitespace && $0 != "/" } ?? false
      if isTopLevel, let at = words.firstIndex(where: typeWords.contains), at + 1 < words.count {
        suite = words[at + 1]
      }
      if line.trimmingCharacters(in: .whitespaces).hasPrefix("@Test") { hasAttribute = true }
      if let at = words.firstIndex(of: "func"), at + 1 < words.count {
        if hasAttribute { found.insert("\(suite).\(words[at + 1])") }
        hasAttribute = false
      }
    }
    return found
  }

  private static let typeWords: Set<String> = ["struct", "class", "actor", "enum", "extension"]
}
