import CellFormat

/// Rules about the regions of one cell: E44, E46 to E49, E54, E55 and E58.
extension Checker {
  mutating func checkMemory() {
    for view in cells {
      checkEnds(view)
      checkPages(view)
      checkOverlaps(view)
      guard !view.isRoot else { continue }
      checkStart(view)
      checkLinuxMemory(view)
      if isArm(view) { checkCommRegion(view) }
    }
    if let root { checkRootCommRegion(root) }
  }

  private mutating func checkEnds(_ view: CellView) {
    for (index, region) in view.cell.memoryRegions.enumerated() where region.size > 0 {
      let starts = [("phys_start", region.physicalStart), ("virt_start", region.virtualStart)]
      let over = starts.first { _, start in
        let (end, overflow) = start.addingReportingOverflow(region.size - 1)
        return overflow || end >> 48 != 0
      }
      guard let over else { continue }
      report(
        "E58", view, view.place(region: index),
        "\(over.0) \(hex(over.1)) and size \(hex(region.size)) end beyond 48 bits",
        means: "the region cannot be mapped: Jailhouse ends with an error, or maps a part",
        fix: "correct the start or the size; most often a digit too many")
    }
  }

  private mutating func checkPages(_ view: CellView) {
    let widths: MemoryFlags = [.io8, .io16, .io32, .io64]
    for (index, region) in view.cell.memoryRegions.enumerated()
    where region.size > 0 && view.endpointOfRegion[index] == nil {
      let isPart = (region.virtualStart | region.size) & 0xfff != 0
      if isPart, region.flags.isDisjoint(with: widths) {
        report(
          "E44", view, view.place(region: index),
          "virt_start \(hex(region.virtualStart)), size \(hex(region.size)): a part of a page, "
            + "without IO_8, IO_16, IO_32 or IO_64",
          means: "every access is refused, and the first one ends the cell",
          fix: "add the widths the registers are accessed with, or give the cell whole pages")
      } else if region.physicalStart & 0xfff != region.virtualStart & 0xfff {
        report(
          "E44", view, view.place(region: index),
          "phys_start \(hex(region.physicalStart)) and virt_start \(hex(region.virtualStart)) "
            + "have different places in their pages",
          means: "the cell sees another address than the one that was meant",
          fix: "give both the same last three digits")
      }
    }
  }

  private mutating func checkOverlaps(_ view: CellView) {
    let regions = view.cell.memoryRegions
    let virtual = overlappingPairs(view.virtualSpans, nil).filter { one, other in
      // At the same address the same memory: it is there twice, but there.
      regions[one].virtualStart &- regions[one].physicalStart
        != regions[other].virtualStart &- regions[other].physicalStart
        || regions[one].flags.union(regions[other].flags).contains(.commRegion)
    }
    for (one, other) in virtual {
      report(
        "E46", view, view.place(region: other),
        "virt_start \(hex(regions[other].virtualStart)), size \(hex(regions[other].size)) overlaps "
          + "memory region \(one) (\(hex(regions[one].virtualStart)), "
          + "\(hex(regions[one].size)))",
        means: "the cell sees the region with the higher number there, and never the other",
        fix: "move or shorten one of them")
    }
    let known = Set(virtual.map { $0.0 << 32 | $0.1 })
    for (one, other) in overlappingPairs(view.physicalSpans, nil)
    where !known.contains(one << 32 | other) {
      report(
        "W47", view, view.place(region: other),
        "phys_start \(hex(regions[other].physicalStart)), size \(hex(regions[other].size)) "
          + "overlaps memory region \(one) (\(hex(regions[one].physicalStart)), "
          + "\(hex(regions[one].size)))",
        means: "the same memory is mapped twice: what was mapped last decides about rights and "
          + "kind, or it appears at two addresses",
        fix: "correct phys_start or size, unless both views are meant")
    }
  }

  private mutating func checkStart(_ view: CellView) {
    let address = view.cell.cpuResetAddress
    let regions = view.cell.memoryRegions
    let home = regions.firstIndex { region in
      Span(region.virtualStart, region.size)?.contains(address) ?? false
    }
    let place = "cpu_reset_address (offset 0x54)"
    guard let home else {
      report(
        "E48", view, place, "\(hex(address)) is in no memory region of the cell",
        means: "the first fetch of the CPU is a fault, and the hypervisor stops it",
        fix: "set cpu_reset_address to the start of the program, or add the region it lies in")
      return
    }
    let flags = regions[home].flags
    guard !flags.isSuperset(of: [.read, .write, .execute, .loadable]) else { return }
    report(
      "E48", view, place,
      "\(hex(address)) is in memory region \(home), which lacks "
        + namesOfMissing([.read, .write, .execute, .loadable], in: flags),
      means: "`jailhouse cell load` refuses to put a program there, or it cannot run",
      fix: "flag the region READ, WRITE, EXECUTE and LOADABLE")
  }

  private mutating func checkLinuxMemory(_ view: CellView) {
    guard view.looksLikeLinux else { return }
    for (index, region) in view.cell.memoryRegions.enumerated()
    where region.isPlainMemory && !region.flags.contains(.dma) && region.size >= 1 << 20 {
      let isLoader = Span(region.virtualStart, region.size)?.contains(view.cell.cpuResetAddress)
      guard isLoader != true || region.size >= 16 << 20 else { continue }
      report(
        "E54", view, view.place(region: index),
        "\(hex(region.size)) bytes of RAM without DMA",
        means: "the loader does not name it to the guest: its Linux has \(region.size >> 20) MiB "
          + "less than the cell",
        fix: "add JAILHOUSE_MEM_DMA; the region is RAM then for `jailhouse cell linux`")
    }
    if !view.cell.flags.contains(.passiveCommRegion), view.cell.messageReplyTimeout == 0 {
      report(
        "W49", view, "flags (offset 0x2c)",
        "no PASSIVE_COMMREG, and msg_reply_timeout is 0",
        means: "destroying or loading the running cell waits for an answer that Linux does not "
          + "give, and the root CPU hangs",
        fix: "set JAILHOUSE_CELL_PASSIVE_COMMREG")
    }
  }

  private mutating func checkCommRegion(_ view: CellView) {
    let found = view.cell.memoryRegions.enumerated().filter {
      $0.element.flags.contains(.commRegion)
    }
    guard let first = found.first else {
      report(
        "E55", view, "memory regions", "no region is flagged COMM_REGION",
        means: "a bare-metal program faults when it looks for the board's addresses, and the cell "
          + "cannot be asked to shut down",
        fix: "add a region of 0x1000 bytes at virt_start 0x80000000 with READ, WRITE and "
          + "COMM_REGION")
      return
    }
    let place = view.place(region: first.offset)
    if found.count > 1 {
      report(
        "E55", view, view.place(region: found[1].offset),
        "a second communication region; the first is memory region \(first.offset)",
        means: "both show the same page; one of them was meant to be something else",
        fix: "take COMM_REGION out of one of them")
    }
    let region = first.element
    if region.size != 0x1000 || region.virtualStart & 0xfff != 0
      || !region.flags.isSuperset(of: [.read, .write])
    {
      report(
        "E55", view, place,
        "size \(hex(region.size)), virt_start \(hex(region.virtualStart)), flags "
          + "\(hex(region.flags.rawValue))",
        means: "the page is not where, or not as long or as writable, as the program expects",
        fix: "give it 0x1000 bytes on a page, with READ and WRITE")
    } else if region.virtualStart != 0x8000_0000, view.cell.architecture != .arm {
      report(
        "W55", view, place, "virt_start \(hex(region.virtualStart))",
        means: "programs of the inmate library look at 0x80000000 and fault",
        fix: "set virt_start to 0x80000000, or build the program with this address")
    }
  }

  private mutating func checkRootCommRegion(_ root: CellView) {
    guard
      let wrong = root.cell.memoryRegions.firstIndex(where: { $0.flags.contains(.commRegion) })
    else { return }
    report(
      "E55", root, root.place(region: wrong), "the root cell has a region flagged COMM_REGION",
      means: "the region shows a page of the hypervisor instead of what phys_start names",
      fix: "take COMM_REGION out of the flags")
  }
}

private func namesOfMissing(_ wanted: MemoryFlags, in flags: MemoryFlags) -> String {
  let names: [(MemoryFlags, String)] = [
    (.read, "READ"), (.write, "WRITE"), (.execute, "EXECUTE"), (.loadable, "LOADABLE"),
    (.dma, "DMA"),
  ]
  return names.filter { wanted.contains($0.0) && !flags.contains($0.0) }.map(\.1)
    .joined(separator: ", ")
}
