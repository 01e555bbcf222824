public import LinkFormat
public import LinuxSupport

/// Why a real device cannot be used as a link. Each case has one line that says what was seen, what
/// was expected and what to do.
public enum DeviceError: Error, Equatable, Sendable {
  /// Nothing is at that address.
  case absent(PCIAddress)
  /// The node at that path belongs to no PCI function.
  case noFunction(node: String)
  /// The function is another device: its vendor and device id.
  case otherDevice(vendor: UInt16, device: UInt16)
  /// Another driver has the function, or none has.
  case driver(found: String?, wanted: String, PCIAddress)
  /// The function's driver made no UIO node.
  case noNode
  /// The UIO node has no map of that name: it is of another driver, or the section is not there.
  case noMap(String, title: String)
  /// A map has another size or place than the device's registers ask for.
  case map(String, found: UInt64, expected: UInt64)
  /// A section is no multiple of this kernel's pages.
  case section(String, size: UInt64, page: UInt64)
  /// The sizes make no link.
  case geometry(GeometryError)
  /// The function has no interrupt.
  case noInterrupt
  /// Somebody has the device; the process, 0 when it is not known.
  case busy(String, holder: Int32)
  /// No lock can be taken.
  case lock(String, SystemError)
  /// The device is another peer than the one that was asked for.
  case otherPeer(UInt16, wanted: UInt16)
  /// A node cannot be opened.
  case open(String, SystemError)
  /// The kept descriptor is of another device.
  case otherDescriptor(String)
  /// A part of the device cannot be mapped.
  case mapping(String, SystemError)
  /// The kernel has no VFIO.
  case noVFIO
  /// The function is in no IOMMU group.
  case noGroup
  /// Another function of the IOMMU group is in use by a driver of the host.
  case groupNotViable(String)
  /// The IOMMU cannot be used.
  case iommu(SystemError)
  /// VFIO refuses: what was asked for, and what it said.
  case refused(String, SystemError)
  /// The configuration space makes no sense.
  case configuration(PCIConfigurationError)
  /// The vendor-specific capability with the sizes is missing.
  case noCapability
  /// The shared memory is at a fixed address, not in BAR 2.
  case fixedAddress(UInt64?)
  /// A base address register is too small for the sections.
  case bar(Int, size: UInt64, needed: UInt64)
  /// A base address register cannot be mapped.
  case notMappable(Int)

  /// The line, without the device's name.
  public var text: String {
    switch self {
    case .absent(let address):
      "no PCI function \(address); 'ivshmem list' shows what is there"
    case .noFunction(let node):
      "\(node) is no UIO node of a PCI function; 'ivshmem list' shows the nodes"
    case .otherDevice(0x1af4, 0x1110):
      "it is QEMU's ivshmem of version 1 (1af4:1110), expected version 2 (110a:4106)"
    case .otherDevice(let vendor, let device):
      "it is \(hexText(vendor, width: 4)):\(hexText(device, width: 4)), expected an ivshmem-v2"
        + " device (110a:4106); 'ivshmem list' shows them"
    case .driver(nil, let wanted, let address):
      "no driver has it, expected \(wanted); 'ivshmem bind \(address)' gives it one"
    // The module is virtio_ivshmem, the driver's own name has a dash.
    case .driver("virtio-ivshmem", _, _):
      "virtio_ivshmem has it: this kernel's own driver is the front-end; unbind it to use the link"
    case .driver(let found?, let wanted, let address):
      "its driver is \(found), expected \(wanted); 'ivshmem bind \(address)' changes it"
    case .noNode: "uio_ivshmem has it but made no UIO node; see the kernel's log (dmesg)"
    case .noMap(let name, let title):
      "its UIO node '\(title)' has no map '\(name)', expected the maps of uio_ivshmem; is another"
        + " driver bound?"
    case .map(let name, let found, let expected):
      "its map \(name) has 0x\(hexText(found)) where its registers say 0x\(hexText(expected));"
        + " the configurations of the cells disagree"
    case .section(let name, let size, let page):
      "its \(name) has \(size) bytes, expected a multiple of this kernel's pages of \(page);"
        + " change the cells' configuration or use a kernel with smaller pages"
    case .geometry(let cause): "its sizes make no link: \(cause)"
    default: more
    }
  }

  private var more: String {
    switch self {
    case .noInterrupt:
      "it has no interrupt (irq 0, no MSI vectors), expected at least one; give its cell a vPCI"
        + " interrupt"
    case .busy(let what, let holder):
      "\(what) is in use" + (holder > 0 ? " by process \(holder)" : "")
        + "; stop whoever has it: a second user would take the link down"
    case .lock(let path, let cause):
      "no lock \(path): \(cause.text); may you write to its folder?"
    case .otherPeer(let own, let wanted):
      "its device is peer \(own) and stays so, asked for was \(wanted); leave peer=\(wanted) out"
    case .open(let node, let cause) where cause.code == SystemError.noAccess:
      "\(node): \(cause.text); run as root, or as a member of the node's group"
    case .open(let node, let cause): "\(node): \(cause.text)"
    case .otherDescriptor(let node): "the kept descriptor is not of \(node)"
    case .mapping(let name, let cause): "mapping its \(name) failed: \(cause.text)"
    case .noVFIO:
      "no /dev/vfio/vfio: this kernel has no vfio or it is not loaded; modprobe vfio-pci, or use"
        + " uio_ivshmem"
    case .noGroup:
      "it is in no IOMMU group, which vfio-pci needs; boot with an IOMMU (intel_iommu=on), or use"
        + " uio_ivshmem"
    case .groupNotViable(let group):
      "another function of its IOMMU group \(group) has a driver of the host; give vfio-pci all of"
        + " the group, or use uio_ivshmem"
    case .iommu(let cause): "the IOMMU cannot be used: \(cause.text); use uio_ivshmem"
    case .refused(let what, let cause): "vfio refuses \(what): \(cause.text)"
    case .configuration(let cause): "its configuration space makes no sense (\(cause))"
    case .noCapability:
      "its configuration space lacks the vendor capability with the sizes; is it ivshmem-v2?"
    case .fixedAddress(let base):
      "its shared memory is at a fixed address"
        + (base.map { " (0x\(hexText($0)))" } ?? "")
        + ", not in BAR 2, and vfio cannot map that; use uio_ivshmem"
    case .bar(let bar, let size, let needed):
      "BAR \(bar) has \(size) bytes, expected \(needed) for its sections"
    case .notMappable(let bar): "BAR \(bar) cannot be mapped by vfio; use uio_ivshmem"
    default: "it cannot be used"
    }
  }
}

extension PCIFunction {
  /// Whether this is an ivshmem-v2 device that `driver` has.
  ///
  /// - Throws: what it is, or who has it.
  public func expectDriver(_ wanted: String) throws(DeviceError) {
    guard isIVShmem else { throw .otherDevice(vendor: vendor, device: device) }
    guard driver == wanted else { throw .driver(found: driver, wanted: wanted, address) }
  }
}
