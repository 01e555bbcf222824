import CUdev

/// Why devices cannot be looked for.
public enum DiscoveryError: Error, Equatable, Sendable {
  /// libudev is not there; what the loader said.
  case noLibrary(String)
  /// sysfs has no PCI, or cannot be read.
  case noBus(String)
  /// Events of devices cannot be heard.
  case noEvents

  /// One line with the way out.
  public var text: String {
    switch self {
    case .noLibrary(let reason):
      "libudev cannot be loaded (\(reason)); install the package libudev1, or give --root / to"
        + " read sysfs without it"
    case .noBus(let folder):
      "\(folder) cannot be read; is sysfs mounted, and has the kernel PCI (CONFIG_PCI)?"
    case .noEvents: "no netlink socket for device events; are netlink sockets forbidden here?"
    }
  }
}

/// Finds PCI functions: through libudev, or by walking a copy of sysfs.
public struct PCIDiscovery: Sendable {
  /// Where it looks.
  public let files: HostFiles
  private let isWalking: Bool
  private static var bus: String { "/sys/bus/pci/devices" }

  /// Looks at the running system through libudev.
  public init() throws(DiscoveryError) {
    try Self.load()
    files = HostFiles()
    isWalking = false
  }

  /// Looks at the tree below `root` (`/` for the running system) without libudev.
  public init(root: String) {
    files = HostFiles(root: root)
    isWalking = true
  }

  static func load() throws(DiscoveryError) {
    var reason: UnsafePointer<CChar>? = nil
    guard unsafe cu_load(&reason) != 0 else { return }
    throw .noLibrary(unsafe reason.map { unsafe String(cString: $0) } ?? "no reason given")
  }

  /// Every PCI function, by address.
  public func all() throws(DiscoveryError) -> [PCIFunction] {
    try some { _ in true }
  }

  /// The functions of ivshmem devices, both versions, by address.
  public func ivshmem() throws(DiscoveryError) -> [PCIFunction] {
    try some { folder in
      switch files.number("\(folder)/vendor") {
      case 0x110a: files.number("\(folder)/device") == 0x4106
      case 0x1af4: files.number("\(folder)/device") == 0x1110
      default: false
      }
    }
  }

  /// The function at an address; `nil` when nothing is there.
  public func function(at address: PCIAddress) throws(DiscoveryError) -> PCIFunction? {
    try some { $0.hasSuffix("/\(address)") }.first
  }

  private func some(_ isWanted: (String) -> Bool) throws(DiscoveryError) -> [PCIFunction] {
    var found: [PCIFunction] = []
    for folder in try folders() {
      guard let name = folder.split(separator: "/").last, let address = PCIAddress(name),
        isWanted(folder),
        let function = PCIFunction(
          address, folder: folder, files: files,
          details: FunctionDetails(folder: folder, files: files))
      else { continue }
      found.append(function)
    }
    return found.sorted { $0.address < $1.address }
  }

  private func folders() throws(DiscoveryError) -> [String] {
    if isWalking {
      guard let names = files.entries(Self.bus) else { throw .noBus(files.root + Self.bus) }
      return names.map { "\(Self.bus)/\($0)" }
    }
    guard let folders = unsafe HostFiles.strings(cu_pci_folders()) else { throw .noBus(Self.bus) }
    return folders
  }

  /// The names that udev rules gave a UIO node; empty without udev.
  public func links(of node: UIONode, on function: PCIFunction) -> [String] {
    guard !isWalking else { return [] }
    return unsafe HostFiles.strings(cu_node_links("\(function.folder)/uio/\(node.name)")) ?? []
  }
}
