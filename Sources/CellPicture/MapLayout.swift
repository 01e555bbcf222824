import CellFormat
import Drawing

/// Where everything is on the page. Sizes differ by more than a million, so the axis is not
/// linear: the addresses where something begins or ends are sorted, and each band between two of
/// them gets a height that grows with the logarithm of its size.
struct MapLayout {
  static let margin = 16
  static let axisWidth = 98
  static let platformWidth = 104
  static let cellWidth = 178
  static let platformGap = 26
  static let cellGap = 104
  static let headHeight = 98
  static let looseHeight = 22

  let columns: [MapColumn]
  let columnBoxes: [Box]
  /// Boundaries, ascending, and the y of each.
  let boundaries: [UInt64]
  let ys: [Int]
  /// `covered[n]`: whether something lies between boundary n and n + 1.
  let covered: [Bool]
  /// The box of every item, by column and index.
  let boxes: [[Box]]
  let looseBoxes: [[Box]]
  let mapBottom: Int
  let looseBottom: Int
  let width: Int

  init(_ columns: [MapColumn]) {
    self.columns = columns
    let items = columns.flatMap(\.items)
    boundaries = Set(items.flatMap { [$0.start, $0.end] }).sorted()
    let positions = Dictionary(
      uniqueKeysWithValues: boundaries.enumerated().map { ($0.element, $0.offset) })
    // How many items start minus end at each boundary.
    var changes = [Int](repeating: 0, count: boundaries.count + 1)
    for item in items {
      changes[positions[item.start] ?? 0] += 1
      changes[positions[item.end] ?? 0] -= 1
    }
    var depth = 0
    var covered: [Bool] = []
    var ys = boundaries.isEmpty ? [] : [Self.margin + Self.headHeight]
    for index in boundaries.indices.dropLast() {
      depth += changes[index]
      covered.append(depth > 0)
      let size = boundaries[index + 1] - boundaries[index]
      ys.append((ys.last ?? 0) + (depth > 0 ? Self.height(of: size) : Self.gapHeight(of: size)))
    }
    self.covered = covered
    self.ys = ys
    mapBottom = (ys.last ?? Self.margin + Self.headHeight) + 8

    var x = Self.margin + Self.axisWidth
    var columnBoxes: [Box] = []
    for (index, column) in columns.enumerated() {
      let isPlatform = column.role == .platform
      if index > 0 {
        x += columns[index - 1].role == .platform || isPlatform ? Self.platformGap : Self.cellGap
      }
      let width = isPlatform ? Self.platformWidth : Self.cellWidth
      columnBoxes.append(
        Box(
          x: x, y: Self.margin + Self.headHeight, width: width,
          height: mapBottom - Self.margin - Self.headHeight))
      x += width
    }
    self.columnBoxes = columnBoxes
    width = x + Self.margin

    boxes = zip(columns, columnBoxes).map { column, box in
      Self.place(column.items, in: box) { ys[positions[$0] ?? 0] }
    }
    let looseTop = mapBottom + 10
    looseBoxes = zip(columns, columnBoxes).map { column, box in
      column.loose.indices.map { index in
        Box(
          x: box.x + 3, y: looseTop + index * (Self.looseHeight + 3), width: box.width - 6,
          height: Self.looseHeight)
      }
    }
    let rows = columns.map { $0.loose.count + ($0.emptySlots > 0 ? 1 : 0) }.max() ?? 0
    looseBottom = looseTop + rows * (Self.looseHeight + 3)
  }

  /// 19 pixels for a page or less, then 1.7 a doubling: 1 GiB has 49.
  static func height(of size: UInt64) -> Int {
    let doublings = max(0, 63 - size.leadingZeroBitCount - 12)
    return 19 + doublings * 17 / 10
  }

  /// A stretch that nobody uses is short, but long enough for the two addresses at its ends.
  static func gapHeight(of size: UInt64) -> Int { size < 1 << 20 ? 15 : 18 }

  /// The y of an address at a boundary.
  func y(_ address: UInt64) -> Int {
    var low = 0
    var high = boundaries.count - 1
    while low < high {
      let middle = (low + high) / 2
      if boundaries[middle] < address { low = middle + 1 } else { high = middle }
    }
    return low < ys.count ? ys[low] : mapBottom
  }

  /// Boxes of one column. What overlaps in a column stands in lanes side by side.
  private static func place(_ items: [MapItem], in column: Box, _ y: (UInt64) -> Int) -> [Box] {
    var boxes = [Box](repeating: column, count: items.count)
    let order = items.indices.sorted {
      (items[$0].start, $0) < (items[$1].start, $1)
    }
    var group: [(item: Int, lane: Int)] = []
    var laneEnds: [UInt64] = []
    func finish() {
      let inner = column.width - 6
      let lanes = max(1, laneEnds.count)
      for member in group {
        let left = column.x + 3 + inner * member.lane / lanes
        let right = column.x + 3 + inner * (member.lane + 1) / lanes
        let top = y(items[member.item].start)
        boxes[member.item] = Box(
          x: left, y: top, width: max(1, right - left), height: y(items[member.item].end) - top)
      }
    }
    for index in order {
      if laneEnds.allSatisfy({ $0 <= items[index].start }) {
        finish()
        group = []
        laneEnds = []
      }
      let free = laneEnds.firstIndex { $0 <= items[index].start }
      if let free { laneEnds[free] = items[index].end } else { laneEnds.append(items[index].end) }
      group.append((index, free ?? laneEnds.count - 1))
    }
    finish()
    return boxes
  }
}
