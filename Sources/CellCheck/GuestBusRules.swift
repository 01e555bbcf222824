import CellFormat
import DeviceTree

/// Rule E32, and E30 for the window that a guest chooses: the PCI node of a guest's tree.
extension Checker {
  mutating func checkGuestBus(_ view: CellView, _ file: CellSet.Tree) {
    guard !view.endpoints.isEmpty, isArm(view) else { return }
    let hosts = file.tree.nodes.filter {
      $0.isCompatible("pci-host-ecam-generic") && file.tree.isUsed($0)
    }
    let base = system?.mmconfigBase
    guard
      let node = hosts.first(where: { host in
        file.tree.translatedRegisters(of: host)?.first?.start == base
      }) ?? hosts.first
    else {
      report(
        "E32", view, file, file.tree.root,
        "no enabled pci-host-ecam-generic node, the cell has \(view.endpoints.count) link(s)",
        means: "Linux does not look for the devices",
        fix: "add the node; `ivshmem-cell gen` writes one that fits")
      return
    }
    checkBusRegisters(view, file, node)
    // Pins and windows of a physical bus are the board's.
    guard system.map({ $0.pciIsVirtual != 0 }) ?? true else { return }
    checkBusCells(view, file, node)
    checkInterruptMap(view, file, node)
    checkBusWindow(view, file, node)
  }

  private mutating func checkBusRegisters(
    _ view: CellView, _ file: CellSet.Tree, _ node: FlattenedNode
  ) {
    guard let space = configurationSpace else { return }
    let range = file.tree.translatedRegisters(of: node)?.first
    let size = space.last - space.first + 1
    guard range?.start != space.first || range?.size != size else { return }
    report(
      "E32", view, file, node,
      "reg \(range.map { "\(hex($0.start)), \(hex($0.size))" } ?? "missing"), the system has "
        + "\(hex(space.first)), \(hex(size))",
      means: "configuration accesses go somewhere else: no device is found, or the cell faults",
      fix: "set reg to pci_mmconfig_base, the same in all cells, and one MiB a bus")
  }

  private mutating func checkBusCells(
    _ view: CellView, _ file: CellSet.Tree, _ node: FlattenedNode
  ) {
    let counts: [(String, UInt32)] = [
      ("#address-cells", 3), ("#size-cells", 2), ("#interrupt-cells", 1),
    ]
    for (name, wanted) in counts where node.cell(name) != wanted {
      report(
        "E32", view, file, node,
        "\(name) is \(node.cell(name).map { String($0) } ?? "missing"), PCI needs \(wanted)",
        means:
          "ranges and interrupt-map are read with wrong cell counts: no windows, no interrupts",
        fix: "set \(name) to \(wanted)")
    }
    let mask = node.property("interrupt-map-mask")?.cells
    if mask != [0, 0, 0, 7] {
      report(
        "E32", view, file, node,
        "interrupt-map-mask is \(mask.map { "\($0)" } ?? "missing"), the pins need <0 0 0 7>",
        means: "entries are compared with the device number as well: most devices find none",
        fix: "set interrupt-map-mask to <0 0 0 7>")
    }
  }

  private mutating func checkInterruptMap(
    _ view: CellView, _ file: CellSet.Tree, _ node: FlattenedNode
  ) {
    let means = "the devices wait for an SPI that the hypervisor does not raise for them"
    guard let cells = node.property("interrupt-map")?.cells, !cells.isEmpty else {
      report(
        "E32", view, file, node, "interrupt-map is missing", means: "no device has an interrupt",
        fix: "map the pins 1 to 4 to SPI vpci_irq_base and following, edge rising")
      return
    }
    guard let entries = file.tree.interruptMap(cells) else {
      report(
        "E32", view, file, node,
        "interrupt-map of \(cells.count) cells does not divide into entries for its parents",
        means: "Linux gives up at the first entry it cannot read: no device has an interrupt",
        fix: "write 4 cells, the phandle, as many zeros as the interrupt controller has "
          + "#address-cells, and its 3 interrupt cells")
      return
    }
    var wrong: [String] = []
    for entry in entries where (1...4).contains(entry.pin) {
      let wanted = view.cell.vpciIRQBase &+ entry.pin - 1
      if entry.kind != 0 || entry.number != wanted {
        wrong.append(
          "pin \(entry.pin) is \(entry.kind == 0 ? "SPI" : "PPI") \(entry.number), "
            + "expected SPI \(wanted)")
      }
    }
    for endpoint in view.endpoints {
      let pin = UInt32(endpoint.device.deviceNumber & 3) + 1
      if !entries.contains(where: { $0.pin == pin }) {
        wrong.append("pin \(pin) of \(endpoint.name) is missing")
      }
    }
    if !wrong.isEmpty {
      report(
        "E32", view, file, node,
        "interrupt-map: \(wrong.prefix(4).joined(separator: "; ")) (vpci_irq_base "
          + "\(view.cell.vpciIRQBase))",
        means: means, fix: "write the SPIs of the cell, or change vpci_irq_base and the irqchips")
    }
    if let level = entries.first(where: { $0.trigger != 1 }) {
      report(
        "E32", view, file, node,
        "interrupt-map: pin \(level.pin) has trigger \(level.trigger), virtual PCI has 1 (edge "
          + "rising)",
        means: "the interrupt is set pending once and not held: a level interrupt can be lost",
        fix: "set the last cell of each entry to 1")
    }
  }

  private mutating func checkBusWindow(
    _ view: CellView, _ file: CellSet.Tree, _ node: FlattenedNode
  ) {
    let windows = node.memoryWindows
    let page = set.pageSize
    let need = UInt64(view.endpoints.count) &* page
    guard let largest = windows.map(\.size).max(), largest >= need else {
      report(
        "E32", view, file, node,
        windows.isEmpty
          ? "ranges has no 32-bit memory window"
          : "ranges has \(hex(windows.map(\.size).max() ?? 0)) bytes for \(view.endpoints.count) "
            + "device(s)",
        means: "Linux cannot place the registers of the devices: their drivers do not bind",
        fix: "give the window \(hex(need)) bytes or more, \(hex(page)) for each device")
      return
    }
    for window in windows {
      guard let span = Span(window.start, window.size),
        let covered = view.virtualSpans.first(where: { $0.span.overlaps(span) })
      else { continue }
      report(
        "E30", view, file, node,
        "the BAR window \(span.text) overlaps memory region \(covered.index) of cell "
          + "\"\(view.name)\"",
        means: "the registers of the devices do not trap: reading the id gives whatever is there",
        fix: "choose a window that no region of the cell covers")
    }
  }
}

/// An entry of an interrupt-map whose parent is a GIC.
struct InterruptMapEntry {
  let pin: UInt32
  /// 0 SPI, 1 PPI.
  let kind: UInt32
  let number: UInt32
  let trigger: UInt32
}

extension FlattenedTree {
  /// Entries of a PCI bus's interrupt-map; `nil` when the cells do not come out even, or a phandle
  /// leads nowhere.
  func interruptMap(_ cells: [UInt32]) -> [InterruptMapEntry]? {
    var entries: [InterruptMapEntry] = []
    var at = 0
    while at < cells.count {
      guard at + 5 <= cells.count, let parent = node(phandle: cells[at + 4]),
        parent.cell("#interrupt-cells") == 3
      else { return nil }
      // As Linux reads it: a parent without #address-cells has none here.
      let skipped = Int(parent.cell("#address-cells") ?? 0)
      let first = at + 5 + skipped
      guard skipped <= 4, first + 3 <= cells.count else { return nil }
      entries.append(
        InterruptMapEntry(
          pin: cells[at + 3] & 7, kind: cells[first], number: cells[first + 1],
          trigger: cells[first + 2]))
      at = first + 3
    }
    return entries
  }
}

extension FlattenedNode {
  /// The 32-bit memory windows of a PCI host's `ranges`, in the addresses of the CPU.
  var memoryWindows: [FlattenedRange] {
    let width = 3 + parentAddressCells + 2
    guard (1...2).contains(parentAddressCells), let cells = property("ranges")?.cells,
      cells.count % width == 0
    else { return [] }
    return stride(from: 0, to: cells.count, by: width).compactMap { at in
      guard cells[at] & 0x0300_0000 == 0x0200_0000 else { return nil }
      let address = cells[at + 3..<at + 3 + parentAddressCells]
      let size = cells[at + 3 + parentAddressCells..<at + width]
      return FlattenedRange(
        start: address.reduce(0) { $0 << 32 | UInt64($1) },
        size: size.reduce(0) { $0 << 32 | UInt64($1) })
    }
  }
}
