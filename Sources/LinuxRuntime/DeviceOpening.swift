import CommandOptions
import IVShmem
import LinuxPCI
import LinuxSupport
import LinuxUIO
import LinuxVFIO

/// How the function of a link is used.
enum DeviceUse: Equatable {
  case uio
  case vfio
}

/// Finds the function of a real link; a pure function of sysfs below `files`.
struct DeviceFinder {
  let files: HostFiles

  /// The function of that name.
  func function(_ name: FunctionName) throws(DeviceError) -> PCIFunction {
    let address =
      switch name {
      case .address(let address): address
      case .node(let path): try address(of: path)
      }
    guard
      let found = PCIFunction(address, folder: "/sys/bus/pci/devices/\(address)", files: files)
    else { throw .absent(address) }
    return found
  }

  /// The function of a real link, and how to use it.
  func find(_ place: LinkPlace) throws(DeviceError) -> (function: PCIFunction, use: DeviceUse) {
    switch place {
    case .simulator: preconditionFailure("a simulated link has no device")
    case .uio(let name): return try (function(name), .uio)
    case .vfio(let address): return try (function(.address(address)), .vfio)
    case .function(let name):
      let found = try function(name)
      return try (found, use(of: found))
    }
  }

  /// The address of the function whose UIO node lies at `path`, or behind a link there.
  private func address(of path: String) throws(DeviceError) -> PCIAddress {
    let target = files.linkName(path) ?? path.split(separator: "/").last.map { String($0) } ?? ""
    guard target.hasPrefix("uio"), !target.contains("/"),
      let folder = files.linkName("/sys/class/uio/\(target)/device"),
      let address = PCIAddress(folder)
    else { throw .noFunction(node: path) }
    return address
  }

  /// What to do with a function whose user did not say: what its driver is for.
  func use(of function: PCIFunction) throws(DeviceError) -> DeviceUse {
    guard function.isIVShmem else {
      throw .otherDevice(vendor: function.vendor, device: function.device)
    }
    switch function.driver {
    case "uio_ivshmem": return .uio
    case "vfio-pci": return .vfio
    case let other:
      throw .driver(found: other, wanted: "uio_ivshmem or vfio-pci", function.address)
    }
  }
}

/// Opens the device of a link.
func openDevice(_ specification: LinkSpecification) throws(UsageError) -> HostPlatform {
  let files = HostFiles()
  do throws(DeviceError) {
    let found = try DeviceFinder(files: files).find(specification.place)
    switch found.use {
    case .uio:
      return try checked(HostPlatform(LinuxUIO(found.function, files: files)), specification)
    case .vfio:
      return try checked(HostPlatform(LinuxVFIO(found.function, files: files)), specification)
    }
  } catch { throw explain(error, link: specification.name) }
}

/// Goes on with a descriptor of a link's device that somebody has kept open.
func adoptDevice(
  _ specification: LinkSpecification, _ kept: consuming Descriptor
) throws(UsageError) -> HostPlatform {
  let files = HostFiles()
  do throws(DeviceError) {
    let found = try DeviceFinder(files: files).find(specification.place)
    switch found.use {
    case .uio:
      return try checked(
        HostPlatform(LinuxUIO(adopting: kept, of: found.function, files: files)), specification)
    case .vfio:
      return try checked(
        HostPlatform(LinuxVFIO(adopting: kept, of: found.function)), specification)
    }
  } catch { throw explain(error, link: specification.name) }
}

private func checked(
  _ platform: consuming HostPlatform, _ specification: LinkSpecification
) throws(DeviceError) -> HostPlatform {
  if let wanted = specification.peer, wanted != platform.peerID {
    throw .otherPeer(platform.peerID.rawValue, wanted: wanted.rawValue)
  }
  return platform
}

/// Why a device is no link, for people.
func explain(_ error: DeviceError, link: String) -> UsageError {
  if case .geometry(let cause) = error { return explain(cause, link: link) }
  return UsageError("link \(link): \(error.text)")
}
