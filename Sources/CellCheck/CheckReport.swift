/// What a check has found, as text for people, as JSON for programs, and as an exit status.
public struct CheckReport: Sendable {
  /// A configuration that was checked.
  public struct File: Hashable, Sendable {
    /// The file's name.
    public var file: String
    /// The cell's name; empty when the file could not be decoded.
    public var cell: String
    /// `system`, `cell` or `undecodable`.
    public var kind: String

    /// One checked file.
    public init(file: String, cell: String, kind: String) {
      self.file = file
      self.cell = cell
      self.kind = kind
    }
  }

  /// What was checked, in the order it was named.
  public var files: [File]
  /// Names of the device trees that were checked with it.
  public var trees: [String]
  /// What was found.
  public var findings: [Finding]

  /// A report; findings in the order `check` gives them.
  public init(files: [File], trees: [String], findings: [Finding]) {
    self.files = files
    self.trees = trees
    self.findings = findings
  }

  /// How many findings have this severity.
  public func count(_ severity: Severity) -> Int {
    findings.count { $0.severity == severity }
  }

  /// 0 without errors, 1 with errors; with `strict` 3 when there are warnings but no errors.
  public func status(strict: Bool) -> Int32 {
    if count(.error) > 0 { return 1 }
    return strict && count(.warning) > 0 ? 3 : 0
  }

  /// The findings and a last line that says what was checked.
  public var text: String {
    var lines = findings.map(\.text)
    func plural(_ count: Int, _ noun: String) -> String {
      "\(count) \(noun)\(count == 1 ? "" : "s")"
    }
    let names = files.map { $0.kind == "system" ? "\($0.file) (root)" : $0.file } + trees
    let checked = "checked \(names.joined(separator: ", ")) against \(Rule.all.count) rules: "
    let counts = [
      (count(.error), "error"), (count(.warning), "warning"), (count(.note), "note"),
    ].filter { $0.0 > 0 }.map { plural($0.0, $0.1) }
    lines.append(checked + (counts.isEmpty ? "no findings" : counts.joined(separator: ", ")))
    return lines.joined(separator: "\n")
  }

  /// One JSON object; the keys are listed in docs/cell-tool.md and do not change.
  public var json: String {
    let checked = files.map {
      jsonObject([("file", $0.file), ("cell", $0.cell), ("kind", $0.kind)])
    }
    let found = findings.map { finding in
      jsonObject([
        ("rule", finding.rule), ("severity", finding.severity.rawValue),
        ("title", Rule.named(finding.rule)?.title ?? ""), ("file", finding.file),
        ("place", finding.place), ("message", finding.message), ("means", finding.consequence),
        ("fix", finding.fix), ("page", Rule.named(finding.rule)?.page ?? ""),
      ])
    }
    func list(_ items: [String]) -> String {
      items.isEmpty ? "[]" : "[\n    \(items.joined(separator: ",\n    "))\n  ]"
    }
    return """
      {
        "files": \(list(checked)),
        "trees": \(list(trees.map { jsonString($0) })),
        "findings": \(list(found)),
        "summary": {"errors": \(count(.error)), "warnings": \(count(.warning)), \
      "notes": \(count(.note)), "rules": \(Rule.all.count)}
      }
      """
  }
}

extension Finding {
  /// The finding as a compiler would print it: place, message, meaning, what to do.
  public var text: String {
    """
    \(file): \(severity.rawValue)[\(rule)]: \(place): \(message)
        means: \(consequence)
        fix: \(fix)
        page: \(Rule.named(rule)?.page ?? "docs/rules/README.md")
    """
  }
}

/// A JSON object of strings, on one line.
private func jsonObject(_ pairs: [(String, String)]) -> String {
  "{" + pairs.map { "\(jsonString($0.0)): \(jsonString($0.1))" }.joined(separator: ", ") + "}"
}

/// A JSON string: quotes, backslashes and control characters escaped.
private func jsonString(_ text: String) -> String {
  var out = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": out += "\\\""
    case "\\": out += "\\\\"
    case "\n": out += "\\n"
    case "\t": out += "\\t"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: out.unicodeScalars.append(scalar)
    }
  }
  return out + "\""
}
