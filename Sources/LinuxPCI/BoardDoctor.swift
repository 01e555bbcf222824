import LinkFormat

/// Something that is wrong, and what to do.
public struct BoardFinding: Equatable, Sendable {
  /// A stable name for scripts.
  public let name: String
  /// The device's address, or `system`.
  public let subject: String
  /// What was seen, and what was expected.
  public let text: String
  /// What to do.
  public let fix: String
}

/// Looks for what keeps the links of a system from working. It reads files and opens no node.
public struct BoardDoctor: Sendable {
  /// What is wrong, the system first.
  public private(set) var findings: [BoardFinding] = []
  /// What could not be looked at.
  public private(set) var notes: [String] = []
  let files: HostFiles
  let functions: [PCIFunction]
  let devices: [LinkDevice]
  let options: KernelOptions?
  let memory: [MemoryResource]
  let interrupts: [InterruptCount]
  let bridges: [HostBridge]
  let pageSize: UInt64
  /// Whether this is a root cell: Jailhouse's driver is there.
  let isRootCell: Bool

  /// Takes in what is to be judged.
  ///
  /// - Parameter functions: all PCI functions.
  /// - Parameter pageSize: of the kernel, in bytes.
  public init(_ functions: [PCIFunction], files: HostFiles, pageSize: UInt64) {
    self.files = files
    self.functions = functions
    self.pageSize = pageSize
    devices = functions.filter { $0.isIVShmem }.map { LinkDevice($0) }
    options = KernelOptions.find(files)
    memory = MemoryResource.parse(files.text("/proc/iomem", limit: 1 << 20) ?? "")
    interrupts = InterruptCount.parse(files.text("/proc/interrupts", limit: 1 << 20) ?? "")
    bridges = HostBridge.find(files)
    isRootCell = files.exists("/sys/devices/jailhouse")
  }

  mutating func find(_ name: String, _ subject: String, _ text: String, fix: String) {
    findings.append(BoardFinding(name: name, subject: subject, text: text, fix: fix))
  }

  /// Looks at everything once.
  public mutating func examine() {
    if options == nil {
      notes.append(
        "the kernel's options are unknown: neither /proc/config.gz nor /boot/config-RELEASE")
    }
    if memory.isEmpty { notes.append("/proc/iomem hides its addresses: run as root") }
    examineBridges()
    if devices.isEmpty { examineAbsence() }
    for function in functions where function.isOldIVShmem { examineOld(function) }
    examineDrivers()
    for device in devices { examine(device) }
  }

  // MARK: The system

  private mutating func examineBridges() {
    for bridge in bridges {
      // Jailhouse's window for BARs follows the configuration space (device-tree facts, section 1).
      let hit = memory.first {
        $0.owner == "reserved" && $0.overlaps(bridge.start, bridge.size + 0x20_0000)
      }
      if let hit {
        find(
          "bridge-reserved", "system",
          "the virtual host bridge \(bridge.node) lies in memory that is 'reserved' in /proc/iomem"
            + " (from 0x\(hexText(hit.start))), so that its probe fails with a resource collision",
          fix: "take the node for it out of reserved-memory in the root cell's device tree; leave"
            + " that range out of /memory instead")
      } else if !bridge.isBound {
        find(
          "bridge-unbound", "system", "no driver has the virtual host bridge \(bridge.node)",
          fix: "enable CONFIG_PCI_HOST_GENERIC, and read the kernel's log for pci-host-generic")
      }
    }
  }

  private mutating func examineAbsence() {
    let isArm = options?.has("ARM64") == true
    if let options, isArm, !options.has("PCI_HOST_GENERIC") {
      find(
        "no-host-generic", "system",
        "no ivshmem device, and the kernel has no generic PCI host bridge (\(options.source))",
        fix: "build the kernel with CONFIG_PCI_HOST_GENERIC=y")
    }
    if let options, isRootCell, bridges.isEmpty, !options.has("OF_OVERLAY") {
      find(
        "no-overlay", "system",
        "no ivshmem device, and the kernel cannot take Jailhouse's device-tree overlay with the"
          + " virtual host bridge (\(options.source))",
        fix: "build the kernel with CONFIG_OF_OVERLAY=y")
    }
    if isRootCell, files.text("/sys/devices/jailhouse/enabled") == "0" {
      find(
        "not-enabled", "system", "Jailhouse is loaded and not enabled: no cell has its devices yet",
        fix: "jailhouse enable ROOT.cell")
    }
    guard findings.isEmpty else { return }
    find(
      "no-device", "system", "no PCI function is 110a:4106, ivshmem version 2",
      fix: isRootCell
        ? "give the cell an ivshmem device: 'ivshmem cell show' and 'ivshmem cell check' read its"
          + " configuration"
        : "in a Jailhouse guest, add pci_devices of type IVSHMEM to the cell and a pci node to its"
          + " device tree; in a virtual machine, start ivshmem-sim and QEMU with vfio-user-pci")
  }

  private mutating func examineOld(_ function: PCIFunction) {
    find(
      "version-1", "\(function.address)",
      "this is 1af4:1110, ivshmem version 1: it has no state table, no sections and no protocol",
      fix: "replace QEMU's ivshmem-plain or ivshmem-doorbell by ivshmem version 2 (ivshmem-sim with"
        + " vfio-user-pci)")
  }

  /// Whether a driver is there, or a module of its name.
  func hasDriver(_ name: String) -> Bool {
    if files.exists("/sys/bus/pci/drivers/\(name)") { return true }
    let release = files.text("/proc/sys/kernel/osrelease") ?? ""
    let file = Array("/\(name).ko".utf8)
    let other = Array("/\(name.split(separator: "_").joined(separator: "-")).ko".utf8)
    for list in ["modules.dep", "modules.builtin"] {
      guard let bytes = try? files.bytes("/lib/modules/\(release)/\(list)", limit: 4 << 20) else {
        continue
      }
      if Self.contains(bytes, file) || Self.contains(bytes, other) { return true }
    }
    return false
  }

  private static func contains(_ bytes: [UInt8], _ part: [UInt8]) -> Bool {
    guard let first = part.first, bytes.count >= part.count else { return false }
    for start in 0...(bytes.count - part.count) where bytes[start] == first {
      if bytes[start..<start + part.count].elementsEqual(part) { return true }
    }
    return false
  }

  private mutating func examineDrivers() {
    let lacking = devices.contains { $0.function.driver == nil }
    guard lacking, !hasDriver("uio_ivshmem") else { return }
    let hasIOMMU = devices.allSatisfy { $0.function.iommuGroup != nil }
    if !hasDriver("vfio-pci"), !hasDriver("vfio_pci") {
      find(
        "no-driver-here", "system",
        "this kernel has neither uio_ivshmem nor vfio-pci, one of which has to drive the devices",
        fix: "install the package cellmate-dkms, or a kernel with CONFIG_VFIO_PCI")
    } else if !hasIOMMU {
      find(
        "no-iommu", "system",
        "there is no uio_ivshmem, and vfio-pci needs an IOMMU, which the devices are not behind",
        fix: "install the package cellmate-dkms; or give the machine an IOMMU (kernel argument"
          + " intel_iommu=on, QEMU: -device intel-iommu or virtio-iommu-pci)")
    }
  }

  // MARK: One device

  private mutating func examine(_ device: LinkDevice) {
    let subject = "\(device.function.address)"
    if let error = device.configurationError {
      find(
        "bad-configuration", subject, "its configuration space makes no sense (\(error))",
        fix: "is the cell or machine behind it still running? Rescan: echo 1 > /sys/bus/pci/rescan")
      return
    }
    examineClass(device, subject)
    examineDriver(device, subject)
    examineSections(device, subject)
    examineInterrupts(device, subject)
    examineRights(device, subject)
    examineGroup(device, subject)
  }

  private mutating func examineClass(_ device: LinkDevice, _ subject: String) {
    let code = hexText(device.function.classCode, width: 6)
    switch device.linkProtocol {
    case nil:
      find(
        "foreign-class", subject, "class \(code): an ivshmem device has base class ff",
        fix: "correct shmem_protocol of the device")
    case .virtioFrontEnd where isRootCell:
      find(
        "front-end-in-root", subject,
        "class \(code) is a front-end, in the root cell where the back-end runs",
        fix: "exchange the roles: shmem_protocol ffc0NN in the root cell's configuration, ff80NN in"
          + " the other cell's")
    case .reserved:
      find(
        "reserved-class", subject, "class \(code) is of the reserved range 0002 to 3fff",
        fix: "use 0000, 0001, 4000 to 7fff, or a virtio class in shmem_protocol")
    default: break
    }
  }
}
