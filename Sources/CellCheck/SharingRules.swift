import CellFormat

/// Rules that compare the memory of cells: E45, E50 and E51.
extension Checker {
  mutating func checkSharing() {
    for view in guests {
      checkInsideRoot(view)
      for other in cells[..<view.index]
      where other.isRoot ? system != nil : runTogether(view, other) {
        checkOverlap(view, with: other)
        if !other.isRoot { checkStreams(view, other) }
      }
    }
  }

  private mutating func checkInsideRoot(_ view: CellView) {
    guard let root, let system else { return }
    let owned = Coverage(root.physicalSpans.map(\.span))
    // What other rules speak of is left to them.
    let elsewhere =
      [
        Span(system.hypervisorMemory.physicalStart, system.hypervisorMemory.size),
        configurationSpace,
      ].compactMap { $0 } + interruptControllerSpans.map(\.span)
      + system.iommus.compactMap { $0.type == 0 ? nil : Span($0.base, UInt64($0.size)) }
    for (index, span) in view.physicalSpans {
      guard !elsewhere.contains(where: { $0.overlaps(span) }) else { continue }
      if let number = view.endpointOfRegion[index] {
        let bdf = view.endpoints[number].device.bdf
        if root.endpointAtBDF[bdf] != nil { continue }
      }
      let rest = owned.gaps(in: span)
      guard let first = rest.first else { continue }
      report(
        "E50", view, view.place(region: index),
        "phys \(span.text) is not memory of the root cell"
          + (rest == [span] ? "" : " from \(hex(first.first)) to \(hex(first.last))"),
        means: view.cell.memoryRegions[index].flags.contains(.loadable)
          ? "loading the cell writes there through the root cell, which faults and stops"
          : "the guest gets memory or registers that nobody gave; they go back to nobody",
        fix: "add the range to the root cell's regions, or correct phys_start")
    }
  }

  /// What a region is to the comparison: the link it belongs to, or itself.
  private func owner(_ view: CellView, _ region: Int) -> Int {
    if let endpoint = view.endpointOfRegion[region] { return -1 - endpoint }
    return region
  }

  private mutating func checkOverlap(_ view: CellView, with other: CellView) {
    // Of the root cell only links are private: all other memory is there to be given away.
    let theirs = other.physicalSpans.filter {
      !other.isRoot || other.endpointOfRegion[$0.index] != nil
    }
    var seen: Set<[Int]> = []
    for (mine, their) in overlappingPairs(view.physicalSpans, theirs) {
      let myLink = view.endpointOfRegion[mine].map { view.endpoints[$0] }
      let theirLink = other.endpointOfRegion[their].map { other.endpoints[$0] }
      let myFlags = view.cell.memoryRegions[mine].flags
      let theirFlags = other.cell.memoryRegions[their].flags
      switch (myLink, theirLink) {
      case (let one?, let two?) where isSameLink(view, one, other, two): continue
      case (nil, nil) where myFlags.contains(.rootShared) && theirFlags.contains(.rootShared):
        continue
      default: break
      }
      guard seen.insert([owner(view, mine), owner(other, their)]).inserted else { continue }
      let region = view.cell.memoryRegions[mine]
      let theirRegion = other.cell.memoryRegions[their]
      report(
        "E51", view, view.place(region: mine),
        "phys \(hex(region.physicalStart)), size \(hex(region.size)) overlaps "
          + (theirLink.map { "link \($0.name), " } ?? "")
          + "memory region \(their) of cell \"\(other.name)\" (\(hex(theirRegion.physicalStart)), "
          + "\(hex(theirRegion.size)))",
        means: theirLink == nil
          ? "both cells run, and each overwrites or is interrupted by what the other does there"
          : "the guest overwrites the link, or gets its data as its own",
        fix: theirLink == nil
          ? "move one region; flag both ROOTSHARED when the sharing is meant; or name both cells "
            + "with --alternatives" : "move one of them")
    }
  }

  /// Whether two ends are of one link: one BDF, or one state table under two BDFs (E42 says so).
  private func isSameLink(
    _ view: CellView, _ one: Endpoint, _ other: CellView, _ two: Endpoint
  ) -> Bool {
    one.device.bdf == two.device.bdf
      || one.sections.first?.physicalStart == two.sections.first?.physicalStart
        && other.endpointAtBDF[one.device.bdf] == nil
        && view.endpointAtBDF[two.device.bdf] == nil
  }

  private mutating func checkStreams(_ view: CellView, _ other: CellView) {
    let common = Set(view.cell.streamIDs).intersection(other.cell.streamIDs).sorted()
    guard let first = common.first else { return }
    report(
      "E45", view, "stream ids",
      "\(common.prefix(8).map { hex($0) }.joined(separator: ", ")) also belong(s) to cell "
        + "\"\(other.name)\"",
      means: "the translation of bus master \(hex(first)) belongs to the cell created last: the "
        + "device of the other writes into its memory",
      fix: "give each guest its own devices, or name both with --alternatives")
  }
}
