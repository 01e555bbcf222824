/// Decides addresses, device numbers and interrupts. Deterministic: the same input gives the same
/// layout. Stable: what an earlier run chose is kept while it fits; then come the board's places
/// for each kind of link, then declaration order, so that even without an earlier run adding at the
/// end moves nothing, and neither does a change of size within a place.
struct Solver {
  let setup: SetupDescription
  /// What an earlier run chose.
  let kept: Placement
  var choices: [Choice] = []
  var board: BoardDescription { setup.board }

  init(_ setup: SetupDescription, keeping kept: Placement) {
    self.setup = setup
    self.kept = kept
  }

  mutating func solve() throws(GenerateError) -> Layout {
    try checkBoard()
    try checkCPUs()
    try checkConsoles()
    let links = try placeLinks()
    let cells = try placeCells(links)
    let occupied = [board.hypervisor] + board.sharedWindows + [board.ecamSpan, board.rootBARs]
    return Layout(
      setup: setup, cells: cells, links: links, rootRegions: rootRegions(occupied),
      rootBanks: rootBanks(rootRegions(occupied)), choices: sortedChoices())
  }

  /// In the order of the setup, whatever was placed first.
  private func sortedChoices() -> [Choice] {
    let subjects =
      setup.links.map { "link \($0.name.value):" } + setup.cells.map { "cell \($0.name.value):" }
    return subjects.flatMap { subject in choices.filter { $0.subject.hasPrefix(subject) } }
  }

  mutating func choose(_ subject: String, _ value: String, _ reason: String) {
    choices.append(Choice(subject: subject, value: value, reason: reason))
  }

  /// The root's map: registers without the interrupt controller (E56) and the IOMMU (W59), memory
  /// without the hypervisor (E52), the virtual PCI (E30) and the links, which get regions of their
  /// own.
  private func rootRegions(_ occupied: [Span]) -> [RootRegion] {
    var holes = occupied + [board.distributor, board.redistributor]
    if let iommu = board.iommu { holes.append(iommu.registers) }
    return board.rootRegions.flatMap { region in
      region.span.subtracting(holes).map {
        RootRegion(name: region.name, span: $0, access: region.access)
      }
    }
  }

  /// What is left for Linux in the root cell: its RAM as far as the cell has it, less all that
  /// guests may ever get, so that another guest never needs another device tree of the root.
  private func rootBanks(_ regions: [RootRegion]) -> [Span] {
    let own = regions.filter { $0.access != .io }.map(\.span)
    let guests = board.guestWindows + [board.loaderWindow]
    return board.rootLinuxRAM.flatMap { bank in
      let foreign = bank.subtracting(own)
      return bank.subtracting(foreign + guests)
    }
  }

  /// A board file that contradicts itself is refused before any wish is looked at.
  private func checkBoard() throws(GenerateError) {
    var areas: [(String, Span)] = [
      ("hypervisor", board.hypervisor),
      (
        "ECAM and BARs",
        Span(
          start: board.ecam, size: 0x10_0000 + board.rootBARs.size)
      ),
      ("loaders", board.loaderWindow),
    ]
    areas += board.sharedWindows.map { ("shared-memory", $0) }
    areas += board.guestWindows.map { ("guest-memory", $0) }
    for (index, (name, span)) in areas.enumerated() {
      for (other, otherSpan) in areas[..<index] where span.overlaps(otherSpan) {
        throw GenerateError(
          name == "hypervisor" || other == "hypervisor" ? "E52" : "E51", at: board.place,
          "board \(board.name): \(name) (\(span.text)) overlaps \(other) (\(otherSpan.text))",
          means: "two owners would write to the same memory", fix: "give each its own range")
      }
    }
    let ram = board.rootRegions.filter { $0.access != .io }.map(\.span)
    for window in board.guestWindows + [board.loaderWindow]
    where !window.subtracting(ram).isEmpty {
      throw GenerateError(
        "E50", at: board.place,
        "board \(board.name): guest memory \(window.text) is not all in root-memory",
        means: "Jailhouse takes a guest's memory from the root cell: cell create fails",
        fix: "list it under root-memory with access rwx")
    }
  }

  private func checkCPUs() throws(GenerateError) {
    for (index, cell) in setup.cells.enumerated() {
      for other in setup.cells[..<index]
      where !setup.areAlternatives(cell.name.value, other.name.value) {
        if let cpu = cell.cpus.value.first(where: { other.cpus.value.contains($0) }) {
          throw GenerateError(
            "E53", at: cell.cpus.place,
            "cells \(other.name.value) and \(cell.name.value) both want CPU \(cpu)",
            means: "the second cell create fails: a CPU belongs to one cell",
            fix: "give them different CPUs, or list both under never-together")
        }
      }
    }
    for cell in setup.cells.reversed() {
      // The most that can be taken at once, this cell included.
      let taken = setup.cells.filter {
        $0.name == cell.name || !setup.areAlternatives($0.name.value, cell.name.value)
      }.reduce(into: Set<Int>()) { $0.formUnion($1.cpus.value) }
      if taken.count == board.cpus.count {
        throw GenerateError(
          "E53", at: cell.cpus.place, "no CPU is left for the root cell",
          means: "the root cell needs one CPU for ever: the last cell create fails",
          fix: "\(board.name) has \(board.cpus.count) CPUs; leave one out")
      }
    }
  }

  private func checkConsoles() throws(GenerateError) {
    var owners: [String: String] = [:]
    for cell in setup.cells {
      let uart: String
      switch cell.console.value {
      case .own(let name): uart = name
      case .debug(takesInterrupt: true): uart = board.debugUART
      case .debug(takesInterrupt: false): continue
      }
      if let other = owners[uart], !setup.areAlternatives(other, cell.name.value) {
        throw GenerateError(
          "E21", at: cell.console.place,
          "cells \(other) and \(cell.name.value) both own \(uart) and its interrupt",
          means: "the interrupt goes to whichever cell was created last",
          fix: "give one of them another UART, or 'console: debug' without its interrupt")
      }
      owners[uart] = cell.name.value
    }
  }
}
