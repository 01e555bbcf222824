import CellFormat
import Drawing

/// What lies between columns, and what stands below them.
extension MapDrawing {
  mutating func drawBridge(_ bridge: MapBridge) {
    let colour = (links.firstIndex(of: bridge.bdf) ?? 0) % MapStyle.linkColours
    svg.element(
      "path",
      [
        ("class", bridge.agrees ? "bridge bl\(colour)" : "bridge badbridge"), ("d", bridge.path),
        ("data-bdf", Wording.bdf(bridge.bdf)),
      ],
      tip: "link \(Wording.bdf(bridge.bdf)), \(bridge.service)"
        + (bridge.agrees ? "" : ": the ends name different addresses"))
  }

  /// Names in the gap right of a bridge's left end, moved down where two would meet.
  mutating func drawBridgeTexts() {
    var taken: [Box] = []
    for bridge in bridges {
      let x = bridge.left.right
      let width = min(MapLayout.cellGap, bridge.right.x - x)
      var box = Box(
        x: x, y: (bridge.left.y + bridge.left.bottom) / 2 - 18, width: width, height: 30)
      while let other = taken.first(where: {
        $0.x == box.x && $0.y < box.bottom && box.y < $0.bottom
      }) { box.y = other.bottom }
      taken.append(box)
      let middle = x + width / 2
      let style = bridge.agrees ? "halo" : "halo red"
      svg.label(
        Wording.bdf(bridge.bdf), x: middle, y: box.y + 13, style + " strong", width: width,
        anchor: "middle")
      svg.label(
        bridge.agrees ? bridge.service : "addresses differ", x: middle, y: box.y + 26,
        style + " small", width: width, size: 10, anchor: "middle")
      svg.label("\(bridge.leftID)", x: x + 5, y: box.y + 13, "muted small halo", size: 10)
      svg.label(
        "\(bridge.rightID)", x: bridge.right.x - 5,
        y: (bridge.right.y + bridge.right.bottom) / 2 - 5, "muted small halo", size: 10,
        anchor: "end")
    }
  }

  /// Hatching of what meets: stretches of one box that touch are one, however many others claim
  /// them.
  mutating func drawMeetings() {
    for kind in [MapMeeting.Kind.lent, .conflict] {
      var stretches: [(column: Int, item: Int, start: UInt64, end: UInt64)] = []
      for meeting in meetings where meeting.kind == kind {
        let sides = kind == .conflict ? [meeting.left, meeting.right] : [rootSide(of: meeting)]
        for side in sides { stretches.append((side.column, side.item, meeting.start, meeting.end)) }
      }
      stretches.sort { ($0.column, $0.item, $0.start) < ($1.column, $1.item, $1.start) }
      var merged: [(column: Int, item: Int, start: UInt64, end: UInt64)] = []
      for next in stretches {
        if let last = merged.last, last.column == next.column, last.item == next.item,
          last.end >= next.start
        {
          merged[merged.count - 1].end = max(last.end, next.end)
        } else {
          merged.append(next)
        }
      }
      for stretch in merged {
        var box = layout.boxes[stretch.column][stretch.item]
        box.y = layout.y(stretch.start)
        box.height = layout.y(stretch.end) - box.y
        let span = Wording.span(stretch.start, stretch.end - stretch.start)
        svg.rectangle(
          box, kind == .conflict ? "conflict" : "lent", radius: 2,
          [("data-column", "\(stretch.column)")],
          tip: kind == .conflict
            ? "conflict: \(span) is claimed twice"
            : "taken from the root while the guest exists: \(span)")
      }
    }
  }

  private func rootSide(of meeting: MapMeeting) -> (column: Int, item: Int) {
    layout.columns[meeting.left.column].role == .root ? meeting.left : meeting.right
  }

  /// The conflicts in words.
  func footTexts() -> [String] {
    let conflicts = MapConflicts(columns: layout.columns).texts(of: meetings)
    guard conflicts.count > Self.toldConflicts else { return conflicts }
    return conflicts.prefix(Self.toldConflicts) + [
      "and \(conflicts.count - Self.toldConflicts) more conflicts"
    ]
  }

  /// The legend's entries: only what is on the map.
  func legendPlaces(
    top: Int
  ) -> (entries: [(x: Int, y: Int, style: String, text: String)], bottom: Int) {
    let kinds = Set(layout.columns.flatMap { ($0.items + $0.loose).map(\.kind) })
    var wanted = MapStyle.legend.filter { kinds.contains($0.kind) }
      .map { (MapStyle.name($0.kind, links: links), $0.text) }
    if kinds.contains(where: { if case .section = $0 { true } else { false } }) {
      wanted.append(("l0", "link: sections, bridge with BDF, service, peer ids"))
    }
    if meetings.contains(where: { $0.kind == .lent }) {
      wanted.append(("lent", "taken from the root while the guest exists"))
    }
    if meetings.contains(where: { $0.kind == .conflict }) {
      wanted.append(("conflict", "conflict: not shared by intention"))
    }
    var entries: [(x: Int, y: Int, style: String, text: String)] = []
    var (x, y) = (MapLayout.margin, top + 10)
    for (style, text) in wanted {
      let needed = 22 + SVGText.width(of: text, size: 11) + 18
      if x > MapLayout.margin, x + needed > width - MapLayout.margin {
        x = MapLayout.margin
        y += 19
      }
      entries.append((x, y, style, text))
      x += needed
    }
    return (entries, entries.isEmpty ? top : y + 4)
  }
}
