import CellFormat

/// One fault in a system that has none, and the rule that has to speak.
struct Fixture: Sendable, CustomStringConvertible {
  let rule: String
  let inject: @Sendable (inout TestSystem) -> Void
  var description: String { rule }

  init(_ rule: String, _ inject: @escaping @Sendable (inout TestSystem) -> Void) {
    self.rule = rule
    self.inject = inject
  }

  /// One for each rule but E02, which is about bytes that cannot be decoded.
  static let all = files + links + interrupts + virtualPCI + memory + trees

  static let files = [
    Fixture("E01") { $0.bare.architecture = .arm },
    Fixture("E03") { system in
      var second = TestSystem.makeRoot()
      second.rootCell.nameBytes = TestSystem.name("second")
      system.more = [.system(second)]
    },
    Fixture("E04") { $0.bare.nameBytes = TestSystem.name("linux") },
    Fixture("E06") { system in
      let empty = TestSystem.region(0, 0, [])
      system.bare.memoryRegions += Array(repeating: empty, count: 2050)
    },
    Fixture("N03") { $0.hasRoot = false },
    Fixture("W05") { $0.bare.memoryRegions[1].flags.formUnion(MemoryFlags(rawValue: 0x200)) },
    Fixture("E53") { $0.bare.cpuSet[0] = 0x4 },
    Fixture("E57") { $0.bare.console = Console() },
    Fixture("E65") { $0.bare.console.address = 0x0908_0000 },
    Fixture("W58") { $0.bare.memoryRegions[0].flags.remove(.rootShared) },
  ]

  static let links = [
    Fixture("E10") { system in
      system.bare.pciDevices[0].sharedMemoryID = 2
      system.bare.memoryRegions.replaceSubrange(
        3..<8, with: TestSystem.native(id: 2, isRoot: false))
    },
    Fixture("E11") { $0.bare.pciDevices[0].sharedMemoryPeers = 2 },
    Fixture("E12") { $0.linux.memoryRegions[1].size = 0xde000 },
    Fixture("E13") { system in
      system.linux.memoryRegions[0].physicalStart = 0x6000_0000
      system.linux.memoryRegions[1].physicalStart = 0x6000_1000
    },
    Fixture("E14") { $0.linux.memoryRegions[1].virtualStart = 0x7fb0_1000 },
    Fixture("E15") { system in
      system.root.rootCell.memoryRegions[1].size = 0xdf800
      system.linux.memoryRegions[1].size = 0xdf800
    },
    Fixture("E16") { $0.linux.memoryRegions[7].flags.insert(.write) },
    Fixture("E17") { system in
      for section in 0..<2 { system.linux.memoryRegions[section].flags.remove(.rootShared) }
    },
    Fixture("E18") { $0.linux.memoryRegions[1].flags.insert(.execute) },
    Fixture("E19") { $0.bare.memoryRegions.removeLast() },
    Fixture("E40") { $0.linux.pciDevices[0].sharedMemoryProtocol = 0x8003 },
    Fixture("E41") { system in
      system.root.rootCell.memoryRegions[1].size = 0x1000
      system.linux.memoryRegions[1].size = 0x1000
    },
    Fixture("E42") { $0.linux.pciDevices[0].bdf = 3 << 3 },
    Fixture("W43") { system in
      let start = UInt32(system.linux.memoryRegions.count)
      system.linux.memoryRegions += TestSystem.virtio(
        at: 0x6000_0000, size: 0x2000, isRoot: false)
      system.linux.pciDevices.append(
        TestSystem.device(5, regions: start, id: 0, peers: 2, kind: 0x4000))
    },
    Fixture("N44") { addRootLink(&$0, 5) },
  ]

  /// A link of the root cell behind the block link.
  static func addRootLink(_ system: inout TestSystem, _ number: UInt16) {
    let start = UInt32(system.root.rootCell.memoryRegions.count)
    system.root.rootCell.memoryRegions += TestSystem.virtio(
      at: 0x7fae_0000, size: 0x2000, isRoot: true)
    system.root.rootCell.pciDevices.append(
      TestSystem.device(number, regions: start, id: 0, peers: 2, kind: 0x4000))
  }

  static let interrupts = [
    Fixture("E20") { $0.linux.vpciIRQBase = 116 },
    Fixture("E21") { $0.bare.irqchips[0] = TestSystem.chip([108, 112]) },
    Fixture("E22") { $0.bare.irqchips[0].address = 0x0801_0000 },
    Fixture("E25") { system in
      addRootLink(&system, 4)
      let start = UInt32(system.linux.memoryRegions.count)
      system.linux.memoryRegions += TestSystem.virtio(
        at: 0x7fae_0000, size: 0x2000, isRoot: false)
      system.linux.pciDevices.append(
        TestSystem.device(4, regions: start, id: 1, peers: 2, kind: 0x4000))
    },
    Fixture("E26") { system in
      var chip = TestSystem.chip([])
      chip.pinBase = 0
      chip.pinBitmap[0] = 1 << 27
      system.bare.irqchips.append(chip)
    },
    Fixture("E27") { $0.linux.vpciIRQBase = 0 },
    Fixture("E34") { $0.root.maintenanceIRQ = 5 },
  ]

  static let virtualPCI = [
    Fixture("E23") { $0.linux.pciDevices[0].msixVectorCount = 2 },
    Fixture("E24") { system in
      var device = PCIDevice()
      device.rawType = PCIDevice.Kind.device.rawValue
      system.bare.pciDevices.append(device)
    },
    Fixture("E28") { system in
      system.root.rootCell.pciDevices[0].bdf = 0x0110
      system.linux.pciDevices[0].bdf = 0x0110
    },
    Fixture("E29") { $0.root.mmconfigBase = 0 },
    Fixture("E30") { system in
      system.root.rootCell.memoryRegions.append(
        TestSystem.region(0x0600_0000, 0x0110_0000, [.read, .write, .io]))
    },
    Fixture("E33") { system in
      system.addTrees()
      var host = TestNode("pcie@4010000000")
      host.text("device_type", "pci")
      host.cells("linux,pci-domain", [1])
      system.rootTree?.children.append(host)
    },
  ]

  static let memory = [
    Fixture("E44") { $0.bare.memoryRegions[0].size = 0x400 },
    Fixture("E45") { system in
      system.linux.streamIDs = [16, 17]
      system.bare.streamIDs = [17]
    },
    Fixture("E46") { addRegion(&$0, 0x7f93_0000, 0x1000, virtual: 0x8000) },
    Fixture("W47") { addRegion(&$0, 0x7f91_0000, 0x1000, virtual: 0x10_0000) },
    Fixture("E48") { $0.bare.cpuResetAddress = 0x5000_0000 },
    Fixture("W49") { $0.linux.flags.remove(.passiveCommRegion) },
    Fixture("E50") { addRegion(&$0, 0x2_0000_0000, 0x1000, virtual: 0x10_0000) },
    Fixture("E51") { $0.bare.memoryRegions[1].physicalStart = 0x7000_0000 },
    Fixture("E52") { $0.bare.memoryRegions[1].physicalStart = 0x7fc0_0000 },
    Fixture("E54") { $0.linux.memoryRegions[11].flags.remove(.dma) },
    Fixture("E55") { $0.bare.memoryRegions[2] = TestSystem.region(0, 0, []) },
    Fixture("W55") { $0.bare.memoryRegions[2].virtualStart = 0x6000_0000 },
    Fixture("E56") { addRegion(&$0, 0x0800_0000, 0x1000, virtual: 0x0800_0000) },
    Fixture("W56") { system in
      system.root.rootCell.memoryRegions.append(
        TestSystem.region(0x0800_0000, 0x0100_0000, [.read, .write, .io]))
    },
    Fixture("E58") { addRegion(&$0, 0x7f93_0000, 0x2000, virtual: 0xffff_ffff_ffff_f000) },
    Fixture("E59") { system in
      addIOMMU(&system, 0x0500_0000)
      addRegion(&system, 0x0500_0000, 0x1000, virtual: 0x0500_0000)
    },
    Fixture("W59") { addIOMMU(&$0, 0x0905_0000) },
    Fixture("W60") { system in
      system.addTrees()
      system.rootTree?["memory@40000000"] = TestTrees.memory(0x4000_0000, 0x1000_0000)
    },
  ]

  static func addRegion(
    _ system: inout TestSystem, _ start: UInt64, _ size: UInt64, virtual: UInt64
  ) {
    system.bare.memoryRegions.append(
      TestSystem.region(start, size, [.read, .write], virtual: virtual))
  }

  static func addIOMMU(_ system: inout TestSystem, _ base: UInt64) {
    system.root.iommus[0].type = 3
    system.root.iommus[0].base = base
    system.root.iommus[0].size = 0x2_0000
  }

  static let trees = [
    Fixture("E31") { system in
      system.addTrees()
      system.rootTree?["reserved-memory"].children.append(
        TestTrees.reserved("pci", 0x0700_0000, 0x20_0000))
    },
    Fixture("E32") { system in
      system.addTrees()
      system.linuxTree?["pci@7000000"] = TestTrees.pci(base: 0x0700_0000, firstSPI: 112)
    },
    Fixture("E36") { system in
      system.addTrees()
      system.linuxTree?["interrupt-controller@8000000"].cells(
        "reg", wide(0x0800_0000) + wide(0x1_0000) + wide(0x0801_0000) + wide(0x2_0000))
    },
    Fixture("W37") { system in
      system.addTrees()
      system.linuxTree?["cpus"] = TestTrees.cpus([0, 1])
    },
    Fixture("E38") { system in
      system.addTrees()
      var device = TestNode("gpio@9030000")
      device.text("compatible", "arm,pl061")
      device.cells("reg", wide(0x0903_0000) + wide(0x1000))
      system.linuxTree?.children.append(device)
    },
    Fixture("E39") { system in
      system.addTrees()
      system.linuxTree?["serial@9040000"].cells("interrupts", [0, 9, 4])
    },
    Fixture("W61") { system in
      system.addTrees()
      system.rootTree?["reserved-memory"].children.removeLast()
    },
    Fixture("E62") { system in
      system.addTrees()
      system.linuxTree?.children.append(TestTrees.memory(0x4000_0000, 0x1000_0000))
    },
    Fixture("E63") { system in
      system.addTrees()
      system.rootTree?["interrupt-controller@8000000"].remove("phandle")
    },
  ]
}
