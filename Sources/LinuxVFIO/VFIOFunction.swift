import CDevice
import CLinux
import IVShmem
import LinuxMapping
import LinuxPCI
import LinuxSupport
import SharedMemory

/// The steps from a PCI function to mapped memory, each of which can fail in its own way.
enum VFIOFunction {
  /// Opens the device through its group and a container of its own.
  ///
  /// The device keeps both alive: their descriptors are not needed afterwards.
  @inline(never)
  static func open(_ function: PCIFunction, _ files: HostFiles) throws(DeviceError) -> Descriptor {
    try function.expectDriver("vfio-pci")
    guard let group = function.iommuGroup else { throw .noGroup }
    let container = try openNode("/dev/vfio/vfio", files)
    do throws(SystemError) {
      _ = try SystemError.check(cd_container_check(container.number))
    } catch { throw .iommu(error) }
    let path = "/dev/vfio/\(group)"
    let node = try openNode(path, files)
    if cd_group_viable(node.number) == 0 { throw .groupNotViable(group) }
    do throws(SystemError) {
      _ = try SystemError.check(cd_group_attach(node.number, container.number))
    } catch { throw .iommu(error) }
    do throws(SystemError) {
      return try Descriptor(unsafe cd_device_open(node.number, "\(function.address)"))
    } catch { throw .refused("the device", error) }
  }

  private static func openNode(_ path: String, _ files: HostFiles) throws(DeviceError) -> Descriptor
  {
    do throws(SystemError) {
      return try Descriptor(unsafe cl_open(files.root + path, 2, 0))
    } catch {
      switch error.code {
      case SystemError.noEntry where path == "/dev/vfio/vfio": throw .noVFIO
      case SystemError.busy:
        throw .busy(path, holder: NodeHolders.anyone(of: path, files: files) ?? 0)
      default: throw .open(path, error)
      }
    }
  }

  /// Reads the configuration space and lets the device answer: memory accesses and messages on.
  static func prepare(_ device: Int32) throws(DeviceError) -> PCIConfiguration {
    let space = try region(device, UInt32(CD_REGION_CONFIGURATION), "configuration space")
    let count = Int(clamping: min(space.size, 256))
    var bytes = [UInt8](repeating: 0, count: count)
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_read_at(device, base, count, Int64(bitPattern: space.offset))
    }
    let configuration: PCIConfiguration
    do throws(PCIConfigurationError) {
      configuration = try PCIConfiguration(bytes.span.extracting(0..<max(0, min(got, count))))
    } catch { throw .configuration(error) }
    guard configuration.isIVShmem else {
      throw .otherDevice(vendor: configuration.vendor, device: configuration.device)
    }
    // Command: memory space and bus master; a message is a write of the device to memory.
    let command = configuration.command | 6
    try write(
      [UInt8(truncatingIfNeeded: command), UInt8(truncatingIfNeeded: command >> 8)], device,
      space.offset + 4, "memory accesses")
    return configuration
  }

  /// Switches one-shot mode on; whether the device now has it.
  static func switchOneShotOn(_ device: Int32, _ configuration: PCIConfiguration) -> Bool {
    guard let capability = configuration.ivshmem else { return false }
    if capability.isOneShot { return true }
    var space = cd_region()
    guard unsafe cd_region_facts(device, UInt32(CD_REGION_CONFIGURATION), &space) >= 0
    else { return false }
    let at = space.offset + UInt64(capability.privilegedControlOffset)
    var byte = capability.privilegedControl | 1
    let done = unsafe withUnsafeMutablePointer(to: &byte) { byte in
      unsafe cl_write_at(device, byte, 1, Int64(bitPattern: at)) == 1
        && cl_read_at(device, byte, 1, Int64(bitPattern: at)) == 1
    }
    return done && byte & 1 != 0
  }

  private static func write(
    _ bytes: [UInt8], _ device: Int32, _ offset: UInt64, _ what: String
  ) throws(DeviceError) {
    do throws(SystemError) {
      let result = unsafe bytes.withUnsafeBytes { buffer in
        guard let base = buffer.baseAddress else { return 0 }
        return unsafe cl_write_at(device, base, buffer.count, Int64(bitPattern: offset))
      }
      _ = try SystemError.check(result)
    } catch { throw .refused(what, error) }
  }

  /// What VFIO says of a region; everything of it is the kernel's word, which is believed.
  private struct Region {
    let size: UInt64
    let offset: UInt64
    let mayMap: Bool
  }

  private static func region(
    _ device: Int32, _ index: UInt32, _ what: String
  ) throws(DeviceError) -> Region {
    var facts = cd_region()
    do throws(SystemError) {
      _ = try SystemError.check(unsafe cd_region_facts(device, index, &facts))
    } catch { throw .refused(what, error) }
    return Region(size: facts.size, offset: facts.offset, mayMap: facts.may_map != 0)
  }

  /// Registers and sections, mapped.
  struct Parts: ~Copyable {
    let page: RegisterMapping
    let sections: SectionMapping
    let id: PeerID
  }

  /// Maps BAR 0 and BAR 2, each section with its owner's rights.
  static func map(
    _ device: Int32, _ configuration: PCIConfiguration
  ) throws(DeviceError) -> Parts {
    guard let capability = configuration.ivshmem else { throw .noCapability }
    let registers = try region(device, UInt32(CD_REGION_REGISTERS), "the registers")
    guard registers.size >= 0x14 else { throw .bar(0, size: registers.size, needed: 0x14) }
    guard registers.mayMap else { throw .notMappable(0) }
    let memory = try region(device, UInt32(CD_REGION_SECTIONS), "the sections")
    guard memory.size > 0 else { throw .fixedAddress(capability.baseAddress) }
    guard memory.mayMap else { throw .notMappable(2) }
    let page: RegisterMapping
    do throws(SystemError) {
      page = try RegisterMapping(descriptor: device, offset: registers.offset)
    } catch { throw .mapping("registers", error) }
    let id = page.registers.read(.id)
    let geometry = try capability.geometry(
      id: id, maxPeers: page.registers.read(.maximumPeers), pageSize: SectionMapping.pageSize)
    guard memory.size >= UInt64(geometry.totalSize) else {
      throw .bar(2, size: memory.size, needed: UInt64(geometry.totalSize))
    }
    let own = PeerID(UInt16(truncatingIfNeeded: id))
    let sections: SectionMapping
    do throws(SystemError) {
      sections = try place(geometry, own, device, memory.offset)
    } catch { throw .mapping("sections", error) }
    return Parts(page: page, sections: sections, id: own)
  }

  private static func place(
    _ geometry: LinkGeometry, _ own: PeerID, _ device: Int32, _ offset: UInt64
  ) throws(SystemError) -> SectionMapping {
    var sections = try SectionMapping(geometry)
    // All of it for reading, then what this peer may write over it.
    try sections.map(
      0..<geometry.totalSize, isWritable: false, descriptor: device, offset: offset)
    for part in [geometry.readWrite, geometry.output(of: own)] {
      try sections.map(
        part, isWritable: true, descriptor: device, offset: offset + UInt64(part.lowerBound))
    }
    return sections
  }
}
