import CLinux
import CommandOptions
import LinkNames
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem bind` and `ivshmem unbind`: gives a device to a driver, or takes it away.
struct BindTool {
  static var page: HelpPage {
    HelpPage(
      name: "bind", usage: "bind BDF [--driver NAME] [--wait SECONDS] [--root DIR]",
      summary: "Gives a device to a driver and waits for the node",
      details: """
        The driver is uio_ivshmem where the kernel has it, else vfio-pci; virtio-ivshmem and
        ivshmem-net may be named too. It writes driver_override, and new_id where the kernel is too
        old for that. A device that a process has open is left alone.
        """,
      options: [
        OptionSpecification("driver", "NAME", "uio_ivshmem, vfio-pci, virtio-ivshmem, ..."),
        OptionSpecification("wait", "SECONDS", "how long the node is waited for (default 5)"),
        BoardOptions.json, BoardOptions.root, BoardOptions.help,
      ], keys: keys)
  }

  static var unbindPage: HelpPage {
    HelpPage(
      name: "unbind", usage: "unbind BDF [--root DIR]",
      summary: "Takes a device from its driver",
      details: "The device's state becomes 0. A device that a process has open is left alone.",
      options: [BoardOptions.json, BoardOptions.root, BoardOptions.help], keys: keys)
  }

  private static var keys: [(name: String, meaning: String)] {
    [
      ("bdf", "the device"), ("driver", "the driver that has it now, or null"),
      ("node", "the node of the driver, or null"),
    ]
  }

  private let given: CommandOptions
  private let address: PCIAddress
  private let patience: UInt64

  init(_ given: CommandOptions, _ verb: String) throws(ClientError) {
    address = try BoardOptions.address(given, verb)
    self.given = given
    do throws(UsageError) {
      patience = try given.number("wait", in: 0...3600, default: 5) * 1_000_000_000
    } catch { throw .usage(error) }
    if let driver = given.value("driver"),
      driver.isEmpty || driver.utf8.contains(47) || driver.utf8.contains(10)
    {
      throw .usage(UsageError("--driver \(driver): expected a driver's name, as uio_ivshmem"))
    }
  }

  // MARK: Bind

  func bind() throws(ClientError) -> Int32 {
    let discovery = try BoardOptions.discovery(given)
    let device = try BoardOptions.device(at: address, discovery)
    let files = discovery.files
    let driver = try chooseDriver(files)
    if device.function.driver == driver {
      return tell(try waitForNode(discovery, driver))
    }
    try refuseHeld(device.function, files)
    if device.function.driver != nil { try write("\(address)", "driver/unbind", device, files) }
    if files.exists("\(device.function.folder)/driver_override") {
      try write(driver + "\n", "driver_override", device, files)
      try write("\(address)", at: "/sys/bus/pci/drivers_probe", files)
    } else {
      try addID(driver, device, files)
    }
    return tell(try waitForNode(discovery, driver))
  }

  private func chooseDriver(_ files: HostFiles) throws(ClientError) -> String {
    func isThere(_ name: String) -> Bool { files.exists("/sys/bus/pci/drivers/\(name)") }
    if let name = given.value("driver") {
      if isThere(name) { return name }
      throw .usage(
        UsageError("the kernel has no PCI driver \(name) loaded; modprobe \(name)?"))
    }
    for name in ["uio_ivshmem", "vfio-pci"] where isThere(name) { return name }
    throw .usage(
      UsageError(
        "the kernel has neither uio_ivshmem nor vfio-pci loaded; modprobe one of them, or see"
          + " 'ivshmem doctor'"))
  }

  /// An unbind under a running program would end its link; every close resets the state.
  private func refuseHeld(_ function: PCIFunction, _ files: HostFiles) throws(ClientError) {
    let holders = NodeHolders(of: function.nodePaths, files: files)
    guard let holder = holders.processes.first else { return }
    throw .failed(
      "\(address) is open in \(processText(holder)); stop it first, its link would end")
  }

  private func write(
    _ text: String, _ name: String, _ device: LinkDevice, _ files: HostFiles
  ) throws(ClientError) {
    try write(text, at: "\(device.function.folder)/\(name)", files)
  }

  private func write(
    _ text: String, at path: String, _ files: HostFiles
  ) throws(ClientError) {
    do throws(SystemError) {
      try files.write(text, to: path)
    } catch {
      throw .failed(
        "\(path): \(error.text)"
          + (error.code == SystemError.noAccess ? "; binding needs root" : ""))
    }
  }

  /// vendor device subvendor subdevice class mask, hexadecimal (linux-uio facts, section 1.4).
  private func addID(
    _ driver: String, _ device: LinkDevice, _ files: HostFiles
  ) throws(ClientError) {
    let function = device.function
    func four(_ value: UInt16) -> String { hexText(value, width: 4) }
    let line =
      "\(four(function.vendor)) \(four(function.device)) \(four(function.subsystemVendor))"
      + " \(four(function.subsystem)) \(hexText(function.classCode, width: 6)) ffffff"
    let folder = "/sys/bus/pci/drivers/\(driver)"
    do throws(SystemError) {
      try files.write(line, to: "\(folder)/new_id")
    } catch {
      // The id is known already, from an earlier device: then it only has to be bound.
      guard error.code == SystemError.exists else {
        throw .failed("\(folder)/new_id: \(error.text)")
      }
      try write("\(address)", at: "\(folder)/bind", files)
    }
  }

  private func waitForNode(
    _ discovery: PCIDiscovery, _ driver: String
  ) throws(ClientError) -> PCIFunction {
    // Where udev is not asked, or has no netlink socket to give, time is what ends the wait.
    let isDeaf = discovery.files.isCopy
    let monitor: DeviceMonitor? = isDeaf ? nil : try? DeviceMonitor()
    let descriptor = Self.descriptor(monitor)
    let end = cl_monotonic_ns() + patience
    while true {
      let function = try BoardOptions.device(at: address, discovery).function
      if function.driver == driver, isReady(function, discovery.files) { return function }
      let now = cl_monotonic_ns()
      guard now < end, cl_stop_requested() == 0 else {
        throw .failed(
          function.driver == driver
            ? "\(address): \(driver) has it, and no node appeared"
            : "\(address): \(driver) did not take it (it has \(function.driver ?? "no driver"));"
              + " read the kernel's log")
      }
      var entry = cl_poll_entry(
        fd: descriptor, events: Int16(CL_POLL_IN), revents: 0)
      // Rights are set by rules after the node is there: looked at again, at the latest soon.
      _ = unsafe cl_poll_ns(&entry, 1, Int64(min(end - now, 50_000_000)))
      Self.drain(monitor)
    }
  }

  private static func descriptor(_ monitor: borrowing DeviceMonitor?) -> Int32 {
    switch monitor {
    case .some(let monitor): monitor.descriptor
    case .none: -1
    }
  }

  private static func drain(_ monitor: borrowing DeviceMonitor?) {
    switch monitor {
    case .some(let monitor): while monitor.next() != nil {}
    case .none: break
    }
  }

  /// Kernel drivers with devices of their own (virtio, net) have no node to wait for.
  private func isReady(_ function: PCIFunction, _ files: HostFiles) -> Bool {
    switch function.driver {
    case "uio_ivshmem", "vfio-pci", "uio_pci_generic":
      function.nodePaths.contains { files.exists($0) }
    default: true
    }
  }

  // MARK: Unbind

  func unbind() throws(ClientError) -> Int32 {
    let discovery = try BoardOptions.discovery(given)
    let device = try BoardOptions.device(at: address, discovery)
    let files = discovery.files
    guard device.function.driver != nil else {
      return tell(device.function)
    }
    try refuseHeld(device.function, files)
    // The choice goes first: otherwise the next rescan would bind it again.
    if device.function.driverOverride != nil {
      try write("\n", "driver_override", device, files)
    }
    try write("\(address)", "driver/unbind", device, files)
    let now = try BoardOptions.device(at: address, discovery)
    guard now.function.driver == nil || files.isCopy else {
      throw .failed("\(address): it still belongs to \(now.function.driver ?? "")")
    }
    return tell(now.function)
  }

  private func tell(_ function: PCIFunction) -> Int32 {
    let node = function.nodePaths.first
    if given.has("json") {
      var object = JSONObject()
      object.add("bdf", "\(address)")
      object.add("driver", function.driver)
      object.add("node", node)
      writeOutput(object.text + "\n")
    } else {
      writeOutput(
        "\(address): driver \(function.driver ?? "none")" + (node.map { ", node \($0)" } ?? "")
          + "\n")
    }
    return 0
  }
}
