import CellFormat

/// Rules E23, E24 and E28 to E30: devices and windows of the virtual host bridge. E33 needs the
/// root device tree and is in RootTreeRules.swift.
extension Checker {
  /// The bus windows: one MiB a bus; the driver puts the BARs one MiB behind the base.
  static let busSize: UInt64 = 0x10_0000

  /// Configuration space: every access to it has to trap, in every cell.
  var configurationSpace: Span? {
    guard let system, system.mmconfigBase != 0 else { return nil }
    return Span(system.mmconfigBase, (UInt64(system.mmconfigEndBus) + 1) * Self.busSize)
  }

  /// The window in which the driver lets the root cell's Linux place the BARs: two pages for each
  /// ivshmem device.
  var rootBarWindow: Span? {
    guard let system, let root, system.mmconfigBase != 0, system.pciIsVirtual != 0 else {
      return nil
    }
    return Span(
      system.mmconfigBase &+ Self.busSize, UInt64(root.endpoints.count) * 2 * 0x1000)
  }

  mutating func checkVirtualPCI() {
    for view in cells {
      checkBDFs(view)
      for endpoint in view.endpoints { checkDevice(view, endpoint) }
    }
    checkWindows()
  }

  private mutating func checkBDFs(_ view: CellView) {
    var seen: [UInt32: Int] = [:]
    for (index, device) in view.cell.pciDevices.enumerated() {
      // The hypervisor does not look at the domain of an ivshmem device.
      let domain = device.kind == .ivshmem ? 0 : UInt32(device.domain) << 16
      guard let first = seen.updateValue(index, forKey: domain | UInt32(device.bdf)) else {
        continue
      }
      report(
        "E24", view, view.place(device: index),
        "BDF \(bdfText(device.bdf)) is that of pci_device \(first) as well",
        means: "only the first of them is found; two ends of a link with one id are refused",
        fix: "give each device its own number: bdf is the device number times 8")
    }
  }

  private mutating func checkDevice(_ view: CellView, _ endpoint: Endpoint) {
    let device = endpoint.device
    if isArm(view) {
      let masks = device.barMasks
      var wrong: [String] = []
      // A physical bus may have an MSI controller; the virtual one has none.
      let mayUseMSI = system.map { $0.pciIsVirtual == 0 } ?? false
      if device.msixVectorCount > 0, mayUseMSI { return checkAddress(view, endpoint) }
      if device.msixVectorCount > 0 { wrong.append("\(device.msixVectorCount) MSI-X vectors") }
      let first = masks.first ?? 0
      if first != 0xffff_f000, first != 0xffff_0000 { wrong.append("bar_mask[0] \(hex(first))") }
      if let other = masks.dropFirst().firstIndex(where: { $0 != 0 }) {
        wrong.append("bar_mask[\(other)] \(hex(masks[other]))")
      }
      if !wrong.isEmpty {
        report(
          "E23", view, view.place(endpoint), wrong.joined(separator: ", "),
          means: device.msixVectorCount > 0
            ? "the device has no INTx pin and asks for MSI, which the virtual bus on Arm lacks"
            : "Linux gives the device a window of the wrong size, or none for its registers",
          fix: "use the INTx mask (0xfffff000 and five zeros) and no MSI-X vectors")
      }
    }
    checkAddress(view, endpoint)
  }

  private mutating func checkAddress(_ view: CellView, _ endpoint: Endpoint) {
    guard let system else { return }
    let device = endpoint.device
    if system.mmconfigBase == 0 {
      report(
        "E29", view, view.place(endpoint), "an ivshmem device, but pci_mmconfig_base is 0",
        means: "no cell can see the device: there is no configuration space",
        fix: "set pci_mmconfig_base to an address that nothing uses, and pci_is_virtual to 1")
    } else if device.bdf >> 8 > UInt16(system.mmconfigEndBus) || device.bdf & 7 != 0 {
      report(
        "E28", view, view.place(endpoint),
        device.bdf & 7 != 0
          ? "function \(device.bdf & 7) of device \(device.deviceNumber)"
          : "bus \(device.bdf >> 8), the host bridge ends at bus \(system.mmconfigEndBus)",
        means: "the device is not scanned, and the cell does not find it",
        fix: "use function 0 on bus 0: bdf is the device number times 8")
    }
  }

  private mutating func checkWindows() {
    guard let space = configurationSpace, let system, let root else { return }
    for view in cells {
      for (index, region) in view.cell.memoryRegions.enumerated() {
        let physical =
          region.flags.contains(.commRegion)
          ? nil : Span(region.physicalStart, region.size)
        let virtual = Span(region.virtualStart, region.size)
        if [physical, virtual].contains(where: { $0?.overlaps(space) ?? false }) {
          report(
            "E30", view, view.place(region: index),
            "covers the configuration space \(space.text)",
            means: "accesses to it do not trap in this cell: it finds no virtual device",
            fix: "cut the region so that it leaves \(space.text) out")
        } else if view.isRoot, let window = rootBarWindow, virtual?.overlaps(window) ?? false {
          report(
            "E30", view, view.place(region: index),
            "covers \(window.text), where the driver places the BARs of the root cell's devices",
            means: "the registers of the devices do not trap: reading the id gives whatever is "
              + "there, and doorbells ring nothing",
            fix: "cut the region so that it leaves \(window.text) out, or move pci_mmconfig_base")
        }
      }
    }
    let place = "pci_mmconfig_base (offset 0x4c)"
    var others = interruptControllerSpans
    if let hypervisor = Span(system.hypervisorMemory.physicalStart, system.hypervisorMemory.size) {
      others.append(("hypervisor memory", hypervisor))
    }
    for (name, span) in others
    where [space, rootBarWindow].contains(where: {
      $0?.overlaps(span) ?? false
    }) {
      report(
        "E30", root, place,
        "the windows from \(hex(space.first)) on overlap the \(name) \(span.text)",
        means: "accesses reach the \(name) instead of virtual PCI",
        fix: "choose a pci_mmconfig_base with two free MiB behind it")
    }
    if system.pciIsVirtual != 0, system.mmconfigEndBus > 0, !root.endpoints.isEmpty {
      report(
        "E30", root, "pci_mmconfig_end_bus (offset 0x54)",
        "\(system.mmconfigEndBus + (system.mmconfigEndBus < 255 ? 1 : 0)) buses: the space ends at "
          + "\(hex(space.last)), but the driver places the BARs at "
          + "\(hex(system.mmconfigBase &+ Self.busSize))",
        means: "accesses to the registers are taken for accesses to configuration space",
        fix: "set pci_mmconfig_end_bus to 0; virtual PCI uses one bus")
    }
  }
}
