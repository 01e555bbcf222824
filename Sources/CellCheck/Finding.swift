/// How bad a finding is.
public enum Severity: String, Sendable, Comparable {
  case note, warning, error
  public static func < (left: Severity, right: Severity) -> Bool { left.rank < right.rank }
  private var rank: Int { self == .error ? 2 : self == .warning ? 1 : 0 }
}

/// One thing that is wrong, as a good compiler would say it.
public struct Finding: Hashable, Sendable {
  /// Rule id, `E14`; docs/rules has a page for each.
  public var rule: String
  public var severity: Severity
  /// File, and place in it: `imx8mp.cell: memory region 12 (offset 0x3f4)`.
  public var file: String
  public var place: String
  /// What was seen.
  public var message: String
  /// What it means at run time.
  public var consequence: String
  /// How to mend it.
  public var fix: String

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
