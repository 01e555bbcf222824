/// Rules about links, interrupts, virtual PCI and device trees.
extension Rule {
  static let links: [Rule] = [
    Rule(
      "E10", .error, .links,
      "The peer ids of a link are unique, below the number of peers and below 12",
      """
      The id selects the output section, the state table entry and the doorbell target. Two ends \
      with one id: creating the second cell fails with EBUSY. An id at or above the peer count: \
      the other ends never look at its state. An id of 12 or more: EINVAL.
      """),
    Rule(
      "E11", .error, .links,
      "All ends of a link name the same number of peers",
      """
      The count decides how many output sections and state table entries exist. An end with a \
      smaller count does not hear of state changes of the others and computes other section \
      addresses.
      """),
    Rule(
      "E12", .error, .links,
      "The sections of a link have the same size at all ends, and output sections are all equal",
      """
      A driver computes the start of each section from the sizes before it. With different sizes \
      two ends write and read at different places. The device shows one output size, that of the \
      first.
      """),
    Rule(
      "E13", .error, .links,
      "A section lies at the same physical address at all ends",
      """
      The link is joined by its BDF alone, so interrupts work, but the ends look at different \
      memory: data never arrives, and what is written may be the memory of somebody else.
      """),
    Rule(
      "E14", .error, .links,
      "The sections of a link are contiguous in the address space of each cell",
      """
      The device gives only the address of the state table. The driver adds up sizes to find the \
      rest and would read and write whatever is mapped in the gap.
      """),
    Rule(
      "E15", .error, .links,
      "The sections of a link begin and end on pages",
      """
      A region that does not begin and end on a page is emulated access by access instead of \
      mapped, and a physical address inside a page maps the wrong page. The state table is mapped \
      by the hypervisor as a whole page.
      """),
    Rule(
      "E16", .error, .links,
      """
      The state table is read-only, the R/W section writable, an output section writable for its \
      owner alone
      """,
      """
      The rights are the isolation of a link: a peer that can write another output section or the \
      state table can forge data and state of others; an owner that cannot write its own faults \
      and is stopped.
      """),
    Rule(
      "E17", .error, .links,
      "A section of a cell is ROOTSHARED when the root cell is a peer",
      """
      Creating a cell takes its regions from the root cell unless they are ROOTSHARED. The next \
      access of the root cell to the link is then a fault, and the root cell stops.
      """),
    Rule(
      "E18", .error, .links,
      "A section of a link is neither LOADABLE nor IO nor EXECUTE nor the communication region",
      """
      LOADABLE takes the section from the root cell when the cell starts. IO maps it as device \
      memory: slow, and unaligned accesses fault. EXECUTE allows what no transport needs.
      """),
    Rule(
      "E19", .error, .links,
      "All sections of a link exist among the memory regions of the cell",
      """
      The hypervisor adds 2 and the peer count to the index of the first section and refuses the \
      cell (or does not start at all) with EINVAL when that is beyond the number of regions.
      """),
    Rule(
      "E40", .error, .links,
      "The protocols of the ends of a link fit each other",
      """
      The protocol is what a driver binds to. A virtio link needs one back-end and one front-end \
      of the same device id; with anything else no driver binds at one end, or two of one kind \
      wait for each other.
      """),
    Rule(
      "E41", .error, .links,
      "A virtio link has two peers, the ids 0 and 1, and at least two pages to share",
      """
      The virtio drivers refuse other peer counts, and register page and queues need at least two \
      pages of the R/W section.
      """),
    Rule(
      "E42", .error, .links,
      "The ends of a link have the same BDF",
      """
      A link is formed by equal bus, device and function and by nothing else. Two ends that share \
      memory under different BDFs never see each other.
      """),
    Rule(
      "W43", .warning, .links,
      "The link of a guest has another end in the set",
      """
      Without a peer the state never changes and no interrupt comes. Either the other cell was \
      not named on the command line, or its device is missing.
      """),
    Rule(
      "N44", .note, .links,
      "A link of the root cell has another end in the set",
      """
      Stock root configurations have links for several demonstrations; those that no named cell \
      uses do no harm, and take only memory.
      """),
  ]

  static let interrupts: [Rule] = [
    Rule(
      "E20", .error, .interrupts,
      "A cell owns the interrupt of each of its ivshmem devices",
      """
      INTx of virtual PCI is the SPI vpci_irq_base + (device & 3). The distributor is masked by \
      ownership: enabling an SPI that the cell does not own is silently without effect, and no \
      doorbell is ever heard.
      """),
    Rule(
      "E21", .error, .interrupts,
      "No SPI belongs to two guests, or to a guest and to a virtual PCI device of the root cell",
      """
      Creating a cell takes its SPIs from the root cell; between guests nothing is checked. The \
      interrupt is delivered to the cell that configured it last, and the other waits for ever.
      """),
    Rule(
      "E22", .error, .interrupts,
      "An irqchip entry names the distributor and a range that exists",
      """
      An entry with another address is silently ignored, so that the cell owns none of its \
      interrupts. A pin base that is no multiple of 32, or beyond 896, is refused with EINVAL.
      """),
    Rule(
      "E25", .warning, .interrupts,
      "No more than one ivshmem device of a cell uses an INTx pin",
      """
      Devices whose numbers differ by a multiple of 4 share one SPI. Interrupts of virtual PCI \
      are edges: drivers have to look at every device that shares the pin, and a driver that \
      claims the interrupt alone keeps the others out.
      """),
    Rule(
      "E26", .error, .interrupts,
      "A guest does not list interrupts below 32",
      """
      SGIs and PPIs belong to every cell anyway. Bits listed for them do nothing for the guest, \
      but creating the cell takes them from the root cell: its timer or its IPIs stop.
      """),
    Rule(
      "E27", .error, .interrupts,
      "A cell with an ivshmem device has a vpci_irq_base",
      """
      With 0 the devices use SPI 0 to 3, which belong to hardware of the board, and in each cell \
      that forgot it to the same.
      """),
    Rule(
      "E34", .error, .interrupts,
      "The description of the interrupt controller is usable",
      """
      The hypervisor knows GICv2 and GICv3, maps the distributor where the configuration says, \
      and enables the maintenance interrupt as a PPI (16 to 31). Anything else ends with an error \
      at enable or with a hang.
      """),
  ]

  static let virtualPCI: [Rule] = [
    Rule(
      "E23", .error, .virtualPCI,
      "An ivshmem device on Arm uses INTx: no MSI-X vectors, one BAR",
      """
      The interrupt-map of virtual PCI on Arm carries INTx. With MSI-X vectors the device hides \
      its INTx pin and asks for an MSI controller that the bus does not have; a mask that is not \
      that of a page gives a register window of the wrong size.
      """),
    Rule(
      "E24", .error, .virtualPCI,
      "A cell has one device at a BDF",
      """
      Configuration accesses find the first device of a BDF. A second one is never seen, or is \
      refused with EBUSY because it joins the link of the first with the same id.
      """),
    Rule(
      "E28", .error, .virtualPCI,
      "An ivshmem device sits at function 0 on a bus of the host bridge",
      """
      The host bridge of virtual PCI has the buses 0 to pci_mmconfig_end_bus; Linux scans only \
      function 0 of a device that has no multi-function bit.
      """),
    Rule(
      "E29", .error, .virtualPCI,
      "A system with ivshmem devices has a configuration space",
      """
      With pci_mmconfig_base 0 the hypervisor registers no configuration space, the driver adds \
      no host bridge, and no cell sees its devices.
      """),
    Rule(
      "E30", .error, .virtualPCI,
      "The configuration space and the BAR window of virtual PCI are covered by nothing",
      """
      Both work because every access traps. Where a region (or the interrupt controller, or the \
      hypervisor) is mapped, accesses go to that instead, and no device is found or its registers \
      do nothing.
      """),
    Rule(
      "E33", .warning, .virtualPCI,
      "The PCI domain of the virtual host bridge is not that of a physical one",
      """
      Linux refuses the second host bridge of a domain, depending on the order of probing the \
      virtual or the physical one. 0xffff lets Linux choose.
      """),
  ]

  static let deviceTrees: [Rule] = [
    Rule(
      "E31", .error, .deviceTrees,
      "The configuration space of virtual PCI is outside the memory of the root device tree",
      """
      In a no-map reservation it appears as "reserved" and the host bridge fails to probe with \
      "resource collision"; in memory that is not reserved Linux uses it as RAM, and the same \
      happens.
      """),
    Rule(
      "E32", .error, .deviceTrees,
      "The PCI node of a guest tree says what the cell has",
      """
      Linux believes the tree: a wrong reg finds no devices, a wrong interrupt-map waits for an \
      SPI that the cell does not own, level instead of edge loses interrupts, and wrong cell \
      counts shift every number behind them.
      """),
    Rule(
      "E36", .error, .deviceTrees,
      "The interrupt controller of a guest tree is that of the board",
      """
      Guests see the physical addresses of distributor and redistributors. At any other address \
      the first access of Linux is a fault, before it can print anything.
      """),
    Rule(
      "W37", .warning, .deviceTrees,
      "The CPUs of a guest tree are those of the cell",
      """
      The reg of a CPU node is the physical id. Linux asks the hypervisor by PSCI to start what \
      the tree names; a CPU of another cell is refused, and one that is not named stays off.
      """),
    Rule(
      "E38", .error, .deviceTrees,
      "Devices that a guest tree enables belong to the cell",
      """
      The driver accesses registers that the cell does not have: the hypervisor stops the CPU, in \
      the middle of the boot.
      """),
    Rule(
      "E39", .error, .deviceTrees,
      "Interrupts that a guest tree names belong to the cell",
      """
      Enabling an SPI that the cell does not own is silently without effect: the driver waits for \
      ever.
      """),
    Rule(
      "W61", .warning, .deviceTrees,
      "The root device tree keeps Linux away from the memory of hypervisor, guests and links",
      """
      Linux of the root cell uses all memory of its tree. What is not reserved holds its own data \
      when Jailhouse or a guest begins to write there. A boot loader that shortens /memory, or \
      mem= on the command line, does the same; the tree alone does not show it.
      """),
    Rule(
      "E62", .error, .deviceTrees,
      "Memory that a guest tree names belongs to the cell",
      """
      The loader of Jailhouse adds the memory itself. A memory node of the tree comes on top, and \
      Linux faults when it uses what the cell does not have.
      """),
    Rule(
      "E63", .error, .deviceTrees,
      "The root device tree has what the driver needs to add the host bridge",
      """
      At enable the driver adds a PCI node to the running tree: it needs cell counts at the root \
      and an interrupt controller of a known kind with a phandle. Without them the devices simply \
      do not appear.
      """),
  ]
}
