import CellFormat

/// Rules E01 to E06: what every file has to be before its content matters.
extension Checker {
  mutating func checkFiles() {
    checkSystems()
    for view in cells {
      checkName(view)
      checkUnknownBits(view)
      if let first = cells.first, view.index > first.index { checkAgreement(view, first) }
      let size = 132 + view.cell.cpuSet.count + 32 * view.cell.memoryRegions.count
      guard !view.isRoot, size > 65536 else { continue }
      report(
        "E06", view, "header",
        "the configuration has more than \(size) bytes, at most 65536 can be loaded",
        means: "`jailhouse cell create` fails: the hypervisor maps 16 pages of the configuration",
        fix: "merge memory regions that lie side by side; a count in the header may be wrong")
    }
  }

  private mutating func checkSystems() {
    let systems = cells.filter(\.isRoot)
    let count = cells.count
    if systems.isEmpty, let first = cells.first {
      report(
        "N03", first, "set", "no system configuration among the \(count) files",
        means: "memory, interrupts and CPUs are not compared with the root cell's, and whatever "
          + "needs the interrupt controller or virtual PCI is not checked",
        fix: "name the root cell's file as well; the order of the files does not matter")
    }
    for view in systems.dropFirst() {
      let first = systems[0].file
      report(
        "E03", view, "set",
        "a second system configuration; the first is \(first)",
        means: "only one can be enabled, and it is not clear which the cells belong to: nothing "
          + "is compared with a root cell",
        fix: "check each system with its own cells")
    }
  }

  private mutating func checkAgreement(_ view: CellView, _ first: CellView) {
    if view.cell.revision != first.cell.revision {
      report(
        "E01", view, "header (offset 0x6)",
        "revision \(view.cell.revision.rawValue), but \(first.file) has "
          + "\(first.cell.revision.rawValue)",
        means: "a driver accepts one revision: it refuses one of the files",
        fix: "build all configurations with the headers of the Jailhouse that is installed")
    }
    if let one = view.cell.architecture, let other = first.cell.architecture, one != other {
      report(
        "E01", view, "header (offset 0x5)",
        "the cell is for \(one), but \(first.file) is for \(other)",
        means: "the driver refuses the cell with \"Configuration architecture mismatch\"",
        fix: "compile the configuration for \(other), or name the file that was meant")
    }
  }

  private mutating func checkName(_ view: CellView) {
    let place = view.isRoot ? "name (offset 0x16c)" : "name (offset 0x8)"
    if view.name.isEmpty {
      report(
        "E04", view, place, "the cell has no name",
        means: "no command can speak of the cell except by its number",
        fix: "set .name, at most 31 characters")
    } else if !view.cell.nameBytes.contains(0) {
      report(
        "E04", view, place, "the name \"\(view.name)\" fills all 32 bytes, the NUL is missing",
        means: "the driver cuts the name to 31 characters; commands with the name of the source "
          + "do not find the cell",
        fix: "shorten the name to 31 characters")
    }
    for other in cells[..<view.index]
    where other.name == view.name && !view.name.isEmpty && runTogether(view, other) {
      report(
        "E04", view, place, "the name \"\(view.name)\" is that of \(other.file) as well",
        means: "creating the second cell fails with EEXIST",
        fix: "rename one cell, or name both with --alternatives when only one runs at a time")
      break
    }
  }

  private mutating func unknown(
    _ view: CellView, _ place: String, _ what: String, _ bits: UInt64
  ) {
    report(
      "W05", view, place, "\(what) has the unknown bits \(hex(bits))",
      means: "Jailhouse ignores them, so that whatever was meant by them does not happen",
      fix: "take them out; look whether a macro was used in the wrong field")
  }

  private mutating func checkUnknownBits(_ view: CellView) {
    for (index, region) in view.cell.memoryRegions.enumerated() {
      let bits = region.flags.rawValue & ~0xf_81ff
      if bits != 0 { unknown(view, view.place(region: index), "flags", bits) }
    }
    let known: CellFlags = [
      .passiveCommRegion, .testDevice, .aarch32, .virtualConsolePermitted, .virtualConsoleActive,
    ]
    let flags = view.cell.flags.subtracting(known).rawValue
    if flags != 0 {
      unknown(
        view, view.isRoot ? "flags (offset 0x190)" : "flags (offset 0x2c)", "flags",
        UInt64(flags))
    }
    checkConsoleBits(view, view.cell.console, "console")
    for (index, device) in view.cell.pciDevices.enumerated() {
      if device.kind == nil {
        unknown(view, view.place(device: index), "type", UInt64(device.rawType))
      } else if device.kind == .ivshmem, (2..<0x4000).contains(device.sharedMemoryProtocol) {
        unknown(
          view, view.place(device: index), "shmem_protocol", UInt64(device.sharedMemoryProtocol))
      }
    }
    guard view.isRoot, let system else { return }
    if system.flags & ~1 != 0 {
      unknown(view, "system flags (offset 0x8)", "flags", UInt64(system.flags & ~1))
    }
    checkConsoleBits(view, system.debugConsole, "debug_console (offset 0x2c)")
    for (index, iommu) in system.iommus.enumerated() where iommu.type > 5 {
      unknown(
        view, "iommu \(index) (offset \(hex(0x58 + 28 * index)))", "type",
        UInt64(iommu.type))
    }
  }

  private mutating func checkConsoleBits(_ view: CellView, _ console: Console, _ place: String) {
    let bits = console.flags & ~0x3007
    if bits != 0 { unknown(view, place, "flags", UInt64(bits)) }
    if console.kind == nil { unknown(view, place, "type", UInt64(console.rawType)) }
  }
}
