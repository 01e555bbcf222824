/// Lines of columns, padded to the widest entry of each.
struct TextTable {
  private var rows: [[String]] = []
  let indent: String

  init(indent: Int) { self.indent = String(repeating: " ", count: indent) }

  mutating func add(_ row: String...) { rows.append(row) }
  mutating func add(row: [String]) { rows.append(row) }

  var lines: [String] {
    let columns = rows.map(\.count).max() ?? 0
    // The last entry of a row may be a sentence: it widens nothing.
    let widths = (0..<columns).map { column in
      rows.map { column < $0.count - 1 ? $0[column].count : 0 }.max() ?? 0
    }
    return rows.map { row in
      var line = indent
      for (column, text) in row.enumerated() {
        let isLast = column == row.count - 1
        line +=
          isLast ? text : text + String(repeating: " ", count: widths[column] - text.count + 2)
      }
      while line.last == " " { line.removeLast() }
      return line
    }
  }
}
