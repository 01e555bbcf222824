import CLinux
import CUdev

/// A PCI function, UIO node or VFIO node that came, went or changed its driver.
public struct DeviceEvent: Equatable, Sendable {
  /// `add`, `remove`, `bind`, `unbind`, `change`.
  public let action: String
  /// `pci`, `uio` or `vfio`.
  public let subsystem: String
  /// Its folder below `/sys`.
  public let folder: String

  /// The PCI function it belongs to: the last part of the folder that is an address.
  public var address: PCIAddress? {
    var found: PCIAddress?
    for part in folder.split(separator: "/") { found = PCIAddress(part) ?? found }
    return found
  }
}

/// Hears of devices that come and go, through libudev: after udev's rules have run, or from the
/// kernel where no udevd runs.
@safe
public struct DeviceMonitor: ~Copyable {
  private let monitor: OpaquePointer

  /// Begins to listen: what happens from now on is heard.
  public init() throws(DiscoveryError) {
    try PCIDiscovery.load()
    guard let monitor = unsafe cu_monitor_open() else { throw .noEvents }
    unsafe self.monitor = monitor
  }

  deinit { unsafe cu_monitor_close(monitor) }

  /// Readable when an event waits.
  public var descriptor: Int32 { unsafe cu_monitor_descriptor(monitor) }

  /// The next event that has arrived; `nil` when none waits.
  public func next() -> DeviceEvent? {
    guard unsafe cu_monitor_next(monitor) != 0 else { return nil }
    // SAFETY: the texts live until the next event is taken.
    return unsafe DeviceEvent(
      action: String(cString: cu_monitor_action(monitor)),
      subsystem: String(cString: cu_monitor_subsystem(monitor)),
      folder: String(cString: cu_monitor_folder(monitor)))
  }
}
