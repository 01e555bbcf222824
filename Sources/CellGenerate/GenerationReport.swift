public import CellCheck

/// What `gen` says: as text for people, as JSON with stable keys for programs.
public struct GenerationReport: Sendable {
  /// What was generated; `nil`: nothing could be.
  public var generation: Generation?
  /// What there is to say about it, or why there is nothing.
  public var findings: [Finding]
  /// Of each artefact what happens to its file; empty when no folder was named.
  public var changes: [OutputFolder.Change]
  /// The folder, when one was named.
  public var folder: String?
  /// Whether the files were written.
  public var isWritten: Bool

  /// A report of a generation.
  public init(
    _ generation: Generation, changes: [OutputFolder.Change], folder: String?, isWritten: Bool
  ) {
    self.generation = generation
    findings = generation.findings
    self.changes = changes
    self.folder = folder
    self.isWritten = isWritten
  }

  /// A report of a failure.
  public init(_ error: GenerateError) {
    findings = error.findings
    changes = []
    isWritten = false
  }

  /// Findings as a compiler prints them.
  public var findingLines: [String] {
    findings.map { finding in
      let means = finding.consequence.isEmpty ? "" : "\n  means: \(finding.consequence)"
      return "\(finding.file):\(finding.place): \(finding.severity.rawValue) \(finding.rule): "
        + "\(finding.message)\(means)\n  fix: \(finding.fix)"
    }
  }

  /// The text: findings, choices when they are asked for, files.
  public func text(explains: Bool) -> String {
    guard let generation else { return "" }
    var lines: [String] = []
    if explains {
      for choice in generation.layout.choices {
        lines += ["\(choice.subject): \(choice.value)", "    \(choice.reason)"]
      }
    }
    lines.append(
      "\(isWritten ? "wrote" : "would write") \(generation.artefacts.count) files"
        + (folder.map { " to \($0)" } ?? ""))
    for (index, artefact) in generation.artefacts.enumerated() {
      let padding = String(repeating: " ", count: max(1, 28 - artefact.name.count))
      lines.append("  \(artefact.name)\(padding)\(artefact.purpose) (\(change(index)))")
    }
    return lines.joined(separator: "\n")
  }

  private func change(_ index: Int) -> String {
    index < changes.count ? changes[index].rawValue : OutputFolder.Change.new.rawValue
  }

  /// One object with `written`, `files`, `choices` and `findings`.
  public var json: String {
    let files = (generation?.artefacts ?? []).enumerated().map { index, artefact in
      "{\"name\": \(quoted(artefact.name)), \"purpose\": \(quoted(artefact.purpose)), "
        + "\"bytes\": \(artefact.bytes.count), \"change\": \(quoted(change(index)))}"
    }
    let choices = (generation?.layout.choices ?? []).map {
      "{\"subject\": \(quoted($0.subject)), \"value\": \(quoted($0.value)), "
        + "\"reason\": \(quoted($0.reason))}"
    }
    let findings = findings.map { finding in
      let fields = [
        ("rule", finding.rule), ("severity", finding.severity.rawValue), ("file", finding.file),
        ("place", finding.place), ("message", finding.message),
        ("consequence", finding.consequence), ("fix", finding.fix),
      ]
      return "{" + fields.map { "\(quoted($0.0)): \(quoted($0.1))" }.joined(separator: ", ") + "}"
    }
    func list(_ items: [String]) -> String {
      items.isEmpty ? "[]" : "[\n    " + items.joined(separator: ",\n    ") + "\n  ]"
    }
    return """
      {
        "written": \(isWritten),
        "files": \(list(files)),
        "choices": \(list(choices)),
        "findings": \(list(findings))
      }
      """
  }

  private func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": quoted += "\\" + String(scalar)
      case "\n": quoted += "\\n"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted += String(scalar)
      }
    }
    return quoted + "\""
  }
}
