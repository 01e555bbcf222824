import Drawing
import SharedMemory
import VirtioDevice
import VirtioTransport

extension StartUp {
  /// The sequence as an SVG document: two lines of life, an arrow for each word that the other
  /// side acts on, and bars where a side sleeps.
  public var sequencePicture: String {
    var drawing = StartUpDrawing(actions: actions)
    return drawing.draw()
  }
}

/// One row of the sequence.
private struct Row {
  enum Kind {
    /// Something a side does with its own registers or block.
    case own(LinkSide, String)
    /// A word for the other side.
    case arrow(LinkSide, String)
    /// What the rows below belong to.
    case title(String)
  }
  let kind: Kind
  /// Whether the sleeping other side is rung.
  var rings = false
}

private struct StartUpDrawing {
  static let width = 900
  static let front = 250
  static let back = 650
  static let top = 104
  static let rowHeight = 17
  private var rows: [Row] = []
  /// Rows at which a side falls asleep and wakes up.
  private var sleeps: [LinkSide: [(from: Int, to: Int?)]] = [:]
  private var svg = SVGText()

  init(actions: [LinkAction]) {
    var isDeviceTitled = false
    for action in actions {
      switch action.kind {
      case .state(let value):
        rows.append(Row(kind: .own(action.side, Self.state(value))))
      case .hello(let own, let echo):
        let answer = echo == 0 ? "nobody" : PictureStyle.hex(UInt64(echo))
        rows.append(
          Row(
            kind: .arrow(
              action.side, "hello: I am \(PictureStyle.hex(UInt64(own))), I see \(answer)")))
      case .request(let operation, let offset, let value):
        if !isDeviceTitled {
          rows.append(Row(kind: .title("the link is up: registers by transactions")))
          isDeviceTitled = true
        }
        rows.append(
          Row(kind: .arrow(action.side, AccessWords.text(operation, offset, value))))
      case .answer(let result, let value):
        rows.append(Row(kind: .arrow(action.side, answer(result, value))))
      case .notification(_, let count):
        if action.side == .frontEnd, count == 1 {
          rows.append(Row(kind: .title("the device runs: rings, and one counter a queue")))
        }
        rows.append(
          Row(
            kind: .arrow(
              action.side,
              action.side == .frontEnd
                ? "counter of queue 0 = \(count): a chain is available"
                : "counter of queue 0 = \(count): the chain is used")))
      case .doorbell:
        if let last = rows.indices.last(where: { isArrow(rows[$0], from: action.side) }) {
          rows[last].rings = true
        }
      case .status(let status): sleep(action.side, status.contains(.blocked))
      case .armed: break
      }
    }
  }

  private func isArrow(_ row: Row, from side: LinkSide) -> Bool {
    if case .arrow(side, _) = row.kind { true } else { false }
  }

  private mutating func sleep(_ side: LinkSide, _ isAsleep: Bool) {
    var spans = sleeps[side] ?? []
    if isAsleep {
      spans.append((rows.count, nil))
    } else if let last = spans.indices.last, spans[last].to == nil {
      spans[last].to = rows.count
    }
    sleeps[side] = spans
  }

  private static func state(_ value: UInt32) -> String {
    switch value {
    case 0: "State = 0"
    case LinkSide.frontEnd.stateValue: "State = front-end, version 1"
    case LinkSide.backEnd.stateValue: "State = back-end, version 1"
    default: "State = \(PictureStyle.hex(UInt64(value)))"
    }
  }

  /// What an answer says depends on what was asked last.
  private func answer(_ result: UInt32, _ value: UInt64) -> String {
    guard result == 0 else { return "refused: \(PictureStyle.hex(UInt64(result)))" }
    for row in rows.reversed() {
      guard case .arrow(.frontEnd, let asked) = row.kind else { continue }
      if asked == "read Status" { return AccessWords.status(value) }
      if asked.hasPrefix("read ") { return PictureStyle.hex(value) }
      break
    }
    return "done"
  }

  private func y(_ row: Int) -> Int { Self.top + 30 + row * Self.rowHeight }

  mutating func draw() -> String {
    let height = y(rows.count) + 62
    svg.begin(
      "svg",
      [
        ("xmlns", "http://www.w3.org/2000/svg"), ("width", "\(Self.width)"),
        ("height", "\(height)"), ("viewBox", "0 0 \(Self.width) \(height)"), ("role", "img"),
      ])
    svg.raw("<title>Start-up of a native link</title>\n<style>\n\(PictureStyle.sheet)</style>\n")
    svg.rectangle(Box(x: 0, y: 0, width: Self.width, height: height), "page", radius: 6)
    svg.label("Start-up of a native link", x: 20, y: 32, "big", size: 17)
    svg.label(
      "Recorded from both sides' code on a simulated link; epochs are drawn at random.", x: 20,
      y: 52, "muted")
    drawLives(to: y(rows.count) + 4)
    for (index, row) in rows.enumerated() { draw(row, y(index)) }
    drawLegend(y(rows.count) + 26)
    svg.end()
    return svg.text
  }

  private mutating func drawLives(to bottom: Int) {
    for (x, name, style) in [
      (Self.front, "front-end (driver)", "front"), (Self.back, "back-end (device)", "back"),
    ] {
      svg.rectangle(Box(x: x - 75, y: 70, width: 150, height: 26), style, radius: 4)
      svg.label(name, x: x, y: 88, "head", size: 13, anchor: "middle")
      line("life", x, 96, x, bottom)
    }
    for (side, x) in [(LinkSide.frontEnd, Self.front), (.backEnd, Self.back)] {
      for span in sleeps[side] ?? [] {
        let from = y(span.from) - 14
        let to = span.to.map { y($0) - 7 } ?? bottom
        guard to > from else { continue }
        svg.rectangle(
          Box(x: x - 5, y: from, width: 10, height: to - from), "asleep", radius: 3,
          tip: "asleep, BLOCKED is set")
      }
    }
  }

  private mutating func line(_ style: String, _ x1: Int, _ y1: Int, _ x2: Int, _ y2: Int) {
    svg.element(
      "line",
      [("class", style), ("x1", "\(x1)"), ("y1", "\(y1)"), ("x2", "\(x2)"), ("y2", "\(y2)")])
  }

  private mutating func draw(_ row: Row, _ y: Int) {
    switch row.kind {
    case .title(let text):
      svg.label(text, x: (Self.front + Self.back) / 2, y: y, "muted", anchor: "middle")
    case .own(.frontEnd, let text):
      svg.label(text, x: Self.front - 14, y: y, "mono", anchor: "end")
    case .own(.backEnd, let text): svg.label(text, x: Self.back + 14, y: y, "mono")
    case .arrow(let side, let text):
      let isFront = side == .frontEnd
      let from = isFront ? Self.front + 7 : Self.back - 7
      let to = isFront ? Self.back - 7 : Self.front + 7
      let tip = isFront ? to - 7 : to + 7
      let style = isFront ? "frontline" : "backline"
      line(style, from, y + 3, tip, y + 3)
      svg.element(
        "polygon",
        [("class", style), ("points", "\(to),\(y + 3) \(tip),\(y) \(tip),\(y + 6)")])
      svg.label(
        text, x: (Self.front + Self.back) / 2, y: y, "mono", width: 400, size: 10,
        anchor: "middle")
      guard row.rings else { return }
      svg.element(
        "circle",
        [
          ("class", "bell"), ("cx", "\(isFront ? to + 18 : to - 18)"), ("cy", "\(y + 3)"),
          ("r", "4"),
        ],
        tip: "doorbell")
    }
  }

  private mutating func drawLegend(_ y: Int) {
    svg.rectangle(Box(x: 20, y: y - 9, width: 10, height: 12), "asleep", radius: 3)
    svg.label("asleep: BLOCKED is set, the interrupt is armed", x: 38, y: y, "muted")
    svg.element(
      "circle", [("class", "bell"), ("cx", "325"), ("cy", "\(y - 3)"), ("r", "4")])
    svg.label("doorbell: the other side is asleep, so it is rung", x: 336, y: y, "muted")
    svg.label(
      "Arrows are stores to the own block, which the other side reads: no register access traps,"
        + " nobody else takes part.", x: 20, y: y + 20, "muted")
  }
}
