import CellFormat
import DeviceTree

/// Interrupt controllers that Jailhouse and Linux drive, by `compatible`.
let controllerNames = [
  "arm,gic-v3", "arm,gic-400", "arm,cortex-a15-gic", "arm,cortex-a7-gic",
]

extension FlattenedTree {
  /// The first interrupt controller of the tree.
  var interruptController: FlattenedNode? {
    nodes.first { node in controllerNames.contains { node.isCompatible($0) } }
  }

  /// Whether the node and everything above it is enabled.
  func isUsed(_ node: FlattenedNode) -> Bool {
    var current: FlattenedNode? = node
    while let next = current {
      guard next.isEnabled else { return false }
      current = parent(of: next.path)
    }
    return true
  }
}

/// Rules E36 to E39 and E62: a guest's tree and its cell. The PCI node has GuestBusRules.swift.
extension Checker {
  mutating func checkGuestTrees() {
    for view in guests {
      guard let file = view.tree else { continue }
      checkGuestController(view, file)
      checkGuestBus(view, file)
      checkGuestProcessors(view, file)
      checkGuestDevices(view, file)
      checkGuestMemory(view, file)
    }
  }

  /// A finding about a place of a tree; it is listed with the findings of the cell.
  mutating func report(
    _ rule: String, _ view: CellView, _ tree: CellSet.Tree, _ node: FlattenedNode,
    _ message: @autoclosure () -> String, means: @autoclosure () -> String,
    fix: @autoclosure () -> String
  ) {
    report(
      rule, file: tree.file, order: view.index, "node \(node.path)", message(), means: means(),
      fix: fix())
  }

  private mutating func checkGuestController(_ view: CellView, _ file: CellSet.Tree) {
    guard isArm(view) else { return }
    guard let node = file.tree.interruptController else {
      report(
        "E36", view, file, file.tree.root, "no interrupt controller that Jailhouse can show",
        means: "Linux has no interrupts, and stops early in the boot",
        fix: "add the board's GIC node with its physical addresses")
      return
    }
    guard let system else { return }
    let bases = [system.gicdBase, system.gicVersion == 2 ? system.giccBase : system.gicrBase]
    let seen = (file.tree.translatedRegisters(of: node) ?? []).prefix(2).map(\.start)
    let isOfKind = node.isCompatible("arm,gic-v3") == (system.gicVersion == 3)
    // A tree may begin with the redistributor of the guest's own first CPU.
    let own = UInt64(view.cell.cpus.first ?? 0) * 0x2_0000
    let mayStartLater = system.gicVersion == 3 && seen == [bases[0], bases[1] &+ own]
    guard !(seen == bases || mayStartLater) || !isOfKind else { return }
    report(
      "E36", view, file, node,
      isOfKind
        ? "reg names \(seen.map { hex($0) }.joined(separator: ", ")), the board has "
          + bases.map { hex($0) }.joined(separator: ", ")
        : "the node is no GICv\(system.gicVersion), which the system configuration names",
      means: "the first access of Linux is a fault, before it can print",
      fix: "copy compatible and reg from the board's tree")
  }

  private mutating func checkGuestProcessors(_ view: CellView, _ file: CellSet.Tree) {
    guard let parent = file.tree.node(at: "/cpus") else { return }
    let nodes = parent.children.filter {
      $0.isEnabled && ($0.baseName == "cpu" || $0.property("device_type")?.strings == ["cpu"])
    }
    let ids = nodes.compactMap { $0.registers?.first?.start }
    let cpus = view.cell.cpus
    guard nodes.count == cpus.count else {
      report(
        "W37", view, file, parent,
        "\(nodes.count) CPU(s), the cell has \(cpus.count): "
          + cpus.prefix(16).map { String($0) }.joined(separator: ", "),
        means: nodes.count > cpus.count
          ? "Linux asks for CPUs that the hypervisor refuses to start"
          : "CPUs of the cell stay off",
        fix: "give the tree one node for each CPU of the cell, with its physical id as reg")
      return
    }
    let wanted = physicalIDs(cpus)
    guard let wanted, Set(wanted) != Set(ids) else { return }
    report(
      "W37", view, file, parent,
      "reg \(ids.map { hex($0) }.joined(separator: ", ")), the cell has the CPUs "
        + wanted.map { hex($0) }.joined(separator: ", "),
      means: "Linux names CPUs that are not the cell's: it finds no boot CPU, or fewer CPUs",
      fix: "set reg to the physical ids; CPUs 2 and 3 stay 2 and 3 in the guest")
  }

  /// The ids (MPIDR) of CPUs: by the root cell's tree, whose nodes are in the order of the numbers,
  /// or equal to the numbers on boards without clusters. `nil` when that cannot be told.
  private func physicalIDs(_ cpus: [Int]) -> [UInt64]? {
    let all = set.rootTree?.tree.node(at: "/cpus")?.children
      .filter { $0.baseName == "cpu" }.compactMap { $0.registers?.first?.start }
    guard let all else { return nil }
    guard cpus.allSatisfy({ $0 < all.count }) else { return nil }
    return cpus.map { all[$0] }
  }

  private mutating func checkGuestDevices(_ view: CellView, _ file: CellSet.Tree) {
    let tree = file.tree
    let controller = tree.interruptController
    let owned = Coverage(view.virtualSpans.map(\.span))
    for node in tree.nodes where node.property("compatible") != nil && tree.isUsed(node) {
      let isController =
        controller.map { node.path == $0.path || node.path.hasPrefix($0.path + "/") } ?? false
      guard !isController, node.property("device_type")?.strings.first != "pci",
        !node.path.hasPrefix("/cpus"), !node.path.hasPrefix("/reserved-memory")
      else { continue }
      let missing = (tree.translatedRegisters(of: node) ?? []).filter { range in
        guard let span = Span(range.start, range.size) else { return false }
        return !owned.overlaps(span)
      }
      if let first = missing.first {
        report(
          "E38", view, file, node,
          "registers at \(hex(first.start)) (\(hex(first.size))) are in no region of cell "
            + "\"\(view.name)\"",
          means: "a driver that binds faults at its first access, and the hypervisor stops the CPU",
          fix: "add the region to the cell, or set status to \"disabled\"")
      }
      checkGuestInterrupts(view, file, node, controller)
    }
  }

  private mutating func checkGuestInterrupts(
    _ view: CellView, _ file: CellSet.Tree, _ node: FlattenedNode, _ controller: FlattenedNode?
  ) {
    guard let controller, controller.cell("#interrupt-cells") == 3,
      let cells = node.property("interrupts")?.cells, cells.count % 3 == 0,
      file.tree.interruptParent(of: node.path)?.path == controller.path
    else { return }
    let foreign = stride(from: 0, to: cells.count, by: 3).compactMap { at in
      cells[at] == 0 && !view.interrupts.contains(32 + Int(cells[at + 1])) ? cells[at + 1] : nil
    }
    guard !foreign.isEmpty else { return }
    report(
      "E39", view, file, node,
      "SPI \(foreign.prefix(8).map { String($0) }.joined(separator: ", ")) in no irqchip entry of "
        + "cell \"\(view.name)\"",
      means: "the interrupt is never delivered: the driver waits for ever",
      fix: "set the bits of SPI \(foreign[0]) (INTID \(UInt64(foreign[0]) + 32)) in the cell, or "
        + "disable the node")
  }

  private mutating func checkGuestMemory(_ view: CellView, _ file: CellSet.Tree) {
    let ram = Coverage(
      view.cell.memoryRegions.filter(\.isPlainMemory).compactMap {
        Span($0.virtualStart, $0.size)
      })
    for node in file.tree.root.children
    where node.baseName == "memory" || node.property("device_type")?.strings == ["memory"] {
      for range in node.registers ?? [] {
        guard let span = Span(range.start, range.size) else { continue }
        guard let rest = ram.gaps(in: span).first else { continue }
        report(
          "E62", view, file, node,
          "memory \(span.text), the cell has no RAM from \(hex(rest.first)) to \(hex(rest.last))",
          means: "Linux uses it and faults",
          fix: "delete the node: `jailhouse cell linux` adds the RAM of the cell")
      }
    }
  }
}
