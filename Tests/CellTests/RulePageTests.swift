import CellCheck
import CellFormat
import Foundation
import Testing

/// The pages of docs/rules say what the table of rules says, and show what the tool prints.
///
/// With CELLMATE_WRITE_RULE_PAGES set in the environment the pages are written instead: all but
/// the part between "Wrong and mended" and "What the tool says", which people write.
@Suite struct RulePageTests {
  static let folder = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    .appendingPathComponent("docs/rules")
  static let example = "## Wrong and mended\n"
  static let shown = "## What the tool says\n"

  /// Text of a finding of the rule, from its fixture.
  static func finding(of rule: Rule) throws -> String {
    if rule.id == "E02" {
      let bytes = ConfigurationFile.cell(TestSystem.makeBare()).encoded()
      do {
        _ = try ConfigurationFile(decoding: Array(bytes.dropLast(100)))
      } catch {
        return CellCheck.finding(for: error, file: "bare.cell").text
      }
    }
    var system = TestSystem()
    let fixture = try #require(Fixture.all.first { $0.rule == rule.id })
    fixture.inject(&system)
    return try #require(check(try system.set()).first).text
  }

  static func wrapped(_ text: String, _ width: Int) -> String {
    var lines = [""]
    for word in text.split(separator: " ") {
      if lines[lines.count - 1].isEmpty {
        lines[lines.count - 1] = String(word)
      } else if lines[lines.count - 1].count + 1 + word.count > width {
        lines.append(String(word))
      } else {
        lines[lines.count - 1] += " \(word)"
      }
    }
    return lines.joined(separator: "\n")
  }

  static func page(_ rule: Rule, example: String) throws -> String {
    """
    # \(rule.id): \(rule.title)

    Severity: **\(rule.severity.rawValue)**. Family: \(rule.family.rawValue). \
    [All rules](README.md)

    ## Why

    \(wrapped(rule.why, 118))

    \(Self.example)\(example)\(Self.shown)
    ```text
    \(try finding(of: rule))
    ```

    """
  }

  static func index() -> String {
    var text = """
      # Rules of the cell checker

      `ivshmem-cell check root.cell guest.cell ...` compares a set of cell configurations, and the device trees that go
      with it, with these rules. `--explain RULE` prints what a rule is about. An *error* keeps something from working
      or breaks the isolation of a guest; a *warning* may be meant; a *note* is only said.

      Letters are part of the id and not the severity: the table says what counts. Rules are never renumbered.

      """
    for family in Rule.Family.allCases {
      let name = family.rawValue
      text += "\n## \(name.prefix(1).uppercased() + name.dropFirst())\n\n"
      text += "| rule | severity | what has to be so |\n|---|---|---|\n"
      for rule in Rule.all where rule.family == family {
        text += "| [\(rule.id)](\(rule.id).md) | \(rule.severity.rawValue) | \(rule.title) |\n"
      }
    }
    return text
  }

  @Test(arguments: Rule.all.map(\.id)) func pageSaysWhatTheRuleSays(_ id: String) throws {
    let rule = try #require(Rule.named(id))
    let file = Self.folder.appendingPathComponent("\(id).md")
    let text = try String(contentsOf: file, encoding: .utf8)
    let start = try #require(text.range(of: Self.example))
    let end = try #require(text.range(of: Self.shown))
    let expected = try Self.page(rule, example: String(text[start.upperBound..<end.lowerBound]))
    if ProcessInfo.processInfo.environment["CELLMATE_WRITE_RULE_PAGES"] != nil {
      try expected.write(to: file, atomically: true, encoding: .utf8)
    } else {
      #expect(text == expected)
    }
    #expect(text[start.upperBound..<end.lowerBound].contains("Mended:"))
    #expect("docs/rules/\(id).md" == rule.page)
  }

  @Test func indexNamesEveryRule() throws {
    let file = Self.folder.appendingPathComponent("README.md")
    if ProcessInfo.processInfo.environment["CELLMATE_WRITE_RULE_PAGES"] != nil {
      try Self.index().write(to: file, atomically: true, encoding: .utf8)
    }
    #expect(try String(contentsOf: file, encoding: .utf8) == Self.index())
    let pages = try FileManager.default.contentsOfDirectory(atPath: Self.folder.path)
    #expect(Set(pages) == Set(Rule.all.map { "\($0.id).md" } + ["README.md"]))
  }
}
