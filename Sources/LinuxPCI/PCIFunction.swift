/// A range of addresses of a PCI function, a line of sysfs' `resource`.
public struct PCIResource: Equatable, Sendable {
  /// 0 to 5: the base address register.
  public let bar: Int
  /// The first address; 0 without privilege on some kernels.
  public let start: UInt64
  /// Bytes.
  public let size: UInt64
  /// The kernel's flags (IORESOURCE_*).
  public let flags: UInt64

  /// Whether it is memory, not I/O ports (IORESOURCE_MEM).
  public var isMemory: Bool { flags & 0x200 != 0 }

  /// The used ones of the first six lines of `resource`: start, end and flags in hexadecimal.
  public static func parse(_ text: String) -> [PCIResource] {
    var found: [PCIResource] = []
    for (bar, line) in text.split(separator: "\n").prefix(6).enumerated() {
      let words = line.split(separator: " ")
      guard words.count == 3, let start = kernelNumber(words[0]), let end = kernelNumber(words[1]),
        let flags = kernelNumber(words[2]), flags != 0, end >= start, end - start < .max
      else { continue }
      found.append(PCIResource(bar: bar, start: start, size: end - start + 1, flags: flags))
    }
    return found
  }
}

/// A map of a UIO device, as sysfs describes it.
public struct UIOMap: Equatable, Sendable {
  /// 0 to 4; its place in the node is this number times the page size.
  public let index: Int
  /// `registers`, `state_table`, ...; maps are found by name, never by number.
  public let name: String
  /// The first address.
  public let address: UInt64
  /// Bytes.
  public let size: UInt64

  /// States a map.
  public init(index: Int, name: String, address: UInt64, size: UInt64) {
    self.index = index
    self.name = name
    self.address = address
    self.size = size
  }
}

/// A UIO node of a function, as sysfs describes it.
public struct UIONode: Equatable, Sendable {
  /// `uioN`.
  public let name: String
  /// What the driver calls the device, `uio_ivshmem[0001:00:03.0]`.
  public let title: String
  /// Interrupts counted so far.
  public let events: UInt64
  /// Its maps, by number.
  public let maps: [UIOMap]

  /// States a node.
  public init(name: String, title: String, events: UInt64, maps: [UIOMap]) {
    self.name = name
    self.title = title
    self.events = events
    self.maps = maps
  }

  /// The device node.
  public var path: String { "/dev/\(name)" }

  /// The map of that name.
  public func map(_ name: String) -> UIOMap? { maps.first { $0.name == name } }
}

/// What sysfs tells of a PCI function. Reading it opens no device node.
public struct PCIFunction: Equatable, Sendable {
  /// Where it is.
  public let address: PCIAddress
  /// Its folder below `/sys`.
  public let folder: String
  /// The vendor's number.
  public let vendor: UInt16
  /// The device's number.
  public let device: UInt16
  /// The subsystem's vendor.
  public let subsystemVendor: UInt16
  /// The subsystem's number.
  public let subsystem: UInt16
  /// Base class, sub-class and interface, 24 bits.
  public let classCode: UInt32
  /// The driver that has it.
  public let driver: String?
  /// The only driver it may be given to, when one was chosen.
  public let driverOverride: String?
  /// Configuration space, as far as this user may read: 64 bytes without privilege.
  public let configuration: [UInt8]
  /// Its address ranges.
  public let resources: [PCIResource]
  /// Linux' number of its INTx interrupt; 0 when it has none.
  public let interrupt: UInt64
  /// MSI and MSI-X vectors that its driver has in use.
  public let messageInterrupts: [UInt64]
  /// The IOMMU group.
  public let iommuGroup: String?
  /// Its UIO nodes; more than one only when something is wrong.
  public let nodes: [UIONode]
  /// Nodes of the VFIO device interface, `vfioN`.
  public let vfioDevices: [String]

  /// Whether it is an ivshmem device of version 2.
  public var isIVShmem: Bool { vendor == 0x110a && device == 0x4106 }
  /// Whether it is QEMU's ivshmem device of version 1, which is another device.
  public var isOldIVShmem: Bool { vendor == 0x1af4 && device == 0x1110 }

  /// The nodes through which a program would use it.
  public var nodePaths: [String] {
    var paths = nodes.map { $0.path }
    if driver == "vfio-pci", let group = iommuGroup { paths.append("/dev/vfio/\(group)") }
    return paths
  }

  /// Reads a function; `nil` when it went away meanwhile.
  public init?(_ address: PCIAddress, folder: String, files: HostFiles) {
    func number(_ name: String) -> UInt64? { files.number("\(folder)/\(name)") }
    guard let vendor = number("vendor"), let device = number("device"),
      let classCode = number("class")
    else { return nil }
    self.address = address
    self.folder = folder
    self.vendor = UInt16(truncatingIfNeeded: vendor)
    self.device = UInt16(truncatingIfNeeded: device)
    self.classCode = UInt32(truncatingIfNeeded: classCode) & 0xff_ffff
    let driver = files.linkName("\(folder)/driver")
    self.driver = driver
    let wanted = files.text("\(folder)/driver_override") ?? ""
    driverOverride = wanted.isEmpty || wanted == "(null)" ? nil : wanted
    let configuration = (try? files.bytes("\(folder)/config", limit: 256)) ?? []
    self.configuration = configuration
    if configuration.count >= 64 {
      subsystemVendor = UInt16(configuration[0x2c]) | UInt16(configuration[0x2d]) << 8
      subsystem = UInt16(configuration[0x2e]) | UInt16(configuration[0x2f]) << 8
    } else {
      subsystemVendor = UInt16(truncatingIfNeeded: number("subsystem_vendor") ?? 0)
      subsystem = UInt16(truncatingIfNeeded: number("subsystem_device") ?? 0)
    }
    resources = PCIResource.parse(files.text("\(folder)/resource") ?? "")
    interrupt = number("irq") ?? 0
    messageInterrupts = (files.entries("\(folder)/msi_irqs") ?? []).compactMap { kernelNumber($0) }
    iommuGroup = files.linkName("\(folder)/iommu_group")
    // Folders that only a driver makes are not looked for without one: with many devices each
    // look counts.
    nodes = (driver == nil ? [] : files.entries("\(folder)/uio") ?? []).compactMap {
      UIONode($0, folder: "\(folder)/uio/\($0)", files: files)
    }
    vfioDevices = driver == "vfio-pci" ? files.entries("\(folder)/vfio-dev") ?? [] : []
  }
}

extension UIONode {
  /// Reads a node; `nil` when it is none.
  init?(_ name: String, folder: String, files: HostFiles) {
    guard let title = files.text("\(folder)/name") else { return nil }
    self.name = name
    self.title = title
    events = files.number("\(folder)/event") ?? 0
    maps = (files.entries("\(folder)/maps") ?? []).compactMap { entry in
      guard entry.hasPrefix("map"), let index = Int(entry.dropFirst(3)), (0..<64).contains(index),
        let address = files.number("\(folder)/maps/\(entry)/addr"),
        let size = files.number("\(folder)/maps/\(entry)/size")
      else { return nil }
      let name = files.text("\(folder)/maps/\(entry)/name", limit: 64) ?? ""
      return UIOMap(index: index, name: name, address: address, size: size)
    }
  }
}
