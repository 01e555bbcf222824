/// Rules about files, memory, processors and consoles.
extension Rule {
  static let files: [Rule] = [
    Rule(
      "E01", .error, .files,
      "Signature, revision and architecture are known, and the same in all files",
      """
      The driver compares these bytes with its own before anything else and refuses the file with \
      "Configuration revision mismatch" or "Not a cell configuration". A set with two revisions \
      or architectures cannot be loaded by one Jailhouse.
      """),
    Rule(
      "E02", .error, .files,
      "A file is as long as its counts say",
      """
      The hypervisor finds each array by adding up the counts in the header. A file that is cut \
      off makes it read what lies behind; extra bytes mean that a count is too small, so that \
      regions or devices are silently missing.
      """),
    Rule(
      "E03", .error, .files,
      "A set has one system configuration",
      """
      One system configuration is enabled; the cells are created on top of it. With two it is not \
      clear which the cells are meant for.
      """),
    Rule(
      "E04", .error, .files,
      "Every cell has a name of its own, which ends within its field",
      """
      Jailhouse finds cells by name. An empty name cannot be given on the command line, the \
      second cell of a name is refused with EEXIST, and a name without its NUL is cut off by the \
      driver.
      """),
    Rule(
      "E06", .error, .files,
      "A cell configuration fits into the 64 KiB that the hypervisor maps",
      """
      At creation the hypervisor maps the configuration through 16 temporary pages; a larger one \
      is refused with E2BIG.
      """),
    Rule(
      "N03", .note, .files,
      "A set without its system configuration is only half checked",
      """
      Everything that compares a cell with the root cell, the hypervisor, the interrupt \
      controller and the configuration space of virtual PCI needs the system configuration.
      """),
    Rule(
      "W05", .warning, .files,
      "No unknown bits and values are set",
      """
      Bits without a meaning are ignored today and may mean something in the next revision; most \
      often they are a wrong macro or an array filled one field too early.
      """),
  ]

  static let memory: [Rule] = [
    Rule(
      "E44", .error, .memory,
      "Regions are pages, or name the access widths of a part of a page",
      """
      A region with a virtual start or size inside a page is emulated access by access; without a \
      width bit the first access ends the cell. A physical start inside a page under a page- \
      aligned virtual start maps another address than meant.
      """),
    Rule(
      "E45", .error, .memory,
      "No stream id belongs to two guests",
      """
      A stream id names a bus master to the IOMMU. The second cell that claims it takes over the \
      translation, and the device of the first writes into memory of the second.
      """),
    Rule(
      "E46", .error, .memory,
      "The regions of a cell do not overlap in its address space",
      """
      One address can lead to one place only: the region mapped last wins, and what the other \
      should have shown is not reachable.
      """),
    Rule(
      "W47", .warning, .memory,
      "The regions of a cell do not overlap physically",
      """
      The same memory is mapped twice, at one address or at two. Nothing breaks by that alone, \
      but the region mapped last decides about the rights, also of a link section, and mostly a \
      number is wrong.
      """),
    Rule(
      "E48", .error, .memory,
      "A guest starts inside memory it can be loaded into",
      """
      The CPU starts at cpu_reset_address. When that is not in a region, or the region is not \
      LOADABLE, the program cannot be loaded there, or the first fetch is a fault.
      """),
    Rule(
      "W49", .warning, .memory,
      "A cell that Linux runs in has a passive communication region",
      """
      Before a cell is destroyed or loaded again Jailhouse sends it a message and waits for the \
      answer, without limit when msg_reply_timeout is 0. Linux does not answer: the root CPU \
      hangs in the hypervisor.
      """),
    Rule(
      "E50", .error, .memory,
      "The memory of a guest is memory of the root cell",
      """
      Memory comes from the root cell and goes back to it. What the root cell does not have \
      cannot be loaded through it (the root cell faults while it writes), and is nobody's when \
      the cell is gone.
      """),
    Rule(
      "E51", .error, .memory,
      "Memory of a guest overlaps no memory of another guest and no link it is not part of",
      """
      Nothing in Jailhouse compares guests: both cells are created, and each overwrites the \
      other. Sharing that is meant is marked ROOTSHARED at both ends; cells that never run \
      together are named with --alternatives.
      """),
    Rule(
      "E52", .error, .memory,
      "No region overlaps the memory of the hypervisor",
      """
      A cell that can write there can change the hypervisor. For the root cell the mapping also \
      replaces the pages that Jailhouse puts there for its own protection.
      """),
    Rule(
      "E54", .error, .memory,
      "RAM of a Linux guest is flagged DMA",
      """
      `jailhouse cell linux` tells the guest only of regions with READ, WRITE, EXECUTE and DMA. \
      RAM without DMA is given to the cell, but its Linux never hears of it.
      """),
    Rule(
      "E55", .error, .memory,
      "A guest has exactly one communication region, readable and writable, of a page",
      """
      Bare-metal programs find the interrupt controller, virtual PCI and the console there, and \
      Jailhouse asks through it for shutdown. The first access to a missing one is a fault.
      """),
    Rule(
      "W55", .warning, .memory,
      "The communication region is at 0x80000000",
      """
      Programs built with the inmate library of Jailhouse for arm64 look for it at this address \
      and nowhere else.
      """),
    Rule(
      "E56", .error, .memory,
      "A guest does not map the interrupt controller",
      """
      Accesses to distributor and redistributors have to trap, so that a cell reaches its own \
      interrupts only. With a mapping the guest writes the registers themselves, and creating it \
      takes them from the root cell.
      """),
    Rule(
      "W56", .warning, .memory,
      "The root cell does not map the interrupt controller",
      """
      The mapping goes before the trap: the root cell can enable and route the interrupts of \
      other cells. Nothing stops working, and boards ship like this, but the isolation is gone.
      """),
    Rule(
      "E58", .error, .memory,
      "Regions end inside the address space",
      """
      A region whose end is beyond 48 bits, or wraps, cannot be mapped: enable or cell create \
      ends with an error, or maps what nobody meant.
      """),
    Rule(
      "E59", .error, .memory,
      "A guest does not map an IOMMU",
      """
      With the registers of the IOMMU a guest can let its devices reach the memory of every cell.
      """),
    Rule(
      "W59", .warning, .memory,
      "The root cell does not map an IOMMU that Jailhouse uses",
      """
      The root cell can switch off the protection that Jailhouse programs there. Nothing stops \
      working, and boards ship like this, but the isolation from bus masters is gone.
      """),
    Rule(
      "W60", .warning, .memory,
      "RAM of the root cell exists on the board",
      """
      A stock configuration for a board with more memory maps addresses that lead nowhere: the \
      hypervisor or a guest is put into memory that does not exist, and enable hangs or the guest \
      shows nothing.
      """),
  ]

  static let processors: [Rule] = [
    Rule(
      "E53", .error, .processors,
      "Every CPU belongs to one cell, and the root cell keeps one",
      """
      CPUs are taken from the root cell at creation: a CPU that it does not have, or no longer \
      has, is refused with EBUSY, and so is the one that runs the command. A guest without a CPU \
      never starts.
      """)
  ]

  static let consoles: [Rule] = [
    Rule(
      "E57", .warning, .consoles,
      "A bare-metal guest has a console",
      """
      Programs of the inmate library print to the console of the cell configuration or, when \
      permitted, through the hypervisor. With neither, a working cell and a dead one look the \
      same.
      """),
    Rule(
      "E65", .error, .consoles,
      "The registers of a console belong to the cell",
      """
      The first character is an access to an address that the cell does not have: the hypervisor \
      stops the CPU with "unhandled data write".
      """),
    Rule(
      "W58", .warning, .consoles,
      "A guest does not take the debug console away",
      """
      The hypervisor and, on most boards, the Linux of the root cell print there. A guest that \
      maps the UART without ROOTSHARED unmaps it from the root cell, which stops at its next line \
      of output.
      """),
  ]
}
