/// A map of a UIO device, as sysfs describes it.
///
/// A reference, as nodes and functions are: each is read once and then handed about a lot.
public final class UIOMap: Equatable, Sendable {
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

  /// Whether two maps say the same.
  public static func == (left: UIOMap, right: UIOMap) -> Bool {
    left.index == right.index && left.name == right.name && left.address == right.address
      && left.size == right.size
  }
}

/// A UIO node of a function, as sysfs describes it.
public final class UIONode: Sendable {
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
public final class PCIFunction: Sendable {
  /// Where it is.
  public let address: PCIAddress
  /// Its folder below `/sys`.
  public let folder: String
  /// The vendor's number.
  public let vendor: UInt16
  /// The device's number.
  public let device: UInt16
  /// Base class, sub-class and interface, 24 bits.
  public let classCode: UInt32
  /// The driver that has it.
  public let driver: String?
  /// Linux' number of its INTx interrupt; 0 when it has none.
  public let interrupt: UInt64
  /// MSI and MSI-X vectors that its driver has in use.
  public let messageInterrupts: [UInt64]
  /// The IOMMU group.
  public let iommuGroup: String?
  /// Its UIO nodes; more than one only when something is wrong.
  public let nodes: [UIONode]
  /// What only those need who show a function to people; empty until it is read.
  public let details: FunctionDetails

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
  ///
  /// - Parameter details: what was read of it before, for those who want it.
  public init?(
    _ address: PCIAddress, folder: String, files: HostFiles,
    details: FunctionDetails = FunctionDetails()
  ) {
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
    self.details = details
    interrupt = number("irq") ?? 0
    messageInterrupts = (files.entries("\(folder)/msi_irqs") ?? []).compactMap { kernelNumber($0) }
    iommuGroup = files.linkName("\(folder)/iommu_group")
    // Folders that only a driver makes are not looked for without one: with many devices each
    // look counts.
    nodes = (driver == nil ? [] : files.entries("\(folder)/uio") ?? []).compactMap {
      UIONode($0, folder: "\(folder)/uio/\($0)", files: files)
    }
  }
}

extension UIONode {
  /// Reads a node; `nil` when it is none.
  convenience init?(_ name: String, folder: String, files: HostFiles) {
    guard let title = files.text("\(folder)/name") else { return nil }
    let maps = (files.entries("\(folder)/maps") ?? []).compactMap { entry -> UIOMap? in
      guard entry.hasPrefix("map"), let index = Int(entry.dropFirst(3)), (0..<64).contains(index),
        let address = files.number("\(folder)/maps/\(entry)/addr"),
        let size = files.number("\(folder)/maps/\(entry)/size")
      else { return nil }
      let name = files.text("\(folder)/maps/\(entry)/name", limit: 64) ?? ""
      return UIOMap(index: index, name: name, address: address, size: size)
    }
    self.init(
      name: name, title: title, events: files.number("\(folder)/event") ?? 0, maps: maps)
  }
}
