public import CellCheck

/// A place in an input file.
public struct InputPlace: Hashable, Sendable {
  /// The file as it was named.
  public var file: String
  /// Line, from 1.
  public var line: Int
  /// Column, from 1.
  public var column: Int

  /// A place.
  public init(file: String, line: Int, column: Int) {
    self.file = file
    self.line = line
    self.column = column
  }
}

/// Why nothing can be generated. Rules `Y..` are about the YAML itself, `G..` about room that is
/// not there, `E..` are the checker's: the configuration would break that rule.
public struct GenerateError: Error, Hashable, Sendable {
  /// What is wrong; `place` is `line:column`.
  public let findings: [Finding]

  /// Several findings at once.
  public init(findings: [Finding]) { self.findings = findings }

  /// Whether the description itself is wrong (rules `Y..`), and not what it asks for.
  public var isAboutTheDescription: Bool { findings.allSatisfy { $0.rule.hasPrefix("Y") } }

  /// One finding at a place of the input.
  public init(
    _ rule: String, at place: InputPlace, _ message: String, means consequence: String = "",
    fix: String
  ) {
    findings = [
      Finding(
        rule: rule, severity: .error, file: place.file, place: "\(place.line):\(place.column)",
        message: message, consequence: consequence, fix: fix)
    ]
  }
}

/// A value together with the place where it was written.
public struct Placed<Value: Hashable & Sendable>: Hashable, Sendable {
  /// The value.
  public var value: Value
  /// Where it was written.
  public var place: InputPlace

  /// A value and its place.
  public init(_ value: Value, at place: InputPlace) {
    self.value = value
    self.place = place
  }
}
