import CellFormat
import Drawing

/// Draws a layout.
struct MapDrawing {
  let layout: MapLayout
  let meetings: [MapMeeting]
  /// All links, by BDF: their colours follow this order.
  let links: [UInt16]
  let bridges: [MapBridge]
  var svg = SVGText()
  /// Conflicts that are told in words below the map.
  static let toldConflicts = 12

  init(layout: MapLayout, meetings: [MapMeeting]) {
    self.layout = layout
    self.meetings = meetings
    links = Set(layout.columns.flatMap { $0.links.map(\.device.bdf) }).sorted()
    bridges = MapBridge.all(of: layout)
  }

  var width: Int { max(layout.width, 560) }

  mutating func draw() -> String {
    let texts = footTexts()
    let legendTop = layout.looseBottom + 14
    let (legend, legendBottom) = legendPlaces(top: legendTop)
    let height = legendBottom + (texts.isEmpty ? 0 : 10 + 17 * texts.count) + 12
    svg.begin(
      "svg",
      [
        ("xmlns", "http://www.w3.org/2000/svg"), ("width", "\(width)"), ("height", "\(height)"),
        ("viewBox", "0 0 \(width) \(height)"), ("role", "img"),
        (
          "aria-label",
          "Physical memory map of \(layout.columns.map(\.title).joined(separator: ", "))"
        ),
      ])
    drawDefinitions()
    svg.rectangle(
      Box(x: 0, y: 0, width: width, height: height), "page", radius: 8)
    drawHeads()
    drawAxis()
    for bridge in bridges { drawBridge(bridge) }
    for column in layout.columns.indices { drawBoxes(column) }
    drawMeetings()
    for column in layout.columns.indices { drawTexts(column) }
    drawBridgeTexts()
    for entry in legend {
      svg.rectangle(
        Box(x: entry.x, y: entry.y - 10, width: 16, height: 12), entry.style, radius: 2)
      svg.label(entry.text, x: entry.x + 22, y: entry.y, "muted")
    }
    for (index, text) in texts.enumerated() {
      svg.label(
        text, x: MapLayout.margin, y: legendBottom + 18 + 17 * index, "red",
        width: width - 2 * MapLayout.margin)
    }
    svg.end()
    return svg.text
  }

  private mutating func drawDefinitions() {
    svg.begin("style")
    svg.raw(MapStyle.sheet)
    svg.end()
    svg.begin("defs")
    for (id, size, wash, line) in [
      ("cm-conflict", 7, "redwash", "redline"), ("cm-lent", 6, "", "lentline"),
    ] {
      svg.begin(
        "pattern",
        [
          ("id", id), ("width", "\(size)"), ("height", "\(size)"),
          ("patternUnits", "userSpaceOnUse"), ("patternTransform", "rotate(45)"),
        ])
      if !wash.isEmpty {
        svg.rectangle(Box(x: 0, y: 0, width: size, height: size), wash)
      }
      svg.element(
        "line",
        [
          ("class", line), ("x1", "0"), ("y1", "0"), ("x2", "0"), ("y2", "\(size)"),
          ("stroke-opacity", wash.isEmpty ? "0.3" : "0.38"),
        ])
      svg.end()
    }
    svg.end()
  }

  private mutating func drawHeads() {
    let top = MapLayout.margin
    svg.label("Physical memory map", x: top, y: top + 16, "big", size: 17)
    svg.label(
      "Addresses ascend downwards; heights grow with the logarithm of the size.",
      x: top, y: top + 34, "muted", width: width - 2 * top)
    for (column, box) in zip(layout.columns, layout.columnBoxes) {
      let base = box.y - 8
      svg.label(column.title, x: box.x, y: base - 28, "head", width: box.width, size: 13)
      svg.label(column.subtitle, x: box.x, y: base - 13, "muted", width: box.width)
      svg.label(column.file, x: box.x, y: base, "muted small", width: box.width, size: 10)
      svg.rectangle(box, "column", radius: 3)
    }
  }

  private mutating func drawAxis() {
    guard let right = layout.columnBoxes.last?.right else { return }
    for (index, address) in layout.boundaries.enumerated() {
      let y = layout.ys[index]
      svg.element(
        "line",
        [
          ("class", "line"), ("x1", "\(MapLayout.margin + MapLayout.axisWidth - 8)"),
          ("y1", "\(y)"), ("x2", "\(right)"), ("y2", "\(y)"),
        ])
      let text = address == .max ? "2^64" : Wording.hex(address)
      svg.label(
        text, x: MapLayout.margin + MapLayout.axisWidth - 12, y: y + 4, "mono muted",
        anchor: "end")
      guard index < layout.covered.count, !layout.covered[index] else { continue }
      // Three dots beside the axis: nothing of anybody up to the next address.
      let middle = (y + layout.ys[index + 1]) / 2
      for dot in -1...1 {
        svg.element(
          "circle",
          [
            ("class", "gap"), ("cx", "\(MapLayout.margin + MapLayout.axisWidth - 3)"),
            ("cy", "\(middle + 4 * dot)"), ("r", "1"),
          ])
      }
    }
  }

  private mutating func drawBoxes(_ number: Int) {
    let column = layout.columns[number]
    let placed =
      Array(zip(column.items, layout.boxes[number]))
      + Array(zip(column.loose, layout.looseBoxes[number]))
    for (item, box) in placed {
      var data = [("data-column", "\(number)"), ("data-start", Wording.hex(item.start))]
      if let region = item.region { data.append(("data-region", "\(region)")) }
      let style = "region " + MapStyle.name(item.kind, links: links)
      svg.rectangle(box, style, radius: 2, data, tip: item.detail)
    }
  }

  private mutating func drawTexts(_ number: Int) {
    let column = layout.columns[number]
    for (item, box) in zip(column.items, layout.boxes[number]) { drawText(item, box) }
    for (item, box) in zip(column.loose, layout.looseBoxes[number]) {
      drawText(item, box, isLoose: true)
    }
    guard column.emptySlots > 0 else { return }
    let row = column.loose.count
    let slots = column.emptySlots == 1 ? "1 empty slot" : "\(column.emptySlots) empty slots"
    svg.label(
      slots, x: layout.columnBoxes[number].x + 8,
      y: layout.mapBottom + 10 + row * (MapLayout.looseHeight + 3) + 15, "muted small", size: 10)
  }

  private mutating func drawText(_ item: MapItem, _ box: Box, isLoose: Bool = false) {
    let size = Wording.size(item.size)
    let sizeWidth = SVGText.width(of: size, size: 10)
    let inner = box.width - 12
    let baseline = min(box.y + 15, box.y + box.height / 2 + 4)
    let hasSize = inner - sizeWidth >= min(66, 8 + SVGText.width(of: item.label, size: 11))
    svg.label(
      item.label, x: box.x + 6, y: baseline, "label", width: hasSize ? inner - sizeWidth : inner)
    if hasSize {
      svg.label(size, x: box.right - 6, y: baseline, "muted small", size: 10, anchor: "end")
    }
    let second = hasSize ? item.note : size
    if !isLoose, !second.isEmpty, box.height >= 32 {
      svg.label(second, x: box.x + 6, y: box.y + 28, "muted small", width: inner, size: 10)
    }
  }
}
