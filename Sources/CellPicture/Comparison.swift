public import CellFormat

/// What differs between two configurations in meaning: regions are matched by physical address,
/// devices and links by BDF, interrupts by controller, whatever their order in the file.
///
/// Its JSON has the keys that docs/cell-tool.md lists.
public struct Comparison: Sendable {
  /// One difference.
  public struct Difference: Hashable, Sendable {
    /// Kinds of difference.
    public enum Change: String, Sendable { case added, removed, changed }
    /// Whether the right file has more, less or something else.
    public let change: Change
    /// Where: `link 00:02.0`, `memory region at 0x30890000`.
    public let place: String
    /// The field; `nil` when the whole element was added or removed.
    public let field: String?
    /// What the left file has.
    public let left: String?
    /// What the right file has.
    public let right: String?
  }

  /// Names of the files.
  public let left: String
  /// The second one.
  public let right: String
  /// Whether both mean the same.
  public let same: Bool
  /// Whether both are the same bytes; when only this is false, the order of entries differs, or
  /// something that nobody reads.
  public let bytesEqual: Bool
  /// What differs, in the order of the file.
  public let differences: [Difference]

  /// Compares two files.
  public init(
    left: (name: String, file: ConfigurationFile), right: (name: String, file: ConfigurationFile)
  ) {
    self.left = left.name
    self.right = right.name
    bytesEqual = left.file.encoded() == right.file.encoded()
    var collector = DifferenceCollector()
    collector.compare(left.file, right.file)
    differences = collector.found
    same = differences.isEmpty
  }

  /// The comparison for people; ends with a newline.
  public var text: String {
    guard !same else {
      return bytesEqual
        ? "\(left) and \(right) are the same, byte for byte\n"
        : "\(left) and \(right) mean the same; their bytes differ: the order of entries, or "
          + "something that nobody reads\n"
    }
    let count = differences.count == 1 ? "1 difference" : "\(differences.count) differences"
    var lines = ["\(left) -> \(right): \(count)"]
    var place = ""
    var table = TextTable(indent: 4)
    func flush() {
      lines += table.lines
      table = TextTable(indent: 4)
    }
    for difference in differences {
      guard let field = difference.field else {
        flush()
        place = ""
        let text = difference.left ?? difference.right ?? ""
        let mark = difference.change == .added ? "+" : "-"
        lines.append("\(mark) \(difference.place) \(difference.change.rawValue): \(text)")
        continue
      }
      if place != difference.place {
        flush()
        place = difference.place
        lines.append("! \(place)")
      }
      table.add(field, "\(difference.left ?? "-") -> \(difference.right ?? "-")")
    }
    flush()
    return lines.joined(separator: "\n") + "\n"
  }
}

/// Collects differences; its methods are spread over the files named after what they compare.
struct DifferenceCollector {
  typealias Difference = Comparison.Difference
  private(set) var found: [Difference] = []

  /// A field as text, to be compared with the same field of the other side.
  typealias Field = (name: String, text: String)

  mutating func compare(_ place: String, _ left: [Field], _ right: [Field]) {
    for (old, new) in zip(left, right) where old.text != new.text {
      found.append(
        Difference(
          change: .changed, place: place, field: old.name, left: old.text, right: new.text))
    }
  }

  mutating func changed(_ place: String, _ field: String, _ left: String?, _ right: String?) {
    guard left != right else { return }
    let change: Difference.Change = left == nil ? .added : right == nil ? .removed : .changed
    found.append(
      Difference(change: change, place: place, field: field, left: left, right: right))
  }

  mutating func removed(_ place: String, _ text: String) {
    found.append(
      Difference(change: .removed, place: place, field: nil, left: text, right: nil))
  }

  mutating func added(_ place: String, _ text: String) {
    found.append(Difference(change: .added, place: place, field: nil, left: nil, right: text))
  }

  /// Elements matched by a key; equal keys pair up in their order.
  mutating func match<Element, Key: Hashable>(
    _ left: [Element], _ right: [Element], by key: (Element) -> Key,
    place: (Element) -> String, text: (Element) -> String,
    compare: (inout DifferenceCollector, Element, Element) -> Void
  ) {
    var waiting: [Key: [Int]] = [:]
    for (index, element) in right.enumerated().reversed() {
      waiting[key(element), default: []].append(index)
    }
    var used = [Bool](repeating: false, count: right.count)
    for element in left {
      if let partner = waiting[key(element)]?.popLast() {
        used[partner] = true
        compare(&self, element, right[partner])
      } else {
        removed(place(element), text(element))
      }
    }
    for (index, element) in right.enumerated() where !used[index] {
      added(place(element), text(element))
    }
  }
}
