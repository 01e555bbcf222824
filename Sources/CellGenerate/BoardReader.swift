extension BoardDescription {
  /// Reads the facts of a board.
  init(_ item: YAMLItem) throws(GenerateError) {
    let fields = try item.fields(
      "name", "title", "compatible", "gic", "cpus", "timer", "hypervisor", "debug-console",
      "uarts", "pci", "interrupts", "root-memory", "shared-memory", "guest-memory", "loaders",
      "root-linux-ram", "links", "iommu", "root-arguments", "bring-up")
    place = item.place
    name = try fields.required("name").string()
    title = try fields.required("title").string()
    compatible = try fields.required("compatible").strings()
    let gic = try fields.required("gic").fields(
      "distributor", "redistributor", "maintenance-interrupt")
    distributor = try gic.required("distributor").fields("address", "size").span()
    redistributor = try gic.required("redistributor").fields("address", "size").span()
    maintenanceIRQ = try gic["maintenance-interrupt"]?.int(16...31) ?? 25
    cpus = try Self.cpus(fields.required("cpus"))
    let timer = try fields["timer"]?.fields("flags", "frequency")
    timerFlags = try timer?["flags"]?.int(0...0xffff) ?? 8
    timerFrequency = try timer?["frequency"]?.int(1...0xffff_ffff)
    hypervisor = try fields.required("hypervisor").fields("address", "size").span()
    uarts = try Self.uarts(fields.required("uarts"))
    let debug = try fields.required("debug-console").placedString()
    debugUART = debug.value
    guard uarts.contains(where: { $0.name == debug.value }) else {
      throw GenerateError(
        "Y06", at: debug.place, "debug-console: no UART is called '\(debug.value)'",
        fix: "known are: \(uarts.map(\.name).joined(separator: ", "))")
    }
    let pci = try fields.required("pci").fields("ecam", "domain")
    ecam = try pci.required("ecam").address()
    pciDomain = try pci["domain"]?.int(0...0xffff) ?? 0xffff
    let interrupts = try fields.required("interrupts").fields("count", "root", "guests")
    spiCount = try interrupts.required("count").int(128...896)
    guard spiCount % 128 == 0 else {
      throw try interrupts.required("count").wrong("a multiple of 128", fix: "write 128 or 384")
    }
    rootSPI = try interrupts.required("root").int(0...spiCount - 4)
    guestSPIs = try Self.guestSPIs(interrupts.required("guests"), spiCount)
    rootRegions = try Self.regions(fields.required("root-memory"))
    sharedWindows = try Self.spans(fields.required("shared-memory"))
    guestWindows = try Self.spans(fields.required("guest-memory"))
    loaderWindow = try fields.required("loaders").fields("address", "size").span()
    rootLinuxRAM = try Self.spans(fields.required("root-linux-ram"))
    slots = try Self.slots(fields["links"])
    iommu = try fields["iommu"].map { item throws(GenerateError) in try BoardIOMMU(item) }
    rootArguments = try fields["root-arguments"]?.string() ?? ""
    bringUp = try Self.steps(fields["bring-up"])
  }

  private static func cpus(_ item: YAMLItem) throws(GenerateError) -> [BoardCPU] {
    var cpus: [BoardCPU] = []
    for entry in try item.list() {
      let fields = try entry.fields("mpidr", "compatible")
      cpus.append(
        BoardCPU(
          mpidr: UInt32(try fields.required("mpidr").number(0...0xffffff)),
          compatible: try fields.required("compatible").string()))
    }
    for (index, cpu) in cpus.enumerated()
    where cpus[..<index].contains(where: { $0.mpidr == cpu.mpidr }) {
      throw GenerateError(
        "E53", at: item.place, "\(item.path): two CPUs have mpidr \(hex(cpu.mpidr))",
        means: "the guest's tree would start one of them twice",
        fix: "take each reg from the cpu nodes of the SoC's device tree")
    }
    guard (1...64).contains(cpus.count) else {
      throw item.wrong("1 to 64 CPUs", fix: "list every CPU of the board, the root's too")
    }
    return cpus
  }

  private static func uarts(_ item: YAMLItem) throws(GenerateError) -> [BoardUART] {
    var uarts: [BoardUART] = []
    for (name, entry) in try item.entries() {
      let fields = try entry.fields(
        "kind", "address", "size", "interrupt", "compatible", "clock-names", "clock-frequency",
        "tty")
      uarts.append(
        BoardUART(
          name: name.value, kind: try fields.required("kind").choice(BoardUART.Kind.self),
          registers: Span(
            start: try fields.required("address").address(),
            size: try fields["size"]?.size() ?? pageSize),
          spi: try fields.required("interrupt").int(0...987),
          compatible: try fields.required("compatible").strings(),
          clockNames: try fields.required("clock-names").strings(),
          clockFrequency: try fields.required("clock-frequency").int(1...0xffff_ffff),
          tty: try fields.required("tty").string()))
    }
    return uarts
  }

  private static func guestSPIs(_ item: YAMLItem, _ count: Int) throws(GenerateError) -> [Int] {
    var bases: [Int] = []
    for entry in try item.list() {
      let base = try entry.int(0...count - 4)
      if let other = bases.first(where: { abs($0 - base) < 4 }) {
        throw GenerateError(
          "E21", at: entry.place,
          "\(entry.path): SPIs \(base)-\(base + 3) overlap \(other)-\(other + 3)",
          means: "a doorbell of one guest would interrupt the other",
          fix: "leave four SPIs from one slot to the next")
      }
      bases.append(base)
    }
    return bases
  }

  static func spans(_ item: YAMLItem) throws(GenerateError) -> [Span] {
    var spans: [Span] = []
    for entry in try item.list() { spans.append(try entry.fields("address", "size").span()) }
    return spans
  }

  private static func regions(_ item: YAMLItem) throws(GenerateError) -> [RootRegion] {
    var regions: [RootRegion] = []
    for entry in try item.list() {
      let fields = try entry.fields("name", "address", "size", "access")
      let region = RootRegion(
        name: try fields.required("name").string(), span: try fields.span(),
        access: try fields.required("access").choice(RootRegion.Access.self))
      if let other = regions.first(where: { $0.span.overlaps(region.span) }) {
        throw GenerateError(
          "E51", at: entry.place,
          "\(entry.path): \(region.name) (\(region.span.text)) overlaps \(other.name) "
            + "(\(other.span.text))",
          means: "the later region silently replaces a part of the earlier one",
          fix: "list each address once")
      }
      regions.append(region)
    }
    return regions
  }

  private static func slots(_ item: YAMLItem?) throws(GenerateError) -> [LinkSlot] {
    guard let item else { return [] }
    var slots: [LinkSlot] = []
    for (name, entry) in try item.entries() {
      guard let kind = LinkKind(rawValue: name.value) else {
        throw GenerateError(
          "Y02", at: name.place, "\(item.path): unknown kind of link '\(name.value)'",
          fix: "known are: \(LinkKind.allCases.map(\.rawValue).joined(separator: ", "))")
      }
      let fields = try entry.fields("bdf", "address", "size")
      slots.append(
        LinkSlot(
          kind: kind, device: try fields.required("bdf").int(0...31), span: try fields.span()))
    }
    return slots
  }

  private static func steps(_ item: YAMLItem?) throws(GenerateError) -> [BringUpStep] {
    guard let item else { return [] }
    var steps: [BringUpStep] = []
    for entry in try item.list() {
      let fields = try entry.fields("say", "run")
      steps.append(
        BringUpStep(
          text: try fields.required("say").string(), commands: try fields["run"]?.strings() ?? []))
    }
    return steps
  }
}

extension BoardIOMMU {
  init(_ item: YAMLItem) throws(GenerateError) {
    let fields = try item.fields("type", "address", "size", "root-streams")
    type = UInt32(try fields.required("type").int(1...5))
    registers = try fields.span()
    guard registers.size <= 0xffff_f000 else {
      throw try fields.required("size").wrong(
        "less than 4 GiB of registers", fix: "Jailhouse keeps the size in 32 bits")
    }
    rootStreams = []
    for entry in try fields["root-streams"]?.list() ?? [] {
      rootStreams.append(UInt32(try entry.number(0...0xffff_ffff)))
    }
  }
}
