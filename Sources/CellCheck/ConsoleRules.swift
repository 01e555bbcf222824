import CellFormat

/// Rules E57, E65 and W58: who prints where.
extension Checker {
  mutating func checkConsoles() {
    for view in guests {
      let console = view.cell.console
      let isVirtual = !view.cell.flags.isDisjoint(with: [
        .virtualConsolePermitted, .virtualConsoleActive,
      ])
      if console.rawType == 0, !isVirtual, !view.looksLikeLinux {
        report(
          "E57", view, "console (offset 0x64)", "no console, and the virtual one is not permitted",
          means:
            "a program of the inmate library prints nowhere; one with a driver of its own for a "
            + "UART is not affected",
          fix: "describe a UART, or set JAILHOUSE_CELL_VIRTUAL_CONSOLE_PERMITTED")
      }
      checkOwner(view, console)
      checkDebugConsole(view)
    }
  }

  private mutating func checkOwner(_ view: CellView, _ console: Console) {
    // Without ACTIVE a permitted virtual console is a second one, but the only one that is sure.
    guard console.rawType != 0, console.flags & 1 != 0, isArm(view),
      view.cell.flags.isDisjoint(with: [.virtualConsolePermitted, .virtualConsoleActive])
    else { return }
    guard
      !view.virtualSpans.contains(where: { $0.span.contains(console.address) })
    else { return }
    report(
      "E65", view, "console (offset 0x64)",
      "the registers at \(hex(console.address)) are in no memory region of the cell",
      means: "the first character the program prints is a fault",
      fix: "add a region for the page with READ, WRITE and IO, and ROOTSHARED when the root cell "
        + "prints there too")
  }

  private mutating func checkDebugConsole(_ view: CellView) {
    guard let system, let root, system.debugConsole.rawType != 0,
      system.debugConsole.flags & 1 != 0
    else { return }
    let address = system.debugConsole.address
    guard root.physicalSpans.contains(where: { $0.span.contains(address) }) else { return }
    for (index, span) in view.physicalSpans where span.contains(address) {
      guard !view.cell.memoryRegions[index].flags.contains(.rootShared) else { continue }
      report(
        "W58", view, view.place(region: index),
        "takes the debug console at \(hex(address)), without ROOTSHARED",
        means: "the root cell is stopped when it prints after the cell was created",
        fix: "add JAILHOUSE_MEM_ROOTSHARED, or give the guest another UART; harmless when Linux "
          + "of the root cell does not use this one")
    }
  }
}
