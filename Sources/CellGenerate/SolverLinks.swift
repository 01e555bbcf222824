extension Solver {
  /// Default size of a link's memory, where the board names no place for its kind.
  static func defaultSize(_ kind: LinkKind) -> UInt64 {
    switch kind {
    case .block: 0xe_0000
    case .console, .entropy: 0x1_0000
    case .network, .native: 0x10_0000
    }
  }

  mutating func placeLinks() throws(GenerateError) -> [PlacedLink] {
    let devices = try placeDevices()
    let spans = try placeSpans()
    var links: [PlacedLink] = []
    for (index, wish) in setup.links.enumerated() {
      let guest = setup.cells.firstIndex { $0.name.value == wish.guest.value } ?? 0
      links.append(
        try section(
          PlacedLink(
            wish: wish, device: devices[index], span: spans[index], readWriteSize: 0,
            outputSize: 0, guest: guest)))
    }
    return links
  }

  /// Cuts a link's memory into sections.
  private func section(_ link: PlacedLink) throws(GenerateError) -> PlacedLink {
    var link = link
    let place = link.wish.size?.place ?? link.wish.name.place
    let room = link.span.size - pageSize
    guard link.wish.kind == .native else {
      link.readWriteSize = room
      guard room >= 2 * pageSize else {
        throw GenerateError(
          "E41", at: place,
          "link \(link.name): \(hex(link.span.size)) bytes leave \(hex(room)) for the read/write "
            + "section behind the state table",
          means: "the front-end driver refuses a read/write section below two pages",
          fix: "use a size of at least 12K; 64K is the smallest useful one")
      }
      return link
    }
    link.readWriteSize = link.wish.readWrite
    let left = room >= link.readWriteSize ? room - link.readWriteSize : 0
    link.outputSize = left / 2 / pageSize * pageSize
    // Device block and driver block of docs/protocol.md need 3000h and 1000h bytes, pools the rest.
    guard link.outputSize >= 0x4000 else {
      throw GenerateError(
        "G02", at: place,
        "link \(link.name): \(hex(link.span.size)) bytes leave two output sections of "
          + "\(hex(link.outputSize))",
        means: "the device block alone takes 0x3000 bytes: no room for a request",
        fix: "use a size of at least 36K plus read-write; 1M is the default")
    }
    return link
  }

  /// The earlier place of a link that carries the same.
  private func kept(_ link: LinkWish) -> Placement.Link? {
    kept.links[link.name.value].flatMap { $0.kind == link.kind ? $0 : nil }
  }

  /// Device numbers: wishes, those of the earlier run, the board's numbers for the first link of
  /// each kind, then the lowest free ones in declaration order.
  private mutating func placeDevices() throws(GenerateError) -> [Int] {
    var devices: [Int?] = setup.links.map { $0.device?.value }
    for (index, link) in setup.links.enumerated() {
      guard let wish = link.device else { continue }
      if let other = setup.links[..<index].first(where: { $0.device?.value == wish.value }) {
        throw GenerateError(
          "E24", at: wish.place,
          "links \(other.name.value) and \(link.name.value) both want bdf \(wish.value)",
          means: "Jailhouse joins devices of the same BDF: the two links would be one",
          fix: "give them different numbers, or leave one out")
      }
      choose("link \(link.name.value): bdf", "00:\(twoDigits(wish.value)).0", "as wished")
    }
    for (index, link) in setup.links.enumerated() where devices[index] == nil {
      guard let number = kept(link)?.device, !devices.contains(number) else { continue }
      devices[index] = number
      chooseDevice(number, of: index)
    }
    for index in setup.links.indices where devices[index] == nil {
      guard let number = slot(of: index)?.device, !devices.contains(number) else { continue }
      devices[index] = number
      chooseDevice(number, of: index)
    }
    let reserved = Set(board.slots.map(\.device))
    for (index, link) in setup.links.enumerated() where devices[index] == nil {
      guard let free = (0..<32).first(where: { !devices.contains($0) && !reserved.contains($0) })
      else {
        throw GenerateError(
          "G01", at: link.name.place, "link \(link.name.value): no device number is left",
          means: "a bus has 32 devices", fix: "remove a link, or set 'bdf' by hand")
      }
      devices[index] = free
      chooseDevice(free, of: index)
    }
    return devices.map { $0 ?? 0 }
  }

  /// The reason follows from the number alone, so that a run that keeps it says the same.
  private mutating func chooseDevice(_ number: Int, of index: Int) {
    let link = setup.links[index]
    choose(
      "link \(link.name.value): bdf", "00:\(twoDigits(number)).0",
      number == board.slots.first { $0.kind == link.kind }?.device
        ? "the board's number for the first \(link.kind.rawValue) link"
        : "the lowest number that was free and that no kind of link has as its own")
  }

  /// Memory: wishes, the earlier run's places, the board's, then the first gap of the windows on a
  /// 64 KiB boundary.
  private mutating func placeSpans() throws(GenerateError) -> [Span] {
    var spans: [Span?] = Array(repeating: nil, count: setup.links.count)
    for (index, link) in setup.links.enumerated() {
      guard let wish = link.address else { continue }
      let size = link.size?.value ?? slot(of: index)?.span.size ?? Self.defaultSize(link.kind)
      let span = Span(start: wish.value, size: size)
      try check(span, of: link, at: wish.place, spans)
      spans[index] = span
      choose("link \(link.name.value): memory", span.text, "address as wished")
    }
    keepSpans(&spans)
    for (index, link) in setup.links.enumerated() where spans[index] == nil {
      guard let slot = slot(of: index) else { continue }
      let size = link.size?.value ?? slot.span.size
      let span = Span(start: slot.span.start, size: size)
      guard size <= slot.span.size, !spans.contains(where: { $0?.overlaps(span) ?? false })
      else { continue }
      spans[index] = span
      chooseMemory(span, of: link)
    }
    let kept = board.slots.filter { slot in setup.links.contains { $0.kind == slot.kind } }
    for (index, link) in setup.links.enumerated() where spans[index] == nil {
      let size = link.size?.value ?? slot(of: index)?.span.size ?? Self.defaultSize(link.kind)
      let taken = spans.compactMap { $0 } + kept.map(\.span)
      guard let span = firstGap(size, taken) else {
        throw noRoom(link, size, taken)
      }
      spans[index] = span
      chooseMemory(span, of: link)
    }
    return spans.map { $0 ?? Span(start: 0, size: pageSize) }
  }

  /// Links of an earlier run stay; one that grew must not drive out another.
  private mutating func keepSpans(_ spans: inout [Span?]) {
    let earlier = setup.links.map { kept($0)?.span }
    for (index, link) in setup.links.enumerated() where spans[index] == nil {
      guard let place = earlier[index] else { continue }
      let span = Span(start: place.start, size: link.size?.value ?? place.size)
      let others = setup.links.indices.compactMap { other -> Span? in
        other == index ? nil : spans[other] ?? earlier[other]
      }
      guard board.sharedWindows.contains(where: { $0.contains(span) }),
        !others.contains(where: { $0.overlaps(span) })
      else { continue }
      spans[index] = span
      chooseMemory(span, of: link)
    }
  }

  /// The reason follows from the place alone, so that a run that keeps it says the same.
  private mutating func chooseMemory(_ span: Span, of link: LinkWish) {
    choose(
      "link \(link.name.value): memory", span.text,
      span.start == board.slots.first { $0.kind == link.kind }?.span.start
        ? "the board's place for the first \(link.kind.rawValue) link"
        : "the first gap of its size in the shared-memory windows, on a 64 KiB boundary")
  }

  /// The board's place for a link: only the first of its kind has one.
  private func slot(of index: Int) -> LinkSlot? {
    let kind = setup.links[index].kind
    guard setup.links.firstIndex(where: { $0.kind == kind }) == index else { return nil }
    return board.slots.first { $0.kind == kind }
  }

  private func firstGap(_ size: UInt64, _ taken: [Span]) -> Span? {
    for window in board.sharedWindows {
      for gap in window.subtracting(taken) {
        let start = roundedUp(gap.start, to: 0x1_0000)
        let span = Span(start: start, size: size)
        if gap.contains(span) { return span }
      }
    }
    return nil
  }

  private func noRoom(_ link: LinkWish, _ size: UInt64, _ taken: [Span]) -> GenerateError {
    let gaps = board.sharedWindows.flatMap { $0.subtracting(taken) }
    let largest = gaps.map(\.size).max() ?? 0
    return GenerateError(
      "G01", at: link.size?.place ?? link.name.place,
      "link \(link.name.value): no room for \(sizeText(size)); the largest gap in shared-memory is "
        + sizeText(largest),
      means: "windows: \(board.sharedWindows.map(\.text).joined(separator: ", "))",
      fix: "make a link smaller, or widen shared-memory in the board file at the cost of guests")
  }

  private func check(
    _ span: Span, of link: LinkWish, at place: InputPlace, _ spans: [Span?]
  ) throws(GenerateError) {
    guard board.sharedWindows.contains(where: { $0.contains(span) }) else {
      throw GenerateError(
        "E51", at: place,
        "link \(link.name.value): \(span.text) is not inside one shared-memory window",
        means: "somebody else uses that memory, or the root's Linux does",
        fix: "windows are: \(board.sharedWindows.map(\.text).joined(separator: ", "))")
    }
    for (other, taken) in zip(setup.links, spans) {
      guard let taken, taken.overlaps(span) else { continue }
      throw GenerateError(
        "E51", at: place,
        "link \(link.name.value) (\(span.text)) overlaps link \(other.name.value) "
          + "(\(taken.text))",
        means: "each would overwrite the other's rings and buffers",
        fix: "move one of them, or leave its address out")
    }
  }
}

/// A device number as PCI tools print it.
func twoDigits(_ value: Int) -> String {
  let text = String(value, radix: 16)
  return text.count < 2 ? "0" + text : text
}
