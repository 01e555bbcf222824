import CellFormat
import Drawing

/// A link drawn from one column to the next that has it.
struct MapBridge {
  let bdf: UInt16
  let left: Box
  let right: Box
  let leftID: UInt8
  let rightID: UInt8
  let service: String
  /// Whether the sections of both ends have the same physical addresses and sizes.
  let agrees: Bool

  /// Bridges of all links, from each column to the next on its right with the same BDF.
  static func all(of layout: MapLayout) -> [MapBridge] {
    var bridges: [MapBridge] = []
    var last: [UInt16: (column: Int, end: LinkEnd)] = [:]
    for (number, column) in layout.columns.enumerated() {
      for end in column.links where span(of: end.device.bdf, number, layout) != nil {
        let bdf = end.device.bdf
        if let before = last[bdf], before.column != number,
          let left = span(of: bdf, before.column, layout),
          let right = span(of: bdf, number, layout)
        {
          bridges.append(
            MapBridge(
              bdf: bdf, left: left, right: right, leftID: before.end.device.sharedMemoryID,
              rightID: end.device.sharedMemoryID,
              service: Wording.service(end.device.sharedMemoryProtocol),
              agrees: places(bdf, before.column, layout) == places(bdf, number, layout)))
        }
        last[bdf] = (number, end)
      }
    }
    return bridges
  }

  private static func places(_ bdf: UInt16, _ column: Int, _ layout: MapLayout) -> [[UInt64]] {
    layout.columns[column].items.filter { $0.section?.bdf == bdf }
      .map { [UInt64($0.section?.section ?? 0), $0.start, $0.end] }
      .sorted { $0.lexicographicallyPrecedes($1) }
  }

  /// What the sections of a link take in a column; `nil` when none has a place on the map.
  private static func span(_ items: [(MapItem, Box)]) -> Box? {
    guard let first = items.first else { return nil }
    return items.reduce(first.1) { whole, next in
      let x = min(whole.x, next.1.x)
      let y = min(whole.y, next.1.y)
      return Box(
        x: x, y: y, width: max(whole.right, next.1.right) - x,
        height: max(whole.bottom, next.1.bottom) - y)
    }
  }

  private static func span(of bdf: UInt16, _ column: Int, _ layout: MapLayout) -> Box? {
    span(
      Array(zip(layout.columns[column].items, layout.boxes[column])).filter {
        $0.0.section?.bdf == bdf
      })
  }

  /// A band with soft bends.
  var path: String {
    let (x1, x2) = (left.right, right.x)
    let bend = min(x1 + 60, (x1 + x2) / 2)
    return "M\(x1) \(left.y)C\(bend) \(left.y) \(bend) \(right.y) \(x2) \(right.y)"
      + "V\(right.bottom)C\(bend) \(right.bottom) \(bend) \(left.bottom) \(x1) \(left.bottom)Z"
  }
}
