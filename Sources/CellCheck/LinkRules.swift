import CellFormat

/// Rules about one end of a link alone: E14 to E19 and E41. Rules that compare ends are in
/// LinkPairRules.swift.
extension Checker {
  /// The peers a link can have at all (hypervisor/ivshmem.c: twelve endpoints a link).
  static let maximumPeers = 12

  mutating func checkLinks() {
    for view in cells {
      for endpoint in view.endpoints {
        checkIdentity(view, endpoint)
        guard endpoint.isComplete else {
          reportMissingSections(view, endpoint)
          continue
        }
        checkSizes(view, endpoint)
        checkContiguity(view, endpoint)
        checkAlignment(view, endpoint)
        checkRights(view, endpoint)
        checkRootShared(view, endpoint)
        checkKinds(view, endpoint)
        checkVirtio(view, endpoint)
      }
    }
  }

  private mutating func checkIdentity(_ view: CellView, _ endpoint: Endpoint) {
    guard endpoint.id >= endpoint.peers || endpoint.id >= Self.maximumPeers else { return }
    let refused = endpoint.id >= Self.maximumPeers
    report(
      "E10", view, view.place(endpoint),
      "id \(endpoint.id) with \(endpoint.peers) peers"
        + (refused ? "; Jailhouse has room for the ids 0 to 11" : ""),
      means: refused
        ? "the cell cannot be created: EINVAL"
        : "no peer looks at the state of this end, and its doorbell entry and output section do "
          + "not exist for the others",
      fix: "set shmem_peers to the number of ends and shmem_dev_id to a number below it, the same "
        + "count at all ends")
  }

  private mutating func reportMissingSections(_ view: CellView, _ endpoint: Endpoint) {
    let end = endpoint.firstRegion + endpoint.device.sharedMemoryRegionCount
    report(
      "E19", view, view.place(endpoint),
      "the sections are the memory regions \(endpoint.firstRegion) to \(end - 1), the cell has "
        + "\(view.cell.memoryRegions.count)",
      means: "the hypervisor refuses "
        + (view.isRoot ? "to start" : "the cell") + " with EINVAL",
      fix: "set shmem_regions_start to the index of the state table; empty sections need an entry "
        + "of zeros each")
  }

  private mutating func checkSizes(_ view: CellView, _ endpoint: Endpoint) {
    let outputs = endpoint.sections.dropFirst(2)
    if let first = outputs.first, let odd = outputs.firstIndex(where: { $0.size != first.size }) {
      report(
        "E12", view, view.place(region: endpoint.firstRegion + odd),
        "\(hex(outputs[odd].size)) bytes, output section 0 has \(hex(first.size))",
        means: "the device shows one output size to the driver, that of section 0: it computes "
          + "wrong addresses for the others",
        fix: "give all output sections the same size, or all the size 0")
    }
    guard let state = endpoint.sections.first, state.size < UInt64(max(1, endpoint.peers) * 4)
    else { return }
    report(
      "E12", view, view.place(region: endpoint.firstRegion),
      "\(state.size) bytes for a state table of \(endpoint.peers) peers",
      means: "the hypervisor writes states to physical address \(hex(state.physicalStart)), and "
        + "nobody can read them",
      fix: "give the state table one page")
  }

  private mutating func checkContiguity(_ view: CellView, _ endpoint: Endpoint) {
    guard let state = endpoint.sections.first else { return }
    var expected = state.virtualStart
    for (number, section) in endpoint.sections.enumerated() where section.size > 0 {
      if section.virtualStart != expected {
        report(
          "E14", view, view.place(region: endpoint.firstRegion + number),
          "virt_start \(hex(section.virtualStart)), the section before ends at \(hex(expected))",
          means: "drivers compute the address from the start of the state table and the sizes: "
            + "they use \(hex(expected)) and read and write what is there, or fault",
          fix: "set virt_start to \(hex(expected)), or change the size of the section before")
        return
      }
      expected = section.virtualStart &+ section.size
    }
  }

  private mutating func checkAlignment(_ view: CellView, _ endpoint: Endpoint) {
    let page = set.pageSize
    for (number, section) in endpoint.sections.enumerated() {
      let mixed = section.physicalStart | section.virtualStart | section.size
      guard section.size > 0, mixed & (page &- 1) != 0 else { continue }
      report(
        "E15", view, view.place(region: endpoint.firstRegion + number),
        "phys_start \(hex(section.physicalStart)), virt_start \(hex(section.virtualStart)), size "
          + "\(hex(section.size)): not all are multiples of \(hex(page))",
        means: mixed & 0xfff != 0
          ? "the section is emulated access by access or mapped at another place than meant"
          : "a kernel with pages of \(page >> 10) KiB cannot map the section, or maps a "
            + "neighbour with it",
        fix: "move the section to a page and round its size up to pages, at all ends")
      return
    }
  }

  private mutating func checkRights(_ view: CellView, _ endpoint: Endpoint) {
    let all = endpoint.sections + endpoint.missedSections
    for (number, section) in all.enumerated() where section.size > 0 {
      let isOwner = number - 2 == endpoint.id
      let mayWrite = number == 1 || (number >= 2 && isOwner)
      let reads = section.flags.contains(.read)
      let writes = section.flags.contains(.write)
      guard !reads || writes != mayWrite else { continue }
      let wanted = mayWrite ? "READ and WRITE" : "READ without WRITE"
      let seen = [reads ? "READ" : "", writes ? "WRITE" : ""].filter { !$0.isEmpty }
      let means =
        if !reads {
          "the end faults when it reads the section, and the cell is stopped"
        } else if mayWrite {
          "the end faults when it writes its own section, and the cell is stopped"
        } else if number == 0 {
          "the cell can forge the state of its peers"
        } else {
          "the cell can write what peer \(number - 2) sends"
        }
      report(
        "E16", view, view.place(region: endpoint.firstRegion + number),
        "the rights are \(seen.isEmpty ? "none" : seen.joined(separator: " and ")), for id "
          + "\(endpoint.id) this section needs \(wanted)",
        means: means, fix: "set the flags to \(wanted)")
    }
  }

  private mutating func checkRootShared(_ view: CellView, _ endpoint: Endpoint) {
    guard !view.isRoot, let root,
      let number = root.endpointAtBDF[endpoint.device.bdf]
    else { return }
    let lacking = endpoint.sections.enumerated().filter {
      $0.element.size > 0 && !$0.element.flags.contains(.rootShared)
    }
    guard let first = lacking.first else { return }
    report(
      "E17", view, view.place(region: endpoint.firstRegion + first.offset),
      "ROOTSHARED is missing (\(lacking.count) of \(endpoint.sections.count) sections), and the "
        + "root cell is peer \(root.endpoints[number].id)",
      means: "creating the cell unmaps the memory from the root cell, whose next access is a fault",
      fix: "add JAILHOUSE_MEM_ROOTSHARED to the sections of the guest")
  }

  private mutating func checkKinds(_ view: CellView, _ endpoint: Endpoint) {
    let kinds: [(MemoryFlags, String, String)] = [
      (.loadable, "LOADABLE", "the section is taken from the root cell when the cell starts"),
      (.io, "IO", "the section becomes device memory: unaligned accesses fault, copies are slow"),
      (.execute, "EXECUTE", "code can be run from memory that a peer writes"),
      (.commRegion, "COMM_REGION", "the section shows the communication page, not the link"),
    ]
    for (number, section) in endpoint.sections.enumerated() where section.size > 0 {
      let wrong = kinds.filter { section.flags.contains($0.0) }
      guard let first = wrong.first else { continue }
      report(
        "E18", view, view.place(region: endpoint.firstRegion + number),
        "flagged \(wrong.map(\.1).joined(separator: ", "))",
        means: first.2, fix: "take \(wrong.map(\.1).joined(separator: ", ")) out of the flags")
    }
  }

  private mutating func checkVirtio(_ view: CellView, _ endpoint: Endpoint) {
    guard endpoint.isVirtio, endpoint.sections.count >= 2 else { return }
    var wrong: [String] = []
    if endpoint.peers != 2 { wrong.append("\(endpoint.peers) peers instead of 2") }
    if endpoint.peers == 2 || endpoint.id < endpoint.peers, endpoint.id > 1 {
      wrong.append("id \(endpoint.id) instead of 0 or 1")
    }
    let shared = endpoint.sections[1].size
    if shared < 0x2000 {
      wrong.append("an R/W section of \(hex(shared)) instead of 0x2000 or more")
    }
    guard !wrong.isEmpty else { return }
    report(
      "E41", view, view.place(endpoint),
      "a virtio link (protocol \(hex(endpoint.device.sharedMemoryProtocol))) with "
        + wrong.joined(separator: ", "),
      means: "the virtio drivers refuse the device at probe",
      fix: "give the link two peers with the ids 0 (back-end) and 1 (front-end) and an R/W section "
        + "that holds registers and queues")
  }
}
