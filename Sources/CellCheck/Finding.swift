/// How bad a finding is: an error keeps something from working, a warning may, a note is only said.
public enum Severity: String, Sendable, Comparable {
  case note, warning, error
  /// By badness: note, warning, error.
  public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }
  private var rank: Int { self == .error ? 2 : self == .warning ? 1 : 0 }
}

/// One thing that is wrong, as a good compiler would say it.
public struct Finding: Hashable, Sendable {
  /// Rule id, `E14`; docs/rules has a page for each.
  public var rule: String
  /// How bad it is, from the table of rules.
  public var severity: Severity
  /// The file, `imx8mp.cell`.
  public var file: String
  /// The place in the file, `memory region 12 (offset 0x3f4)`.
  public var place: String
  /// What was seen.
  public var message: String
  /// What it means at run time.
  public var consequence: String
  /// How to mend it.
  public var fix: String

  /// One finding; texts are single lines without a full stop.
  public init(
    rule: String, severity: Severity, file: String, place: String, message: String,
    consequence: String, fix: String
  ) {
    self.rule = rule
    self.severity = severity
    self.file = file
    self.place = place
    self.message = message
    self.consequence = consequence
    self.fix = fix
  }
}
