import CellFormat

/// Rules E52, E56 and E59 with their warnings for the root cell: what Jailhouse keeps for itself.
extension Checker {
  /// The register windows of the interrupt controller that have to trap. Sizes as the hypervisor
  /// maps them; of GICv3 one redistributor of 128 KiB for each CPU up to the last.
  var interruptControllerSpans: [(name: String, span: Span)] {
    guard let system, let root, isArm(root) else { return [] }
    let list: [(String, UInt64, UInt64)]
    switch system.gicVersion {
    case 2:
      list = [
        ("GICD", system.gicdBase, 0x1000), ("GICC", system.giccBase, 0x2000),
        ("GICH", system.gichBase, 0x2000), ("GICV", system.gicvBase, 0x2000),
      ]
    case 3:
      let processors = UInt64((root.cell.cpus.last ?? 0) + 1)
      list = [
        ("GICD", system.gicdBase, 0x1_0000), ("GICR", system.gicrBase, processors * 0x2_0000),
      ]
    default: list = []
    }
    return list.compactMap { name, base, size in
      base == 0 ? nil : Span(base, size).map { (name, $0) }
    }
  }

  mutating func checkPlatformMemory() {
    guard let system else { return }
    let hypervisor = Span(system.hypervisorMemory.physicalStart, system.hypervisorMemory.size)
    let controller = interruptControllerSpans
    let iommus = system.iommus.enumerated().compactMap { index, iommu in
      iommu.type == 0
        ? nil : Span(iommu.base, UInt64(iommu.size)).map { (name: "IOMMU \(index)", span: $0) }
    }
    for view in cells {
      for (index, span) in view.physicalSpans {
        if let hypervisor, span.overlaps(hypervisor) {
          report(
            "E52", view, view.place(region: index),
            "phys \(span.text) overlaps the hypervisor \(hypervisor.text)",
            means: "the cell can read and change the hypervisor; the first stray write ends all",
            fix: "cut the region so that it leaves the hypervisor out")
        }
        let reached = controller.filter { $0.span.overlaps(span) }
        if !reached.isEmpty {
          reportController(view, index, reached)
        }
        for iommu in iommus where iommu.span.overlaps(span) {
          reportIOMMU(view, index, iommu.name, iommu.span)
        }
      }
    }
  }

  private mutating func reportController(
    _ view: CellView, _ index: Int, _ reached: [(name: String, span: Span)]
  ) {
    let windows = reached.map { "\($0.name) \($0.span.text)" }.joined(separator: " and ")
    report(
      view.isRoot ? "W56" : "E56", view, view.place(region: index), "covers \(windows)",
      means: view.isRoot
        ? "the root cell reaches the interrupts of all cells; everything works, without isolation"
        : "the guest reaches the interrupts of all cells, and the root cell loses the registers",
      fix: "split the region so that it leaves \(windows) out: the accesses then trap")
  }

  private mutating func reportIOMMU(
    _ view: CellView, _ index: Int, _ name: String, _ span: Span
  ) {
    report(
      view.isRoot ? "W59" : "E59", view, view.place(region: index),
      "covers \(name) \(span.text)",
      means: "the cell can undo the protection from bus masters that Jailhouse programs there",
      fix: "split the region so that it leaves \(span.text) out")
  }
}
