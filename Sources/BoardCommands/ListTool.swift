import CLinux
import CommandOptions
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem list`: every ivshmem device of this system, from sysfs; no node is opened.
struct ListTool {
  static var page: HelpPage {
    HelpPage(
      name: "list", usage: "list [--json] [--follow] [--root DIR]",
      summary: "Shows every ivshmem device of this system, decoded",
      details: """
        It reads sysfs and opens no device node, so it never disturbs a link. Without privilege the
        kernel shows 64 bytes of the configuration space: then sizes come from the maps of the UIO
        driver, and what stays unknown is '?'. Other devices of the name (version 1) are told apart.
        """,
      options: [
        BoardOptions.json,
        OptionSpecification("follow", "then a line for every device that comes, goes or is bound"),
        BoardOptions.root, BoardOptions.help,
      ],
      keys: DeviceDescription.keys.map { ("devices[].\($0.name)", $0.meaning) } + [
        ("others[]", "bdf, id and meaning of devices that are mistaken for ivshmem-v2"),
        ("event", "--follow, a line each: add, remove, bind, unbind or change; with"),
        ("subsystem, bdf, path", "pci, uio or vfio; the device's address; its folder in sysfs"),
      ])
  }

  private let given: CommandOptions

  init(_ given: CommandOptions) throws(ClientError) {
    try BoardOptions.none(given)
    if given.has("follow"), given.has("root") {
      throw .usage(UsageError("--follow hears udev, which knows nothing of --root"))
    }
    self.given = given
  }

  func run() throws(ClientError) -> Int32 {
    let discovery = try BoardOptions.discovery(given)
    if given.has("follow") { return try follow(discovery) }
    try show(discovery)
    return 0
  }

  private func show(_ discovery: PCIDiscovery) throws(ClientError) {
    let functions = try BoardOptions.functions(discovery)
    let devices = functions.filter { $0.isIVShmem }.map { function in
      DeviceDescription(
        device: LinkDevice(function),
        links: function.nodes.first.map { discovery.links(of: $0, on: function) } ?? [])
    }
    let others = functions.filter { $0.isOldIVShmem }
    writeOutput(given.has("json") ? json(devices, others) : text(devices, others))
    if functions.isEmpty, !given.has("json") {
      writeError("ivshmem: no ivshmem device is here; 'ivshmem doctor' looks for the reason\n")
    }
  }

  private func text(_ devices: [DeviceDescription], _ others: [PCIFunction]) -> String {
    var text = devices.isEmpty ? "" : columns([DeviceDescription.header] + devices.map { $0.row })
    for other in others { text += "\(other.address)  \(Self.meaning(other))\n" }
    var hidden: [String] = []
    for device in devices {
      for what in device.device.hiddenByPrivilege where !hidden.contains(what) {
        hidden.append(what)
      }
    }
    if !hidden.isEmpty { text += "as root it would also show: \(hidden.joined(separator: ", "))\n" }
    return text
  }

  private func json(_ devices: [DeviceDescription], _ others: [PCIFunction]) -> String {
    var object = JSONObject()
    object.add(
      "devices",
      list: devices.map { device in
        var entry = JSONObject()
        device.add(to: &entry)
        return entry.text
      })
    object.add(
      "others",
      list: others.map { other in
        var entry = JSONObject()
        entry.add("bdf", "\(other.address)")
        entry.add(
          "id", "\(hexText(other.vendor, width: 4)):\(hexText(other.device, width: 4))")
        entry.add("meaning", Self.meaning(other))
        return entry.text
      })
    return object.text + "\n"
  }

  static func meaning(_ other: PCIFunction) -> String {
    "1af4:1110 ivshmem version 1, another device: no state table, no protocol"
  }

  private func follow(_ discovery: PCIDiscovery) throws(ClientError) -> Int32 {
    let monitor: DeviceMonitor
    do throws(DiscoveryError) {
      monitor = try DeviceMonitor()
    } catch { throw .usage(UsageError(error.text)) }
    // First listen, then look: what comes in between is told twice rather than not at all.
    try show(discovery)
    let stop: Descriptor
    do throws(SystemError) {
      stop = try Descriptor(cl_eventfd())
    } catch { throw .failed(error.text) }
    cl_catch_stop(stop.number)
    while cl_stop_requested() == 0 {
      while let event = monitor.next() { tell(event, discovery) }
      var entries: InlineArray<2, cl_poll_entry> = [
        cl_poll_entry(fd: monitor.descriptor, events: Int16(CL_POLL_IN), revents: 0),
        cl_poll_entry(fd: stop.number, events: Int16(CL_POLL_IN), revents: 0),
      ]
      _ = unsafe withUnsafeMutablePointer(to: &entries) { pointer in
        unsafe cl_poll_ns(
          UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: cl_poll_entry.self), 2, -1)
      }
    }
    throw .interrupted
  }

  /// A line for an event of an ivshmem device; after a removal only the address is left to tell.
  private func tell(_ event: DeviceEvent, _ discovery: PCIDiscovery) {
    guard let address = event.address else { return }
    let function = (try? discovery.function(at: address)) ?? nil
    guard event.action == "remove" || function?.isIVShmem == true else { return }
    if given.has("json") {
      var object = JSONObject()
      object.add("event", event.action)
      object.add("subsystem", event.subsystem)
      object.add("bdf", "\(address)")
      object.add("path", event.folder)
      writeOutput(object.text + "\n")
    } else {
      let node = event.folder.split(separator: "/").last ?? ""
      writeOutput(
        "\(address)  \(event.action) \(event.subsystem)"
          + (event.subsystem == "pci" ? "" : " \(node)")
          + (function?.driver.map { ", driver \($0)" } ?? "") + "\n")
    }
  }
}
