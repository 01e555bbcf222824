import CellFormat

/// Rules that compare the ends of a link: E10 to E13, E40, E42 and lonely ends.
extension Checker {
  /// One end with the cell it belongs to.
  struct End {
    let view: CellView
    let endpoint: Endpoint
  }

  mutating func checkLinkPairs() {
    let ends = cells.flatMap { view in
      // A second device at one BDF is E24's; it would only repeat everything here.
      var seen: Set<UInt16> = []
      return view.endpoints.filter { seen.insert($0.device.bdf).inserted }
        .map { End(view: view, endpoint: $0) }
    }
    let links = Dictionary(grouping: ends) { $0.endpoint.device.bdf }
    var lonely: [End] = []
    for bdf in links.keys.sorted() {
      let members = links[bdf] ?? []
      for (position, end) in members.enumerated() {
        let earlier = members[..<position].filter { runTogether($0.view, end.view) }
        if let reference = earlier.first { compare(end, with: reference) }
        if let twin = earlier.first(where: { $0.endpoint.id == end.endpoint.id }) {
          reportSameID(end, twin)
        }
        if !members.contains(where: { runTogether($0.view, end.view) }) { lonely.append(end) }
      }
    }
    reportLonely(lonely)
  }

  private mutating func reportSameID(_ end: End, _ twin: End) {
    report(
      "E10", end.view, end.view.place(end.endpoint),
      "id \(end.endpoint.id) is that of cell \"\(twin.view.name)\" on this link as well",
      means: "creating the second of the two cells fails with EBUSY",
      fix: "give each end its own id; cells that never run together are named with --alternatives")
  }

  private mutating func compare(_ end: End, with reference: End) {
    let one = end.endpoint
    let other = reference.endpoint
    if one.peers != other.peers {
      report(
        "E11", end.view, end.view.place(one),
        "\(one.peers) peers, cell \"\(reference.view.name)\" says \(other.peers)",
        means: "this end looks at \(one.peers) states and the other at \(other.peers): state "
          + "changes go unnoticed, and the sections behind the first output are placed differently",
        fix: "set shmem_peers to the same number at all ends")
    }
    guard one.isComplete, other.isComplete else { return }
    compareSections(end, reference)
    compareProtocols(end, reference)
  }

  private mutating func compareSections(_ end: End, _ reference: End) {
    let one = end.endpoint
    let other = reference.endpoint
    var moved: [Int] = []
    var isSizeReported = false
    for number in 0..<min(one.sections.count, other.sections.count) {
      let mine = one.sections[number]
      let theirs = other.sections[number]
      if mine.size != theirs.size, !isSizeReported {
        isSizeReported = true
        report(
          "E12", end.view, end.view.place(region: one.firstRegion + number),
          "\(hex(mine.size)) bytes, cell \"\(reference.view.name)\" has \(hex(theirs.size))",
          means: "the ends compute different addresses for what follows, and one uses memory that "
            + "the other does not share",
          fix: "give the section the same size at all ends")
      }
      if mine.size > 0, theirs.size > 0, mine.physicalStart != theirs.physicalStart {
        moved.append(number)
      }
    }
    guard let first = moved.first else { return }
    let mine = one.sections[first].physicalStart
    let theirs = other.sections[first].physicalStart
    report(
      "E13", end.view, end.view.place(region: one.firstRegion + first),
      "phys_start \(hex(mine)), cell \"\(reference.view.name)\" has \(hex(theirs)) "
        + "(\(moved.count) of \(min(one.sections.count, other.sections.count)) sections differ)",
      means: "interrupts work, but data never arrives: the ends look at different memory",
      fix: "set phys_start to \(hex(theirs)), or move the section of \(reference.view.file)")
  }

  private mutating func compareProtocols(_ end: End, _ reference: End) {
    let mine = end.endpoint.device.sharedMemoryProtocol
    let theirs = reference.endpoint.device.sharedMemoryProtocol
    let fits =
      if mine >= 0x8000 || theirs >= 0x8000 {
        // Front-end 0x8000 + id, back-end 0xc000 + id: they differ in bit 14 and in nothing else.
        mine ^ theirs == 0x4000 && mine & theirs & 0x8000 != 0
      } else {
        mine == theirs
      }
    guard !fits else { return }
    report(
      "E40", end.view, end.view.place(end.endpoint),
      "protocol \(protocolText(mine)), cell \"\(reference.view.name)\" has \(protocolText(theirs))",
      means: "the driver that one end waits for is not the one that starts at the other",
      fix: mine >= 0x8000 || theirs >= 0x8000
        ? "one end is the back-end (0xc000 + virtio id), the other the front-end (0x8000 + the "
          + "same id)" : "set shmem_protocol to the same value at all ends")
  }

  private mutating func reportLonely(_ all: [End]) {
    // Every end is compared with every other: a hostile file could hold 65536.
    let lonely = Array(all.prefix(256))
    var unused: [End] = []
    for (position, end) in lonely.enumerated() {
      let state = end.endpoint.sections.first
      let partner = lonely[..<position].first { other in
        runTogether(other.view, end.view) && state != nil && (state?.size ?? 0) > 0
          && other.endpoint.sections.first?.size ?? 0 > 0
          && other.endpoint.sections.first?.physicalStart == state?.physicalStart
      }
      if let partner {
        report(
          "E42", end.view, end.view.place(end.endpoint),
          "shares its state table with cell \"\(partner.view.name)\", which calls the link "
            + partner.endpoint.name,
          means: "the two ends are two links: neither sees a peer, and no interrupt is delivered",
          fix: "set bdf to that of \(partner.view.file)")
      } else if !lonely[(position + 1)...].contains(where: { other in
        runTogether(other.view, end.view) && (state?.size ?? 0) > 0
          && other.endpoint.sections.first?.physicalStart == state?.physicalStart
      }) {
        if end.view.isRoot { unused.append(end) } else { reportLonely(end) }
      }
    }
    reportUnused(unused)
  }

  private mutating func reportLonely(_ end: End) {
    guard let root, !guests.isEmpty else { return }
    report(
      "W43", end.view, end.view.place(end.endpoint),
      "no other cell of the set has this link; the root cell has "
        + (root.endpoints.isEmpty
          ? "none" : root.endpoints.prefix(16).map(\.name).joined(separator: ", ")),
      means: "the guest waits for a peer that does not come",
      fix: "give the other cell a device with BDF \(end.endpoint.name), or name its file")
  }

  private mutating func reportUnused(_ ends: [End]) {
    guard let first = ends.first, !guests.isEmpty else { return }
    report(
      "N44", first.view, first.view.place(first.endpoint),
      "no guest of the set has "
        + ends.prefix(16).map { "link \($0.endpoint.name)" }.joined(separator: ", "),
      means: "nothing happens on the link; its memory stays reserved",
      fix: "name the guest that uses it, or leave it")
  }
}

private func protocolText(_ value: UInt16) -> String {
  switch value {
  case 0: "0 (undefined)"
  case 1: "1 (veth)"
  case 0xc000...: "\(hex(value)) (virtio back-end, id \(value - 0xc000))"
  case 0x8000...: "\(hex(value)) (virtio front-end, id \(value - 0x8000))"
  default: hex(value)
  }
}
