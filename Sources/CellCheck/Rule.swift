/// A rule of the checker. This table is the single source: findings take their severity from it,
/// `docs/rules` has a page for each entry, and a test compares the two.
public struct Rule: Hashable, Sendable {
  /// The part of a configuration a rule looks at; one source file each.
  public enum Family: String, Sendable, CaseIterable {
    case files, links, interrupts, virtualPCI = "virtual PCI", memory, processors, consoles
    case deviceTrees = "device trees"
  }

  /// `E14`; the letter is the usual severity of its family of ids, `severity` is what counts.
  public let id: String
  /// How bad a violation is.
  public let severity: Severity
  /// The family.
  public let family: Family
  /// What has to be so, as one sentence without a full stop.
  public let title: String
  /// Why it matters: what happens at run time.
  public let why: String

  /// The page, relative to the repository.
  public var page: String { "docs/rules/\(id).md" }

  /// The rule of that id.
  public static func named(_ id: String) -> Rule? { table[id] }

  /// All rules, by family and then id.
  public static let all: [Rule] =
    files + links + interrupts + virtualPCI + memory + processors + consoles + deviceTrees

  private static let table = Dictionary(uniqueKeysWithValues: all.map { ($0.id, $0) })

  init(_ id: String, _ severity: Severity, _ family: Family, _ title: String, _ why: String) {
    self.id = id
    self.severity = severity
    self.family = family
    self.title = title
    self.why = why
  }
}
