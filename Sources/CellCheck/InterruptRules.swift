import CellFormat

/// Rules E20 to E27 and E34: who owns which interrupt. The numbers are those of
/// hypervisor/arch/arm-common/irqchip.c: 1024 INTIDs, SPIs from 32 on.
extension Checker {
  mutating func checkInterrupts() {
    checkController()
    for view in cells where isArm(view) {
      checkChips(view)
      checkPins(view)
    }
    checkClashes()
  }

  private mutating func checkController() {
    guard let system, let root, isArm(root) else { return }
    func add(_ place: String, _ message: String, _ fix: String, _ checker: inout Checker) {
      checker.report(
        "E34", root, place, message,
        means: "`jailhouse enable` ends with an error, or the machine hangs at the first interrupt",
        fix: fix)
    }
    if !(2...3).contains(system.gicVersion) {
      add(
        "gic_version (offset 0x139)", "GIC version \(system.gicVersion)",
        "set gic_version to 2 or 3 (GICv4 is driven as 3)", &self)
    }
    if system.gicdBase == 0 || system.gicdBase & 0xfff != 0 {
      add(
        "gicd_base (offset 0x13c)", "the distributor at \(hex(system.gicdBase))",
        "set gicd_base to the first reg of the board's interrupt controller node", &self)
    }
    if system.gicVersion == 3, system.gicrBase == 0 || system.gicrBase & 0xffff != 0 {
      add(
        "gicr_base (offset 0x15c)", "the redistributors at \(hex(system.gicrBase))",
        "set gicr_base to the second reg of the board's interrupt controller node", &self)
    }
    if !(16...31).contains(system.maintenanceIRQ) {
      add(
        "maintenance_irq (offset 0x138)", "maintenance interrupt \(system.maintenanceIRQ)",
        "set the INTID of the PPI, 16 to 31; on most boards 25", &self)
    }
  }

  private mutating func checkChips(_ view: CellView) {
    for (index, chip) in view.cell.irqchips.enumerated() {
      guard chip.pinBitmap.contains(where: { $0 != 0 }) else { continue }
      if let system, chip.address != system.gicdBase {
        report(
          "E22", view, view.place(irqchip: index),
          "address \(hex(chip.address)), the distributor is at \(hex(system.gicdBase))",
          means: "the entry is silently ignored: the cell owns none of its interrupts",
          fix: "set address to \(hex(system.gicdBase))")
      } else if chip.pinBase % 32 != 0 || chip.pinBase > 896 {
        report(
          "E22", view, view.place(irqchip: index),
          "pin_base \(chip.pinBase); it has to be a multiple of 32, at most 896",
          means: "the hypervisor refuses " + (view.isRoot ? "to start" : "the cell")
            + " with EINVAL",
          fix: "set pin_base to 32 + the first SPI, rounded down to a multiple of 32, and shift "
            + "the bits to fit")
      } else if chip.pinBase == 0, chip.pinBitmap.first ?? 0 != 0, !view.isRoot {
        report(
          "E26", view, view.place(irqchip: index),
          "pin_base 0 with the bits \(hex(chip.pinBitmap.first ?? 0)) for SGIs and PPIs",
          means: "creating the cell takes these interrupts from the root cell on every CPU",
          fix: "begin at pin_base 32, and list SPIs only: bit n is then SPI n")
      }
    }
  }

  private mutating func checkPins(_ view: CellView) {
    let inPCI = view.endpoints.filter { $0.device.msixVectorCount == 0 }
    guard !inPCI.isEmpty else { return }
    guard view.cell.vpciIRQBase != 0 else {
      report(
        "E27", view, view.isRoot ? "vpci_irq_base (offset 0x1b4)" : "vpci_irq_base (offset 0x50)",
        "vpci_irq_base is 0 with \(inPCI.count) ivshmem device(s)",
        means: "the devices raise SPI 0 to 3, which belong to hardware of the board",
        fix: "choose four consecutive SPIs that nothing uses, and list them in the irqchips")
      return
    }
    var devicesOfPin: [Int: [Endpoint]] = [:]
    for endpoint in inPCI {
      let interrupt = view.interrupt(of: endpoint.device)
      devicesOfPin[interrupt, default: []].append(endpoint)
      guard !view.interrupts.contains(interrupt) else { continue }
      // Entries that count for nothing are E22's; the rest would follow from them.
      let isIgnored = view.cell.irqchips.contains { chip in
        chip.pinBase % 32 != 0 || chip.pinBase > 896
          || (system.map { $0.gicdBase != chip.address } ?? false)
      }
      guard !isIgnored else { continue }
      report(
        "E20", view, view.place(endpoint),
        "INT\("ABCD".map { String($0) }[endpoint.device.deviceNumber & 3]) is SPI "
          + "\(interrupt - 32) (vpci_irq_base \(view.cell.vpciIRQBase) + "
          + "\(endpoint.device.deviceNumber & 3)), which no irqchip entry lists",
        means: "enabling the interrupt is silently without effect: the doorbell is never heard",
        fix: "set the bit of INTID \(interrupt) in an irqchip entry, or change vpci_irq_base")
    }
    for interrupt in devicesOfPin.keys.sorted() {
      guard let sharing = devicesOfPin[interrupt], sharing.count > 1 else { continue }
      guard Set(sharing.map(\.device.bdf)).count > 1 else { continue }
      report(
        "E25", view, view.place(sharing[1]),
        "SPI \(interrupt - 32) is shared with link \(sharing[0].name)",
        means: "both drivers have to allow sharing, and each doorbell wakes both",
        fix: "give the devices numbers that differ in their lowest two bits; four links of a cell "
          + "can have an interrupt each")
    }
  }

  private mutating func checkClashes() {
    let arm = cells.filter { isArm($0) }
    for view in arm where !view.isRoot {
      for other in arm[..<(arm.firstIndex { $0.index == view.index } ?? 0)]
      where !other.isRoot && runTogether(view, other) {
        let common = view.interrupts.commonSPIs(other.interrupts)
        guard !common.isEmpty else { continue }
        report(
          "E21", view, "irqchips", "\(listText(common)) also belong(s) to cell \"\(other.name)\"",
          means: "the interrupt goes to the cell that configured it last; the other never gets it",
          fix: "give each guest its own SPIs, or name both with --alternatives")
      }
      guard let root, root.cell.vpciIRQBase != 0 else { continue }
      let taken = Set(
        root.endpoints.filter { $0.device.msixVectorCount == 0 }
          .map { root.interrupt(of: $0.device) }
          .filter { view.interrupts.contains($0) && $0 >= 32 }
      ).sorted().map { $0 - 32 }
      guard !taken.isEmpty else { continue }
      report(
        "E21", view, "irqchips",
        "\(listText(taken)) belong(s) to virtual PCI of the root cell (\(root.cell.vpciIRQBase) "
          + "and following)",
        means: "creating the cell takes the interrupt from the root cell, whose links go silent, "
          + "and the guest is interrupted by them",
        fix: "choose a vpci_irq_base for the guest that is four apart from the root cell's")
    }
  }
}

private func listText(_ numbers: [Int]) -> String {
  let shown = numbers.prefix(8).map { String($0) }.joined(separator: ", ")
  return "SPI \(shown)" + (numbers.count > 8 ? " and \(numbers.count - 8) more" : "")
}
