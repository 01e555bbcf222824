import Drawing
import IVShmem
import VirtioDevice
import VirtioTransport

extension StartUp {
  /// What lies where on this link, as an SVG document: sections with who may write them, and in
  /// them blocks, rings and the buffer of one request, at the addresses that were negotiated.
  public var mapPicture: String {
    var map = LinkMap(start: self)
    return map.draw()
  }

  /// The addresses that the driver wrote to the queue registers of queue 0.
  var rings: (descriptors: Int, available: Int, used: Int, size: Int) {
    var found = [MMIORegister: Int]()
    for action in actions {
      guard case .request(.write, let offset, let value) = action.kind,
        let register = MMIORegister(rawValue: offset), let value = Int(exactly: value)
      else { continue }
      found[register] = value
    }
    func address(_ low: MMIORegister, _ high: MMIORegister) -> Int {
      (found[high] ?? 0) << 32 | (found[low] ?? 0)
    }
    return (
      address(.queueDescriptorLow, .queueDescriptorHigh),
      address(.queueDriverLow, .queueDriverHigh), address(.queueDeviceLow, .queueDeviceHigh),
      found[.queueSize] ?? 0
    )
  }
}

/// A part of the shared memory with what lies in it.
private struct Part {
  let name: String
  let range: Range<Int>
  let style: String
  var note = ""
}

private struct LinkMap {
  static let width = 860
  static let left = 128
  static let sectionWidth = 250
  static let detailLeft = 470
  static let detailWidth = 366
  static let rowHeight = 30
  private let start: StartUp
  private var svg = SVGText()

  init(start: StartUp) { self.start = start }

  private var sections: [Part] {
    let geometry = start.geometry
    var parts = [
      Part(
        name: "state table", range: 0..<geometry.stateTableSize, style: "hyper",
        note: "read only; the hypervisor writes it")
    ]
    if geometry.readWriteSize > 0 {
      parts.append(
        Part(
          name: "read/write section", range: geometry.readWrite, style: "both",
          note: "every peer reads and writes"))
    }
    if geometry.outputSize > 0 {
      let front = start.plan.side == .frontEnd ? 1 : 0
      for id in 0..<Int(geometry.maxPeers) {
        let lower = geometry.readWrite.upperBound + id * geometry.outputSize
        let isFront = id == front
        parts.append(
          Part(
            name: "output section of peer \(id)", range: lower..<lower + geometry.outputSize,
            style: isFront ? "front" : "back",
            note: "\(isFront ? "front-end" : "back-end") writes, the other reads"))
      }
    }
    return parts
  }

  private var details: [Part] {
    let plan = start.plan
    let rings = start.rings
    let driver = plan.driverBlock
    let device = plan.deviceBlock
    let size = rings.size
    return [
      Part(
        name: "driver block: header, hello, status", range: driver..<driver + 0x100,
        style: "front"),
      Part(
        name: "driver block: 8 slots", range: driver + 0x100..<driver + BlockLayout.driverBlockSize,
        style: "front", note: "request word, queue counters"),
      Part(
        name: "device block: header, hello, status", range: device..<device + 0x100, style: "back"),
      Part(
        name: "device block: 8 slots", range: device + 0x100..<device + BlockLayout.deviceBlockSize,
        style: "back", note: "answers, counters, registers, configuration"),
      Part(
        name: "queue 0: descriptor table", range: rings.descriptors..<rings.descriptors + 16 * size,
        style: "front", note: "\(size) entries"),
      Part(
        name: "queue 0: available ring",
        range: rings.available..<rings.available + 6 + 2 * size, style: "front"),
      Part(
        name: "queue 0: used ring", range: rings.used..<rings.used + 6 + 8 * size, style: "back"),
      Part(
        name: "buffer of the first read", range: start.buffer, style: "back",
        note: "the device writes the sector here"),
    ].sorted { $0.range.lowerBound < $1.range.lowerBound }
  }

  mutating func draw() -> String {
    let details = details
    let detailTop = 96
    let bottom = detailTop + details.count * (Self.rowHeight + 6)
    let height = bottom + 62
    svg.begin(
      "svg",
      [
        ("xmlns", "http://www.w3.org/2000/svg"), ("width", "\(Self.width)"),
        ("height", "\(height)"), ("viewBox", "0 0 \(Self.width) \(height)"), ("role", "img"),
      ])
    svg.raw("<title>Memory of a native link</title>\n<style>\n\(PictureStyle.sheet)</style>\n")
    svg.rectangle(Box(x: 0, y: 0, width: Self.width, height: height), "page", radius: 6)
    svg.label("Memory of a native link", x: 20, y: 32, "big", size: 17)
    svg.label(
      "\(PictureStyle.size(start.geometry.totalSize)) of shared memory, "
        + "\(start.plan.placement == .output ? "output" : "shared") placement, one block device;"
        + " offsets from the state table. Not to scale.", x: 20, y: 52, "muted")
    svg.label("sections", x: Self.left, y: 84, "head", size: 13)
    svg.label("what lies in them", x: Self.detailLeft, y: 84, "head", size: 13)
    let places = drawSections(from: detailTop, to: bottom - 6)
    for (index, part) in details.enumerated() {
      draw(part, at: detailTop + index * (Self.rowHeight + 6), places)
    }
    drawLegend(bottom + 22)
    svg.end()
    return svg.text
  }

  /// Where each section lies on the page.
  private mutating func drawSections(from top: Int, to bottom: Int) -> [(Part, Box)] {
    let sections = sections
    // The state table is small and holds nothing of ours.
    let small = 40
    let rest = (bottom - top - small) / max(1, sections.count - 1)
    var y = top
    var places: [(Part, Box)] = []
    for (index, part) in sections.enumerated() {
      let isLast = index == sections.count - 1
      let height = index == 0 ? small : isLast ? bottom - y : rest
      let box = Box(x: Self.left, y: y, width: Self.sectionWidth, height: height)
      svg.rectangle(box, part.style, tip: "\(part.name), \(PictureStyle.size(part.range.count))")
      svg.label(
        PictureStyle.hex(part.range.lowerBound), x: Self.left - 8, y: y + 11, "mono", size: 10,
        anchor: "end")
      svg.label(
        "\(part.name), \(PictureStyle.size(part.range.count))", x: Self.left + 8, y: y + 16, "head",
        width: Self.sectionWidth - 10, size: 12)
      svg.label(part.note, x: Self.left + 8, y: y + 32, "muted", size: 10)
      places.append((part, box))
      y += height
    }
    svg.label(
      PictureStyle.hex(start.geometry.totalSize), x: Self.left - 8, y: bottom + 4, "mono", size: 10,
      anchor: "end")
    return places
  }

  private mutating func draw(_ part: Part, at y: Int, _ places: [(Part, Box)]) {
    let box = Box(x: Self.detailLeft, y: y, width: Self.detailWidth, height: Self.rowHeight)
    if let (section, place) = places.first(where: {
      $0.0.range.contains(part.range.lowerBound)
    }) {
      // The lead starts at the part's share of the section, on a scale of powers of two.
      let offset = part.range.lowerBound - section.range.lowerBound
      let steps = Int.bitWidth - max(1, section.range.count).leadingZeroBitCount
      let step = offset == 0 ? 0 : Int.bitWidth - offset.leadingZeroBitCount
      let at = place.y + 40 + (place.height - 46) * step / max(1, steps)
      svg.element(
        "path",
        [
          ("class", "lead"),
          (
            "d",
            "M \(place.right) \(at) C \(place.right + 50) \(at), \(box.x - 50) \(y + 15),"
              + " \(box.x) \(y + 15)"
          ),
        ])
    }
    svg.rectangle(box, part.style, radius: 3)
    svg.label(
      "\(PictureStyle.hex(part.range.lowerBound))", x: box.x + 8, y: y + 13, "mono", size: 10)
    svg.label(part.name, x: box.x + 84, y: y + 13, "head", size: 11)
    svg.label(
      "\(part.range.count) bytes\(part.note.isEmpty ? "" : ": \(part.note)")", x: box.x + 84,
      y: y + 26, "muted", width: Self.detailWidth - 90, size: 10)
  }

  private mutating func drawLegend(_ y: Int) {
    var x = 20
    for (style, text) in [
      ("front", "written by the front-end alone"), ("back", "written by the back-end alone"),
      ("both", "written by both"), ("hyper", "written by the hypervisor"),
    ] {
      svg.rectangle(Box(x: x, y: y - 9, width: 12, height: 12), style, radius: 2)
      svg.label(text, x: x + 18, y: y, "muted")
      x += 34 + SVGText.width(of: text, size: 11)
    }
    svg.label(
      "The page tables hold the writers to it; in the shared placement only the rules do.", x: 20,
      y: y + 20, "muted")
  }
}
