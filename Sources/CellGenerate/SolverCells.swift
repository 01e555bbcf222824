extension Solver {
  mutating func placeCells(_ links: [PlacedLink]) throws(GenerateError) -> [PlacedCell] {
    let rams = try placeRAM()
    let bases = try placeInterrupts()
    let loaders = try placeLoaders()
    var cells: [PlacedCell] = []
    for (index, wish) in setup.cells.enumerated() {
      var cell = PlacedCell(
        wish: wish, ram: rams[index], loader: nil, vpciBase: bases[index], spis: [])
      if let loader = loaders[index] {
        cell.loader = loader
        choose(
          "cell \(wish.name.value): loader", "\(loader.text), at 0 in the guest",
          "the first 64 KiB that were free in the board's loaders window")
      }
      try own(&cell, links.filter { $0.guest == index })
      cells.append(cell)
    }
    return cells
  }

  /// The earlier place of a guest in which the same kind of program runs.
  private func kept(_ cell: CellWish) -> Placement.Cell? {
    kept.cells[cell.name.value].flatMap { $0.kind == cell.kind ? $0 : nil }
  }

  /// 64 KiB for each Linux guest: those of the earlier run, then the lowest free ones.
  private func placeLoaders() throws(GenerateError) -> [Span?] {
    let all = stride(from: board.loaderWindow.start, to: board.loaderWindow.end, by: 0x1_0000)
      .lazy.map { Span(start: $0, size: loaderSize) }.filter { board.loaderWindow.contains($0) }
    var loaders: [Span?] = Array(repeating: nil, count: setup.cells.count)
    for (index, cell) in setup.cells.enumerated() {
      guard let start = kept(cell)?.loader, start >= board.loaderWindow.start,
        (start - board.loaderWindow.start) % loaderSize == 0
      else { continue }
      let loader = Span(start: start, size: loaderSize)
      guard board.loaderWindow.contains(loader), !loaders.contains(loader) else { continue }
      loaders[index] = loader
    }
    for (index, cell) in setup.cells.enumerated()
    where cell.kind == .linux && loaders[index] == nil {
      guard let loader = all.first(where: { !loaders.contains($0) }) else {
        throw GenerateError(
          "G01", at: cell.name.place, "cell \(cell.name.value): no room for its loader",
          means: "each Linux guest needs 64 KiB of the board's loaders window",
          fix: "widen 'loaders' in the board file")
      }
      loaders[index] = loader
    }
    return loaders
  }

  /// Gives a cell the SPIs of its virtual PCI pins and of its UART: no more than it uses.
  private mutating func own(
    _ cell: inout PlacedCell, _ links: [PlacedLink]
  ) throws(GenerateError) {
    var spis = Set(links.map { cell.vpciBase + $0.device % 4 })
    var uart: BoardUART?
    switch cell.wish.console.value {
    case .own(let name): uart = board.uart(name)
    case .debug(takesInterrupt: true): uart = board.uart(board.debugUART)
    case .debug(takesInterrupt: false): break
    }
    if let uart {
      spis.insert(uart.spi)
      choose("cell \(cell.name): SPI \(uart.spi)", uart.name, "its UART's interrupt")
    }
    cell.spis = spis.sorted()
    let root = board.rootSPI..<board.rootSPI + 4
    if let spi = spis.first(where: { root.contains($0) }) {
      throw GenerateError(
        "E21", at: cell.wish.interrupt?.place ?? cell.wish.name.place,
        "cell \(cell.name): SPI \(spi) is the root cell's virtual PCI "
          + "(\(root.lowerBound)-\(root.upperBound - 1))",
        means: "doorbells for the root cell would interrupt the guest",
        fix: "choose four SPIs that nobody uses; the board offers "
          + board.guestSPIs.map(String.init).joined(separator: ", "))
    }
  }

  /// RAM: Linux guests from the bottom of the windows, bare-metal guests from the top, so that
  /// neither kind moves the other; 2 MiB and 64 KiB boundaries.
  private mutating func placeRAM() throws(GenerateError) -> [Span] {
    var spans: [Span?] = Array(repeating: nil, count: setup.cells.count)
    for (index, cell) in setup.cells.enumerated() {
      guard let address = cell.memoryAddress else { continue }
      let span = Span(start: address.value, size: cell.memorySize.value)
      guard board.guestWindows.contains(where: { $0.contains(span) }) else {
        throw GenerateError(
          "E50", at: address.place,
          "cell \(cell.name.value): \(span.text) is not inside one guest-memory window",
          means: "the root's Linux may be using it",
          fix: "windows are: \(board.guestWindows.map(\.text).joined(separator: ", "))")
      }
      for (other, taken) in zip(setup.cells, spans) {
        guard let taken, taken.overlaps(span) else { continue }
        throw GenerateError(
          "E51", at: address.place,
          "cell \(cell.name.value) (\(span.text)) overlaps cell \(other.name.value) "
            + "(\(taken.text))",
          means: "each guest would overwrite the other", fix: "move one of them")
      }
      spans[index] = span
      choose("cell \(cell.name.value): memory", span.text, "address as wished")
    }
    keepRAM(&spans)
    for (index, cell) in setup.cells.enumerated() where spans[index] == nil {
      guard let span = gap(for: cell, spans.compactMap { $0 }) else {
        let free = board.guestWindows.flatMap { $0.subtracting(spans.compactMap { $0 }) }
        throw GenerateError(
          "G01", at: cell.memorySize.place,
          "cell \(cell.name.value): no room for \(sizeText(cell.memorySize.value)); the largest "
            + "gap in guest-memory is \(sizeText(free.map(\.size).max() ?? 0))",
          means: "windows: \(board.guestWindows.map(\.text).joined(separator: ", "))",
          fix: "ask for less memory, or widen guest-memory in the board file")
      }
      spans[index] = span
      chooseRAM(span, of: cell)
    }
    let placed = spans.map { $0 ?? Span(start: 0, size: pageSize) }
    try checkViews(placed)
    return placed
  }

  /// Guests of an earlier run stay; one that grew must not drive out another.
  private mutating func keepRAM(_ spans: inout [Span?]) {
    let earlier = setup.cells.map { kept($0)?.memory }
    for (index, cell) in setup.cells.enumerated() where spans[index] == nil {
      guard let place = earlier[index] else { continue }
      let span = Span(start: place.start, size: cell.memorySize.value)
      let others = setup.cells.indices.compactMap { other -> Span? in
        other == index ? nil : spans[other] ?? earlier[other]
      }
      guard board.guestWindows.contains(where: { $0.contains(span) }),
        !others.contains(where: { $0.overlaps(span) })
      else { continue }
      spans[index] = span
      chooseRAM(span, of: cell)
    }
  }

  private mutating func chooseRAM(_ span: Span, of cell: CellWish) {
    choose(
      "cell \(cell.name.value): memory", span.text,
      cell.kind == .linux
        ? "the lowest gap of guest-memory on a 2 MiB boundary (Linux guests grow upwards)"
        : "the highest gap of guest-memory on a 64 KiB boundary (bare metal grows downwards)")
  }

  /// A Linux guest sees its RAM at its physical address, a bare-metal guest at 0: neither may cover
  /// the communication region or the BAR window.
  private func checkViews(_ spans: [Span]) throws(GenerateError) {
    for (cell, span) in zip(setup.cells, spans) {
      let view = cell.kind == .linux ? span : Span(start: 0, size: span.size)
      for (name, area) in [("communication region", commRegion), ("BAR window", guestBARs)]
      where view.overlaps(area) {
        throw GenerateError(
          name == "BAR window" ? "E30" : "E55", at: cell.memorySize.place,
          "cell \(cell.name.value): RAM at \(view.text) covers the \(name) (\(area.text))",
          means: "the guest cannot reach both at one address",
          fix: "use less memory or another address")
      }
    }
  }

  private func gap(for cell: CellWish, _ taken: [Span]) -> Span? {
    let size = cell.memorySize.value
    if cell.kind == .linux {
      for window in board.guestWindows {
        for gap in window.subtracting(taken) {
          let span = Span(start: roundedUp(gap.start, to: 0x20_0000), size: size)
          if gap.contains(span) { return span }
        }
      }
      return nil
    }
    for window in board.guestWindows.reversed() {
      for gap in window.subtracting(taken).reversed() where gap.size >= size {
        let span = Span(start: (gap.end - size) / 0x1_0000 * 0x1_0000, size: size)
        if gap.contains(span) { return span }
      }
    }
    return nil
  }

  /// Four SPIs a guest: wishes, then the board's slots in declaration order.
  private mutating func placeInterrupts() throws(GenerateError) -> [Int] {
    var bases: [Int?] = setup.cells.map { $0.interrupt?.value }
    for (index, cell) in setup.cells.enumerated() {
      guard let wish = cell.interrupt else { continue }
      for other in setup.cells[..<index] {
        guard let taken = other.interrupt?.value, abs(taken - wish.value) < 4 else { continue }
        throw GenerateError(
          "E21", at: wish.place,
          "cells \(other.name.value) and \(cell.name.value): SPIs \(taken)-\(taken + 3) and "
            + "\(wish.value)-\(wish.value + 3) overlap",
          means: "a doorbell of one guest would interrupt the other",
          fix: "leave four SPIs from one to the next")
      }
      choose("cell \(cell.name.value): vpci_irq_base", "SPI \(wish.value)", "as wished")
    }
    for (index, cell) in setup.cells.enumerated() where bases[index] == nil {
      guard let base = kept(cell)?.interrupt, board.guestSPIs.contains(base),
        !bases.contains(where: { $0.map { abs($0 - base) < 4 } ?? false })
      else { continue }
      bases[index] = base
      chooseInterrupt(base, of: cell)
    }
    for (index, cell) in setup.cells.enumerated() where bases[index] == nil {
      let free = board.guestSPIs.first { base in
        !bases.contains { $0.map { abs($0 - base) < 4 } ?? false }
      }
      guard let free else {
        throw GenerateError(
          "G01", at: cell.name.place,
          "cell \(cell.name.value): no interrupts are left for its virtual PCI",
          means: "the board names \(board.guestSPIs.count) slots of four unused SPIs",
          fix: "add a slot to interrupts.guests in the board file, or 'interrupt' to the cell")
      }
      bases[index] = free
      chooseInterrupt(free, of: cell)
    }
    return bases.map { $0 ?? 0 }
  }

  private mutating func chooseInterrupt(_ base: Int, of cell: CellWish) {
    choose(
      "cell \(cell.name.value): vpci_irq_base", "SPI \(base)",
      "the first of the board's slots of unused SPIs that was free")
  }
}
