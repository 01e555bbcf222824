import Yams

/// A node of a YAML document, with the file and path it has: every wrong value names its place.
struct YAMLItem {
  let node: Node
  let file: String
  /// `cells.linux.cpus`, for messages.
  let path: String

  var place: InputPlace {
    InputPlace(file: file, line: node.mark?.line ?? 1, column: node.mark?.column ?? 1)
  }

  func child(_ node: Node, _ name: String) -> YAMLItem {
    YAMLItem(node: node, file: file, path: path.isEmpty ? name : "\(path).\(name)")
  }

  /// What was found, for messages.
  private var seen: String {
    switch node {
    case .scalar(let scalar) where scalar.string.isEmpty: "nothing"
    case .scalar(let scalar): "'\(scalar.string.prefix(60))'"
    case .mapping: "a mapping"
    case .sequence: "a list"
    case .alias: "an alias"
    }
  }

  func wrong(_ expected: String, fix: String) -> GenerateError {
    GenerateError("Y03", at: place, "\(path): expected \(expected), got \(seen)", fix: fix)
  }

  func string() throws(GenerateError) -> String {
    guard case .scalar(let scalar) = node, !scalar.string.isEmpty else {
      throw wrong("text", fix: "write one word or a quoted text")
    }
    guard scalar.string.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7f }) else {
      throw wrong("one line of printable text", fix: "remove line breaks and control characters")
    }
    return scalar.string
  }

  func placedString() throws(GenerateError) -> Placed<String> { Placed(try string(), at: place) }

  /// One of the raw values of `Kind`.
  func choice<Kind: RawRepresentable & CaseIterable & Hashable & Sendable>(
    _ type: Kind.Type
  ) throws(GenerateError) -> Kind where Kind.RawValue == String {
    let known = Kind.allCases.map(\.rawValue).joined(separator: ", ")
    guard case .scalar(let scalar) = node, let kind = Kind(rawValue: scalar.string) else {
      throw wrong("one of: \(known)", fix: "write one of: \(known)")
    }
    return kind
  }

  func bool() throws(GenerateError) -> Bool {
    switch node.scalar?.string {
    case "true", "yes": return true
    case "false", "no": return false
    default: throw wrong("true or false", fix: "write true or false")
    }
  }

  /// A number: decimal or `0x` hexadecimal; with `K`, `M` or `G` where `hasUnit`.
  func number(_ range: ClosedRange<UInt64>, hasUnit: Bool = false) throws(GenerateError) -> UInt64 {
    let expected =
      "a number from \(hex(range.lowerBound)) to \(hex(range.upperBound))"
      + (hasUnit ? ", K, M and G allowed" : "")
    guard case .scalar(let scalar) = node, let value = Self.parse(scalar.string, hasUnit),
      range.contains(value)
    else {
      throw wrong(expected, fix: hasUnit ? "write for example 64K" : "write for example 0x10")
    }
    return value
  }

  func int(_ range: ClosedRange<Int>) throws(GenerateError) -> Int {
    Int(try number(UInt64(range.lowerBound)...UInt64(range.upperBound)))
  }

  /// A physical address: at most 48 bits, on a page.
  func address() throws(GenerateError) -> UInt64 {
    let value = try number(0...(1 << 48 - 1))
    guard value % pageSize == 0 else {
      throw GenerateError(
        "E15", at: place, "\(path): \(hex(value)) is not on a page",
        means: "Jailhouse maps whole pages of 4 KiB and traps every access to a part of one",
        fix: "use a multiple of 0x1000, for example \(hex(value / pageSize * pageSize))")
    }
    return value
  }

  /// A size in bytes: whole pages, not 0.
  func size() throws(GenerateError) -> UInt64 {
    let value = try number(1...(1 << 40), hasUnit: true)
    guard value % pageSize == 0 else {
      throw GenerateError(
        "E15", at: place, "\(path): \(hex(value)) bytes are no whole number of pages",
        means: "Jailhouse maps whole pages of 4 KiB and traps every access to a part of one",
        fix: "use \(hex(roundedUp(value, to: pageSize)))")
    }
    return value
  }

  private static func parse(_ text: String, _ hasUnit: Bool) -> UInt64? {
    var digits = text[...]
    var shift: UInt64 = 0
    if hasUnit, let unit = digits.last, let power = ["K": 10, "M": 20, "G": 30][unit] {
      shift = UInt64(power)
      digits = digits.dropLast()
    }
    let isHexadecimal = digits.hasPrefix("0x")
    if isHexadecimal { digits = digits.dropFirst(2) }
    guard digits.allSatisfy({ $0.isASCII && $0.isHexDigit }),
      let value = UInt64(digits, radix: isHexadecimal ? 16 : 10), value <= UInt64.max >> shift
    else { return nil }
    return value << shift
  }

  func list() throws(GenerateError) -> [YAMLItem] {
    guard case .sequence(let sequence) = node else {
      throw wrong("a list", fix: "write [a, b] or one '- a' a line")
    }
    return sequence.enumerated().map { index, node in
      YAMLItem(node: node, file: file, path: "\(path)[\(index)]")
    }
  }

  func strings() throws(GenerateError) -> [String] {
    var texts: [String] = []
    for item in try list() { texts.append(try item.string()) }
    guard !texts.isEmpty else { throw wrong("at least one text", fix: "remove the key or fill it") }
    return texts
  }

  /// The entries of a mapping whose keys are names chosen by the user, in their order.
  func entries() throws(GenerateError) -> [(name: Placed<String>, value: YAMLItem)] {
    guard case .mapping(let mapping) = node else {
      throw wrong("a mapping", fix: "write 'name: value', one a line")
    }
    var entries: [(name: Placed<String>, value: YAMLItem)] = []
    for (key, value) in mapping {
      let item = YAMLItem(node: key, file: file, path: path)
      guard case .scalar(let scalar) = key, !scalar.string.isEmpty else {
        throw item.wrong("a name as key", fix: "write 'name: value'")
      }
      entries.append((Placed(scalar.string, at: item.place), child(value, scalar.string)))
    }
    return entries
  }

  /// A mapping whose keys are fixed; an unknown one is refused with the nearest known one.
  func fields(_ known: String...) throws(GenerateError) -> YAMLFields {
    let entries = try entries()
    for (name, _) in entries where !known.contains(name.value) {
      let near = known.min { editDistance($0, name.value) < editDistance($1, name.value) }
      let isNear = near.map { editDistance($0, name.value) <= 3 } ?? false
      let owner = path.isEmpty ? "the file" : path
      throw GenerateError(
        "Y02", at: name.place, "\(owner): unknown key '\(name.value)'",
        means: "a key that nobody reads would be a wish that nobody hears",
        fix: (isNear ? "did you mean '\(near ?? "")'? " : "")
          + "known are: \(known.joined(separator: ", "))")
    }
    return YAMLFields(owner: self, entries: entries)
  }
}

/// The fields of a mapping with fixed keys.
struct YAMLFields {
  let owner: YAMLItem
  fileprivate let entries: [(name: Placed<String>, value: YAMLItem)]

  fileprivate init(owner: YAMLItem, entries: [(name: Placed<String>, value: YAMLItem)]) {
    self.owner = owner
    self.entries = entries
  }

  subscript(_ name: String) -> YAMLItem? { entries.first { $0.name.value == name }?.value }

  func required(_ name: String) throws(GenerateError) -> YAMLItem {
    if let item = self[name] { return item }
    let what = owner.path.isEmpty ? "the file" : owner.path
    throw GenerateError(
      "Y05", at: owner.place, "\(what): key '\(name)' is missing",
      fix: "add '\(name): ...'; docs/board-yaml.md describes it")
  }

  /// `address` and `size` of the mapping.
  func span() throws(GenerateError) -> Span {
    Span(start: try required("address").address(), size: try required("size").size())
  }
}

let pageSize: UInt64 = 0x1000

/// The number of insertions, deletions and replacements between two words.
func editDistance(_ left: String, _ right: String) -> Int {
  let right = Array(right)
  var row = Array(0...right.count)
  for (index, character) in left.enumerated() {
    var diagonal = row[0]
    row[0] = index + 1
    for column in right.indices {
      let above = row[column + 1]
      row[column + 1] =
        right[column] == character ? diagonal : 1 + min(diagonal, above, row[column])
      diagonal = above
    }
  }
  return row[right.count]
}
