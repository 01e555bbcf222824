import Foundation
import Testing

/// docs/conformance.md is complete: every statement has an answer, and every test it names exists.
/// Each rule has a bad page beside it: a rule that cannot fail is no rule.
@Suite struct ConformanceTests {
  static let root = URL(fileURLWithPath: #filePath)
    .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

  static func exists(_ path: String) -> Bool {
    FileManager.default.fileExists(atPath: root.appendingPathComponent(path).path)
  }

  /// Every test of the project.
  static func tests() throws -> Set<String> {
    let folder = root.appendingPathComponent("Tests")
    let walk = FileManager.default.enumerator(atPath: folder.path)
    var found: Set<String> = []
    while let name = walk?.nextObject() as? String {
      guard name.hasSuffix(".swift") else { continue }
      let text = try String(contentsOf: folder.appendingPathComponent(name), encoding: .utf8)
      found.formUnion(ConformancePage.tests(in: text))
    }
    return found
  }

  @Test func everyStatementIsAnswered() throws {
    let text = try String(
      contentsOf: Self.root.appendingPathComponent("docs/conformance.md"), encoding: .utf8)
    let page = ConformancePage(text)
    #expect(page.sections.count > 40 && page.rows.count > 190)
    let tests = try Self.tests()
    #expect(tests.contains("ConformanceTests.everyStatementIsAnswered") && tests.count > 100)
    #expect(page.faults(tests: tests, exists: Self.exists) == [])
  }

  // MARK: Every rule can fail

  static let sections = """
    <!-- table: sections -->
    | section | who | subject | statements |
    |---|---|---|---|
    | 2.1 | driver | status | 2 |
    | 2.2 | device | status | 4 |

    """
  static let rows = """
    <!-- table: statements -->
    | section | ordinal | who | in our words | answer |
    |---|---|---|---|---|
    | 2.1 | 1 | driver | bits stay | `ATests.one` |
    | 2.1 | 2 | driver | bits come | `ATests.one`, `BTests.two` |
    | 2.2 | 1 | device | all is well | `Models/queue.pml` |
    | 2.2 | 2-3 | device | all is quiet | not applicable: there is no noise |
    | 2.2 | 4 | device | all is done | deviation: we are lazy (`BTests.two`) |

    """

  static func faults(_ text: String) -> [String] {
    ConformancePage(text).faults(
      tests: ["ATests.one", "BTests.two"], exists: { $0 == "Models/queue.pml" })
  }

  @Test func aGoodPageHasNoFault() {
    #expect(Self.faults(Self.sections + Self.rows) == [])
  }

  static let changes: [(String, String, String)] = [
    ("a test that does not exist", "`ATests.one` |", "`ATests.three` |"),
    ("a second test that does not exist", "`BTests.two` |", "`BTests.three` |"),
    ("a test of another suite", "`ATests.one` |", "`BTests.one` |"),
    ("a model that does not exist", "Models/queue.pml", "Models/none.pml"),
    ("a file that is no model", "Models/queue.pml", "Sources/queue.pml"),
    ("no answer", "`ATests.one` |", " |"),
    ("an unknown answer", "`ATests.one` |", "surely |"),
    ("words beside a test", "`ATests.one` |", "mostly `ATests.one` |"),
    ("no reason", "not applicable: there is no noise", "not applicable"),
    ("a reason that is none", "not applicable: there is no noise", "not applicable: no"),
    ("no reason for a deviation", "deviation: we are lazy (`BTests.two`)", "deviation"),
    ("a deviation that names nothing", "lazy (`BTests.two`)", "lazy (`BTests.three`)"),
    ("a range of deviations", "not applicable: there", "deviation: there"),
    ("a range of tests", "not applicable: there is no noise", "`ATests.one`"),
    ("a gap", "| 2.2 | 2-3 |", "| 2.2 | 3 |"),
    ("an overlap", "| 2.2 | 2-3 |", "| 2.2 | 1-3 |"),
    ("a missing end", "| 2.2 | device | status | 4 |", "| 2.2 | device | status | 5 |"),
    ("more than there are", "| 2.1 | driver | status | 2 |", "| 2.1 | driver | status | 1 |"),
    ("no ordinal", "| 2.1 | 1 |", "| 2.1 | first |"),
    ("ordinal zero", "| 2.1 | 1 |", "| 2.1 | 0-1 |"),
    ("a range that runs back", "2-3", "3-2"),
    ("another side", "| 2 | driver | bits come", "| 2 | device | bits come"),
    ("no paraphrase", "| bits stay |", "| |"),
    ("a copied sentence", "| bits stay |", "| a driver MUST NOT clear bits |"),
    ("an unknown section", "| 2.2 | 1 |", "| 2.3 | 1 |"),
    ("a section twice", "| 2.2 | device", "| 2.1 | device"),
    ("a section without a count", "| status | 2 |", "| status | many |"),
    ("a row that is cut off", "| bits stay | `ATests.one` |", "| bits stay |"),
    ("no table of sections", "table: sections", "table: parts"),
    ("no table of statements", "table: statements", "table: words"),
  ]

  @Test(arguments: changes.indices)
  func everyRuleCanFail(index: Int) {
    let (name, old, new) = Self.changes[index]
    let page = Self.sections + Self.rows
    let bad = page.replacingOccurrences(of: old, with: new)
    #expect(bad != page, "\(name): changes nothing")
    #expect(!Self.faults(bad).isEmpty, "\(name)")
  }

  @Test func onlyTestsCountAsTests() {
    let source = """
      // @Test func commented
      func free() {}
      @Suite struct ATests {
        @Test func one() {}
        @Test(arguments: [1, 2])
        func two(number: Int) {}
        /// Speaks of @Test.
        static func helper() {}
        @Test(
          arguments: [
            (1, 2)
          ])
        func three(number: Int) {}
        func four() {}
      }
      extension BTests {
        @Test func five() {}
      }
      """
    #expect(
      ConformancePage.tests(in: source)
        == ["ATests.one", "ATests.two", "ATests.three", "BTests.five"])
  }
}
