import Yams

/// Reads the one document of a YAML file.
enum YAMLDocument {
  /// Far above any description, far below what would exhaust a stack or a memory.
  static let maximumBytes = 256 * 1024
  static let maximumDepth = 32

  static func read(_ text: String, file: String) throws(GenerateError) -> YAMLItem {
    try checkLimits(text, file: file)
    do {
      guard let node = try compose(yaml: text) else {
        throw GenerateError(
          "Y01", at: InputPlace(file: file, line: 1, column: 1), "the file is empty",
          fix: "start from cell-configs/imx8mp/setup.yaml")
      }
      return YAMLItem(node: node, file: file, path: "")
    } catch let error as GenerateError {
      throw error
    } catch let error as YamlError {
      throw translated(error, text, file: file)
    } catch {
      throw GenerateError(
        "Y01", at: InputPlace(file: file, line: 1, column: 1), "not YAML: \(error)",
        fix: "see docs/board-yaml.md")
    }
  }

  private static func translated(
    _ error: YamlError, _ text: String, file: String
  ) -> GenerateError {
    var mark = (line: 1, column: 1)
    let problem: String
    switch error {
    case .scanner(_, let text, let place, _), .parser(_, let text, let place, _),
      .composer(_, let text, let place, _):
      (problem, mark) = (text, (place.line, place.column))
    case .reader(let text, let offset, _, _):
      problem = text + (offset.map { " at byte \($0)" } ?? "")
    case .duplicatedKeysInMapping(let keys, let context):
      let names = Set(keys)
      mark = secondKey(names, from: context.mark, in: text)
      return GenerateError(
        "Y04", at: InputPlace(file: file, line: mark.line, column: mark.column),
        "key \(names.sorted().map { "'\($0)'" }.joined(separator: ", ")) is written twice",
        means: "one of the two values would be ignored silently",
        fix: "keep one of them")
    default: problem = "\(error)"
    }
    return GenerateError(
      "Y01", at: InputPlace(file: file, line: mark.line, column: mark.column),
      "not YAML: \(problem)", fix: "see docs/board-yaml.md; indent with spaces, not with tabs")
  }

  /// The parser names the mapping that holds a key twice; people want the second key.
  private static func secondKey(
    _ names: Set<String>, from start: Mark, in text: String
  ) -> (line: Int, column: Int) {
    var seen: Set<String> = []
    for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
    where index + 1 >= start.line {
      let indent = line.prefix { $0 == " " }.count
      let key = line.dropFirst(indent).prefix { $0 != ":" && $0 != " " }
      guard names.contains(String(key)), indent + 1 == start.column else { continue }
      if !seen.insert(String(key)).inserted { return (index + 1, indent + 1) }
    }
    return (start.line, start.column)
  }

  /// Anything deeper or longer than a description ever is: refused before the parser recurses.
  private static func checkLimits(_ text: String, file: String) throws(GenerateError) {
    func refuse(_ line: Int, _ message: String) -> GenerateError {
      GenerateError(
        "Y01", at: InputPlace(file: file, line: line, column: 1), message,
        fix: "this is no board or setup description; see docs/board-yaml.md")
    }
    guard text.utf8.count <= maximumBytes else {
      throw refuse(1, "the file has \(text.utf8.count) bytes, the limit is \(maximumBytes)")
    }
    var line = 1
    var brackets = 0
    var dashes = 0
    var indent = 0
    var isIndent = true
    var previous = UInt8(ascii: "\n")
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\n"): (line, dashes, indent, isIndent) = (line + 1, 0, 0, true)
      case UInt8(ascii: "["), UInt8(ascii: "{"): brackets += 1
      case UInt8(ascii: "]"), UInt8(ascii: "}"): brackets = max(0, brackets - 1)
      case UInt8(ascii: "-"), UInt8(ascii: "?"): dashes += isIndent ? 1 : 0
      case UInt8(ascii: " "): indent += isIndent ? 1 : 0
      case UInt8(ascii: "*"), UInt8(ascii: "&"):
        if "\n:-,[{".utf8.contains(previous) {
          throw refuse(line, "anchors and aliases are not read")
        }
      default: isIndent = false
      }
      if byte != UInt8(ascii: " ") { previous = byte }
      guard brackets <= maximumDepth, dashes <= maximumDepth, indent <= 8 * maximumDepth else {
        throw refuse(line, "nested deeper than \(maximumDepth) levels")
      }
    }
  }
}
