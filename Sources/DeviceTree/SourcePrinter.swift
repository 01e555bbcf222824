extension SourceTree {
  /// The text of the `.dts` file, indented by tabs.
  public func printed() -> String {
    var text = ""
    if !heading.isEmpty {
      text += "/*\n"
      for line in heading { text += line.isEmpty ? " *\n" : " * \(harmless(line))\n" }
      text += " */\n\n"
    }
    text += "/dts-v1/;\n"
    if isOverlay { text += "/plugin/;\n" }
    text += "\n"
    root.print(into: &text, depth: 0)
    return text
  }
}

/// A comment that does not end in its middle.
private func harmless(_ line: String) -> String {
  line.split(separator: "*/", omittingEmptySubsequences: false).joined(separator: "* /")
}

extension SourceNode {
  fileprivate func print(into text: inout String, depth: Int) {
    let indent = String(repeating: "\t", count: depth)
    for line in comment { text += "\(indent)/* \(harmless(line)) */\n" }
    let label = label.map { "\($0): " } ?? ""
    text += "\(indent)\(label)\(name.isEmpty ? "/" : name) {\n"
    for property in properties { property.print(into: &text, depth: depth + 1) }
    for (index, child) in children.enumerated() {
      if index > 0 || !properties.isEmpty { text += "\n" }
      child.print(into: &text, depth: depth + 1)
    }
    text += "\(indent)};\n"
  }
}

extension SourceProperty {
  fileprivate func print(into text: inout String, depth: Int) {
    let indent = String(repeating: "\t", count: depth)
    guard !values.isEmpty else {
      text += "\(indent)\(name);\n"
      return
    }
    // Strings share a line; groups of cells stand one below the other, as tables are read.
    let hasCells = values.contains { if case .cells = $0 { true } else { false } }
    let separator = hasCells ? ",\n\(indent)\t" : ", "
    text += "\(indent)\(name) = " + values.map(\.printed).joined(separator: separator) + ";\n"
  }
}

extension SourceValue {
  fileprivate var printed: String {
    switch self {
    case .string(let text): "\"" + text.map(SourceValue.escaped).joined() + "\""
    case .cells(let cells): "<" + cells.map(\.printed).joined(separator: " ") + ">"
    }
  }
  private static func escaped(_ character: Character) -> String {
    switch character {
    case "\"": "\\\""
    case "\\": "\\\\"
    case "\n": "\\n"
    default: String(character)
    }
  }
}

extension SourceCell {
  fileprivate var printed: String {
    switch self {
    case .reference(let label): "&\(label)"
    case .number(let value, radix: 10): String(value)
    case .number(let value, radix: _): "0x" + String(value, radix: 16)
    }
  }
}
