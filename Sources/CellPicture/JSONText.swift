/// Values as JSON text. A structure becomes an object: its stored properties are the keys, in
/// their order; an optional that is `nil` is left out.
enum JSONText {
  static func text(_ value: Any, indent: Int = 0) -> String {
    switch value {
    case let value as String: return string(value)
    case let value as Bool: return value ? "true" : "false"
    case let value as Int: return "\(value)"
    case let value as Comparison.Difference.Change: return string(value.rawValue)
    default: break
    }
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .optional {
      return mirror.children.first.map { text($0.value, indent: indent) } ?? "null"
    }
    let isList = mirror.displayStyle == .collection
    var parts: [String] = []
    for child in mirror.children {
      if isNothing(child.value) { continue }
      let content = text(child.value, indent: indent + 2)
      parts.append(isList ? content : "\(string(child.label ?? "")): \(content)")
    }
    let (open, close) = isList ? ("[", "]") : ("{", "}")
    guard !parts.isEmpty else { return open + close }
    // Short lists of numbers and words stay on one line.
    let line = parts.joined(separator: ", ")
    if isList, line.count <= 80, !line.contains("\n"), !line.contains("{") {
      return open + line + close
    }
    let space = String(repeating: " ", count: indent + 2)
    return open + "\n" + parts.map { space + $0 }.joined(separator: ",\n") + "\n"
      + String(repeating: " ", count: indent) + close
  }

  private static func isNothing(_ value: Any) -> Bool {
    let mirror = Mirror(reflecting: value)
    return mirror.displayStyle == .optional && mirror.children.isEmpty
  }

  static func string(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\n": result += "\\n"
      default:
        if scalar.value < 0x20 {
          let digits = String(scalar.value, radix: 16)
          result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        } else {
          result.unicodeScalars.append(scalar)
        }
      }
    }
    return result + "\""
  }
}

extension Explanation {
  /// All explanations as one JSON document: `{"files": [...]}`.
  public static func json(of explanations: [Explanation]) -> String {
    struct Document { let files: [Explanation] }
    return JSONText.text(Document(files: explanations))
  }
}

extension Comparison {
  /// The comparison as a JSON document.
  public var json: String { JSONText.text(self) }
}
