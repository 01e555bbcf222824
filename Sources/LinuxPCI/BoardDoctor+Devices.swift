import LinkFormat

/// What can be wrong with one device that has a sensible configuration space.
extension BoardDoctor {
  mutating func examineDriver(_ device: LinkDevice, _ subject: String) {
    let function = device.function
    switch function.driver {
    case nil: examineUnbound(device, subject)
    case "uio_pci_generic":
      find(
        "wrong-driver", subject,
        "its driver is uio_pci_generic: it wakes nobody, because ivshmem never sets the interrupt"
          + " bit of the status register, and it shows no sections",
        fix: "ivshmem bind \(subject)")
    case "uio_ivshmem": examineMaps(device, subject)
    case let driver?:
      if let wanted = function.driverOverride, wanted != driver {
        find(
          "other-driver", subject, "its driver is \(driver), and \(wanted) was chosen for it",
          fix: "ivshmem unbind \(subject), then ivshmem bind \(subject) --driver \(wanted)")
      }
    }
    if function.driver != nil, let configuration = device.configuration {
      if configuration.command & 2 == 0 {
        find(
          "memory-off", subject, "it has a driver, and its memory is switched off",
          fix: "ivshmem unbind \(subject), then ivshmem bind \(subject)")
      }
      // Message-signalled interrupts are writes to memory: without bus master none leaves. vfio-pci
      // leaves that to whoever opens the device.
      if configuration.command & 4 == 0, function.driver != "vfio-pci",
        device.interrupts == .msix || device.interrupts == .msi
      {
        find(
          "no-bus-master", subject,
          "it has MSI-X and may not master the bus, so it cannot interrupt",
          fix: "ivshmem unbind \(subject), then ivshmem bind \(subject)")
      }
    }
  }

  private mutating func examineUnbound(_ device: LinkDevice, _ subject: String) {
    // The module is virtio_ivshmem; the driver's own name, which sysfs shows, has a dash.
    if case .virtioFrontEnd = device.linkProtocol,
      hasDriver("virtio-ivshmem") || hasDriver("virtio_ivshmem")
    {
      find(
        "front-end-early", subject,
        "virtio_ivshmem does not have it: that driver looks once, and gives up when the back-end is"
          + " not ready yet",
        fix: "start the back-end, then: ivshmem bind \(subject) --driver virtio-ivshmem")
      return
    }
    find(
      "no-driver", subject, "no driver has it, so no program can use it",
      fix: "ivshmem bind \(subject)"
        + (hasDriver("uio_ivshmem") ? "" : " --driver vfio-pci"))
  }

  private mutating func examineMaps(_ device: LinkDevice, _ subject: String) {
    guard let node = device.function.nodes.first else {
      find(
        "no-node", subject, "uio_ivshmem has it and there is no UIO node",
        fix: "the driver's probe failed: read the kernel's log for uio_ivshmem")
      return
    }
    if device.function.nodes.count > 1 {
      find(
        "two-nodes", subject, "it has \(device.function.nodes.count) UIO nodes, expected one",
        fix: "ivshmem unbind \(subject), then ivshmem bind \(subject)")
    }
    if node.map("ivshmem-mmr") != nil || node.map("registers") == nil
      || node.map("state_table") == nil
    {
      let names = node.maps.map { $0.name }.joined(separator: ", ")
      find(
        "old-driver", subject,
        "the driver calls itself uio_ivshmem and has the maps '\(names)', expected registers and"
          + " state_table: it is made for ivshmem version 1",
        fix: "install the package cellmate-dkms, or use a kernel with the driver for version 2")
    }
  }

  mutating func examineSections(_ device: LinkDevice, _ subject: String) {
    guard !device.sections.isEmpty else { return }
    for section in device.sections {
      guard section.size & (pageSize - 1) != 0 else { continue }
      find(
        "odd-size", subject,
        "its section \(section.kind.name) has \(section.size) bytes, no multiple of this kernel's"
          + " \(pageSize)-byte pages",
        fix: "make the sections multiples of \(pageSize) in the configurations of all its cells")
      return
    }
    if device.linkProtocol?.virtioDevice != nil, device.size(of: .readWrite) == nil,
      device.size(of: .output) == nil
    {
      find(
        "no-sections", subject, "it is a virtio link without read/write and output sections",
        fix: "give the link a read/write section of two pages or more")
    }
    for section in device.sections {
      guard let address = section.address else { continue }
      guard
        let hit = memory.first(where: {
          $0.owner == "System RAM" && $0.overlaps(address, section.size)
        })
      else { continue }
      find(
        "memory-in-use", subject,
        "its section \(section.kind.name) at 0x\(hexText(address)) lies in System RAM of this"
          + " kernel (from 0x\(hexText(hit.start))): both will overwrite each other",
        fix:
          "reserve the range: reserved-memory with no-map in the device tree, or mem= and memmap=")
      return
    }
  }

  mutating func examineInterrupts(_ device: LinkDevice, _ subject: String) {
    let function = device.function
    if device.interrupts == .none {
      find(
        "no-interrupt", subject,
        "it has neither MSI-X nor an interrupt line: it cannot wake anybody",
        fix: "set vpci_irq_base or num_msix_vectors in the cell's configuration")
      return
    }
    guard function.driver != nil else { return }
    if device.interrupts == .line, let command = device.configuration?.command,
      command & 0x400 != 0
    {
      find(
        "line-disabled", subject, "its interrupt line is disabled in the command register",
        fix: "ivshmem unbind \(subject), then ivshmem bind \(subject)")
    }
    let numbers =
      function.messageInterrupts.isEmpty
      ? (function.interrupt == 0 ? [] : [function.interrupt]) : function.messageInterrupts
    if numbers.isEmpty, function.driver == "uio_ivshmem" {
      find(
        "no-vector", subject, "its driver has no interrupt for it",
        fix: "on arm64 without an ITS set num_msix_vectors to 0, so that it has an interrupt line")
      return
    }
    let known = interrupts.filter { numbers.contains($0.number) }
    guard !known.isEmpty, known.allSatisfy({ $0.count == 0 }),
      function.driver == "uio_ivshmem" || function.driver == "vfio-pci",
      !NodeHolders(of: function.nodePaths, files: files).processes.isEmpty
    else { return }
    find(
      "silent", subject,
      "a program has it open, and interrupt \(known.map { "\($0.number)" }.joined(separator: ", "))"
        + " never came",
      fix:
        "'ivshmem ping' with the other side; check that the cell owns the interrupt, and that the"
        + " peer rings vector 0 where there is a line")
  }

  mutating func examineRights(_ device: LinkDevice, _ subject: String) {
    guard HostFiles.user != 0 else { return }
    for path in device.function.nodePaths where files.exists(path) && !files.mayUse(path) {
      let mode = files.rights(path).map { ", mode \(String($0.mode, radix: 8))" } ?? ""
      find(
        "no-permission", subject, "this user may not open \(path)\(mode)",
        fix: "install the package's udev rules and join the group ivshmem, or run as root")
    }
  }

  mutating func examineGroup(_ device: LinkDevice, _ subject: String) {
    let function = device.function
    guard function.driver == "vfio-pci" else { return }
    guard let group = function.iommuGroup else {
      find(
        "no-group", subject, "vfio-pci has it and it is in no IOMMU group",
        fix: "give the machine an IOMMU, or bind it to uio_ivshmem")
      return
    }
    let others = functions.filter { other in
      other.iommuGroup == group && other.address != function.address
        && other.classCode >> 16 != 0x06
        && (other.driver.map { $0 != "vfio-pci" && $0 != "pci-stub" } ?? false)
    }
    for other in others {
      find(
        "shared-group", subject,
        "\(other.address) is in the same IOMMU group \(group) and belongs to"
          + " \(other.driver ?? "no driver"): the group cannot be opened",
        fix: "unbind \(other.address) or give it to vfio-pci too")
    }
    if !files.exists("/dev/vfio/\(group)") {
      find(
        "no-group-node", subject, "/dev/vfio/\(group) is missing",
        fix: "modprobe vfio_iommu_type1; is devtmpfs mounted?")
    }
  }
}
