import CellFormat
import DeviceTree

/// Rules E31, E33, W60, W61 and E63: the root cell's device tree.
extension Checker {
  mutating func checkRootTree() {
    guard let file = set.rootTree, let root, let system, isArm(root) else { return }
    let memory = RootMemory(file.tree)
    checkHostBridge(root, file)
    checkDomain(root, file, system)
    checkNoMap(root, file, memory)
    checkBoardMemory(root, file, memory)
    checkReservations(root, file, memory)
  }

  private mutating func checkHostBridge(_ root: CellView, _ file: CellSet.Tree) {
    guard let system, system.pciIsVirtual != 0, !root.endpoints.isEmpty else { return }
    let tree = file.tree
    var missing: [String] = []
    if tree.root.cell("#address-cells") == nil { missing.append("#address-cells of the root") }
    if tree.root.cell("#size-cells") == nil { missing.append("#size-cells of the root") }
    if let controller = tree.interruptController {
      if controller.phandle == nil { missing.append("a phandle of \(controller.path)") }
    } else {
      missing.append("an interrupt controller the driver knows")
    }
    guard !missing.isEmpty else { return }
    report(
      "E63", root, file, tree.root, "missing: \(missing.joined(separator: ", "))",
      means: "`jailhouse enable` works, but no virtual host bridge appears, and no link",
      fix: "add it; dtc -@ gives every labelled node a phandle")
  }

  private mutating func checkDomain(
    _ root: CellView, _ file: CellSet.Tree, _ system: SystemConfiguration
  ) {
    guard system.pciIsVirtual != 0, system.pciDomain != 0xffff, !root.endpoints.isEmpty else {
      return
    }
    for node in file.tree.nodes
    where node.property("device_type")?.strings == ["pci"] && file.tree.isUsed(node)
      && node.cell("linux,pci-domain") == UInt32(system.pciDomain)
    {
      report(
        "E33", root, file, node,
        "linux,pci-domain \(system.pciDomain) is pci_domain of the system configuration as well",
        means: "Linux refuses the host bridge that is probed second",
        fix: "choose another pci_domain, or 0xffff to let Linux choose")
    }
  }

  private var busWindows: [(name: String, span: Span)] {
    [("the configuration space", configurationSpace), ("the BAR window", rootBarWindow)]
      .compactMap { name, span in span.map { (name, $0) } }
  }

  private mutating func checkNoMap(
    _ root: CellView, _ file: CellSet.Tree, _ memory: RootMemory
  ) {
    for (node, span, isNoMap) in memory.reserved where isNoMap {
      guard let hit = busWindows.first(where: { $0.span.overlaps(span) }) else { continue }
      report(
        "E31", root, file, node,
        "no-map reservation \(span.text) covers \(hit.name) \(hit.span.text)",
        means: "kernels since 5.10 show it as \"reserved\": the host bridge fails to probe with "
          + "\"resource collision\", and the root cell has no link",
        fix: "delete the reservation, and keep the range out of /memory instead")
    }
  }

  private mutating func checkBoardMemory(
    _ root: CellView, _ file: CellSet.Tree, _ memory: RootMemory
  ) {
    guard !memory.banks.isEmpty, let system else { return }
    // What guests, links and Jailhouse use may be outside /memory on purpose.
    var known = memory.banks + memory.reserved.map(\.span) + busWindows.map(\.span)
    known += guests.flatMap { $0.physicalSpans.map(\.span) }
    if let hypervisor = Span(system.hypervisorMemory.physicalStart, system.hypervisorMemory.size) {
      known.append(hypervisor)
    }
    let covered = Coverage(known)
    for (index, span) in root.physicalSpans
    where root.cell.memoryRegions[index].isPlainMemory && root.endpointOfRegion[index] == nil {
      guard let rest = covered.gaps(in: span).first(where: { $0.last - $0.first >= 0xfff })
      else { continue }
      report(
        "W60", root, root.place(region: index),
        "RAM \(span.text), but \(file.file) has no memory from \(hex(rest.first)) to "
          + hex(rest.last),
        means: "if the board has less memory than the configuration was written for, what is put "
          + "there leads nowhere; harmless when /memory is cut on purpose",
        fix: "fit the regions to the memory of the board")
    }
  }

  private mutating func checkReservations(
    _ root: CellView, _ file: CellSet.Tree, _ memory: RootMemory
  ) {
    guard let system, !memory.banks.isEmpty else { return }
    var wanted: [(name: String, span: Span)] = busWindows
    if let span = Span(system.hypervisorMemory.physicalStart, system.hypervisorMemory.size) {
      wanted.append(("the hypervisor", span))
    }
    for view in cells {
      for (index, span) in view.physicalSpans
      where !view.cell.memoryRegions[index].flags.contains(.io) {
        if let number = view.endpointOfRegion[index] {
          wanted.append(("link \(view.endpoints[number].name)", span))
        } else if !view.isRoot {
          wanted.append(("cell \"\(view.name)\"", span))
        }
      }
    }
    var seen: Set<String> = []
    let windows = Set(busWindows.map(\.name))
    for (name, span) in wanted {
      guard let free = memory.unreserved(in: span), seen.insert(name).inserted else { continue }
      report(
        "W61", root, file, file.tree.root,
        "\(free.text) of \(name) is memory of Linux and not reserved",
        means: "Linux of the root cell keeps its data there until the other writes over it",
        fix: "cut it out of /memory"
          + (windows.contains(name)
            ? " (a reservation would not do)" : " or reserve it with no-map")
          + ", unless the boot loader or mem= does")
    }
  }
}

/// Memory of a tree: the banks of /memory, and what is reserved of them.
struct RootMemory {
  var banks: [Span] = []
  var reserved: [(node: FlattenedNode, span: Span, isNoMap: Bool)] = []
  private var taken: Coverage

  init(_ tree: FlattenedTree) {
    for node in tree.root.children
    where node.property("device_type")?.strings == ["memory"] || node.baseName == "memory" {
      banks += (node.registers ?? []).compactMap { Span($0.start, $0.size) }
    }
    for node in tree.node(at: "/reserved-memory")?.children ?? [] where node.isEnabled {
      for range in node.registers ?? [] {
        guard let span = Span(range.start, range.size) else { continue }
        reserved.append((node, span, node.property("no-map") != nil))
      }
    }
    taken = Coverage(
      reserved.map(\.span) + tree.reservations.compactMap { Span($0.start, $0.size) })
  }

  /// The first part of `span` that Linux would use.
  func unreserved(in span: Span) -> Span? {
    for bank in banks where bank.overlaps(span) {
      let part = Span(first: max(bank.first, span.first), last: min(bank.last, span.last))
      if let free = taken.gaps(in: part).first { return free }
    }
    return nil
  }
}
