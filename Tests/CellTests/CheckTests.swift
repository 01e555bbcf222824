import CellCheck
import CellFormat
import Testing

@Suite struct CheckTests {
  @Test func goodSystemHasNoFinding() throws {
    var system = TestSystem()
    #expect(check(try system.set()) == [])
    system.addTrees()
    #expect(check(try system.set()) == [])
  }

  @Test(arguments: Fixture.all) func oneFaultOneRule(_ fixture: Fixture) throws {
    var system = TestSystem()
    fixture.inject(&system)
    let findings = check(try system.set())
    #expect(!findings.isEmpty)
    for finding in findings {
      #expect(finding.rule == fixture.rule, "\(finding.text)")
      #expect(finding.severity == Rule.named(finding.rule)?.severity)
    }
  }

  @Test func everyRuleHasAFixture() {
    let fixtures = Fixture.all.map(\.rule)
    #expect(Set(fixtures).count == fixtures.count)
    #expect(Set(fixtures + ["E02"]) == Set(Rule.all.map(\.id)))
    #expect(Set(Rule.all.map(\.id)).count == Rule.all.count)
  }

  @Test func theOrderOfFilesChangesNothing() throws {
    var system = TestSystem()
    for fixture in Fixture.links + Fixture.memory where fixture.rule != "W60" {
      fixture.inject(&system)
    }
    var set = try system.set()
    let findings = check(set)
    #expect(findings.count > 20)
    set.files.reverse()
    #expect(check(set) == findings)
    set.files.swapAt(0, 1)
    #expect(check(set) == findings)
  }

  @Test func cellsThatNeverRunTogetherAreNotCompared() throws {
    var system = TestSystem()
    system.bare = TestSystem.makeLinux()
    system.bare.nameBytes = TestSystem.name("other")
    let rules = Set(check(try system.set()).map(\.rule))
    #expect(rules == ["E10", "E21", "E51", "E53"])
    system.alternatives = [["linux", "other"]]
    #expect(check(try system.set()) == [])
    system.alternatives = [["linux.cell", "bare"]]
    #expect(check(try system.set()) == [])
  }

  @Test func sharingThatBothNameIsAllowed() throws {
    var system = TestSystem()
    let shared = TestSystem.region(0x6000_0000, 0x1000, [.read, .write, .rootShared])
    system.linux.memoryRegions.append(shared)
    system.bare.memoryRegions.append(shared)
    #expect(check(try system.set()) == [])
    system.bare.memoryRegions[8].flags.remove(.rootShared)
    #expect(Set(check(try system.set()).map(\.rule)) == ["E51"])
  }

  @Test func aFileThatCannotBeDecodedIsAFinding() {
    let bytes = ConfigurationFile.cell(TestSystem.makeBare()).encoded()
    for (content, rule) in [
      (Array(bytes.dropLast()), "E02"), (bytes + [0], "E02"),
      ([UInt8](repeating: 7, count: 200), "E01"),
    ] {
      do {
        _ = try ConfigurationFile(decoding: content)
        Issue.record("decoded")
      } catch {
        let found = finding(for: error, file: "bad.cell")
        #expect(found.rule == rule)
        #expect(found.severity == .error)
      }
    }
  }

  @Test func reportsAreCountedAndSpelled() throws {
    var system = TestSystem()
    system.linux.memoryRegions[1].size = 0xde000
    let findings = check(try system.set())
    let report = CheckReport(
      files: [.init(file: "a\"b.cell", cell: "x", kind: "system")], trees: ["t.dtb"],
      findings: findings)
    #expect(report.status(strict: false) == 1)
    #expect(report.json.contains("\"file\": \"a\\\"b.cell\""))
    #expect(report.json.contains("\"errors\": 1"))
    #expect(report.text.contains("linux.cell: error[E12]: memory region 1 (offset 0xac)"))
    let warning = CheckReport(
      files: [], trees: [],
      findings: findings.map {
        var finding = $0
        finding.severity = .warning
        return finding
      })
    #expect(warning.status(strict: false) == 0)
    #expect(warning.status(strict: true) == 3)
  }
}
