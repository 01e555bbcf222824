import CellFormat

/// Where two items of the map meet.
struct MapMeeting {
  enum Kind {
    /// Not shared by intention: drawn red in both.
    case conflict
    /// Taken from the root while the guest exists: hatched in the root.
    case lent
  }
  let kind: Kind
  /// Column and index in it.
  let left: (column: Int, item: Int)
  let right: (column: Int, item: Int)
  let start: UInt64
  let end: UInt64
}

/// Conflicts of the same two columns that touch, told as one.
struct MapConflictText {
  let columns: [Int]
  var start: UInt64
  var end: UInt64
  /// Labels of the items on each side, in the order of their addresses.
  var labels: [[String]]
}

/// Finds what overlaps: a sweep over the sorted starts.
struct MapConflicts {
  let columns: [MapColumn]
  /// A hostile file can hold very many pairs; more than this are not looked at.
  static let limit = 4000

  func meetings() -> [MapMeeting] {
    var all: [(column: Int, index: Int, item: MapItem)] = []
    for (number, column) in columns.enumerated() {
      for (index, item) in column.items.enumerated() { all.append((number, index, item)) }
    }
    all.sort { ($0.item.start, $0.column, $0.index) < ($1.item.start, $1.column, $1.index) }
    var active: [(column: Int, index: Int, item: MapItem)] = []
    var found: [MapMeeting] = []
    var looked = 0
    for next in all {
      active.removeAll { $0.item.end <= next.item.start }
      for other in active {
        looked += 1
        guard looked < Self.limit else { return found }
        let swap = other.column > next.column
        let (left, right) = swap ? (next, other) : (other, next)
        guard let kind = kind(left.item, right.item) else { continue }
        found.append(
          MapMeeting(
            kind: kind, left: (left.column, left.index), right: (right.column, right.index),
            start: next.item.start, end: min(other.item.end, next.item.end)))
      }
      active.append(next)
    }
    return found
  }

  /// The conflicts in words, one line for each stretch that the same two columns claim.
  func texts(of meetings: [MapMeeting]) -> [String] {
    var told: [MapConflictText] = []
    let sorted = meetings.filter { $0.kind == .conflict }.sorted {
      ($0.left.column, $0.right.column, $0.start) < ($1.left.column, $1.right.column, $1.start)
    }
    for meeting in sorted {
      let labels = [meeting.left, meeting.right].map { columns[$0.column].items[$0.item].label }
      let pair = [meeting.left.column, meeting.right.column]
      if let last = told.last, last.columns == pair, last.end >= meeting.start {
        told[told.count - 1].end = max(last.end, meeting.end)
        for side in 0..<2 where last.labels[side].last != labels[side] {
          told[told.count - 1].labels[side].append(labels[side])
        }
      } else {
        told.append(
          MapConflictText(
            columns: pair, start: meeting.start, end: meeting.end, labels: labels.map { [$0] }))
      }
    }
    return told.map { stretch in
      let sides = zip(stretch.columns, stretch.labels).map { column, labels in
        let shown = labels.count > 3 ? [labels[0], "\u{2026}", labels[labels.count - 1]] : labels
        return "\(columns[column].title) (\(shown.joined(separator: ", ")))"
      }
      return "\(sides[0]) and \(sides[1]) both claim "
        + Wording.span(stretch.start, stretch.end - stretch.start)
    }
  }

  /// What it means that two items overlap; `nil`: nothing.
  private func kind(_ left: MapItem, _ right: MapItem) -> MapMeeting.Kind? {
    let roles = (columns[left.column].role, columns[right.column].role)
    if left.column == right.column { return .conflict }
    switch roles {
    case (.platform, .platform), (.root, .root): return nil  // two systems side by side
    case (.platform, .root), (.root, .platform):
      // A system is only held against its own root cell.
      return columns[left.column].file == columns[right.column].file ? .conflict : nil
    case (.platform, _), (_, .platform): return .conflict
    case (.root, .guest): return guestInRoot(left, right)
    case (.guest, .root): return guestInRoot(right, left)
    case (.guest, .guest):
      if isSameSection(left, right) { return nil }
      let isShared =
        left.section == nil && right.section == nil
        && left.flags.isSuperset(of: [.rootShared, .io])
        && right.flags.isSuperset(of: [.rootShared, .io])
      return isShared ? nil : .conflict
    }
  }

  private func guestInRoot(_ root: MapItem, _ guest: MapItem) -> MapMeeting.Kind? {
    if root.section != nil {
      // Without ROOTSHARED the root would lose its own section.
      return isSameSection(root, guest) && guest.flags.contains(.rootShared) ? nil : .conflict
    }
    return guest.flags.contains(.rootShared) ? nil : .lent
  }

  private func isSameSection(_ left: MapItem, _ right: MapItem) -> Bool {
    left.section != nil && left.section == right.section && left.start == right.start
      && left.end == right.end
  }
}
