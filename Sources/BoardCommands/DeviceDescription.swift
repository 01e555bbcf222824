import LinkFormat
import LinuxPCI
import ToolSupport

/// A device for people and for scripts: the same facts, twice.
struct DeviceDescription {
  let device: LinkDevice
  /// The names that udev gave its node.
  let links: [String]

  private var function: PCIFunction { device.function }

  /// What it is, in a few words.
  var kind: String {
    guard let kind = device.linkProtocol else { return "class is not ivshmem's" }
    return "\(kind.what) \(kind.role)"
  }

  /// The node that a program opens, the name by udev's rules first.
  var node: String? { links.first ?? function.nodePaths.first }

  var vectors: String {
    guard let count = device.vectorCount else { return "?" }
    return "\(count) \(device.interrupts.name)"
  }

  /// Sizes of the sections in a few words.
  var sections: String {
    if device.sections.isEmpty { return "?" }
    let names: [(LinkSection.Kind, String)] = [
      (.stateTable, "state"), (.readWrite, "rw"), (.output, "output"),
    ]
    var parts: [String] = []
    for (kind, name) in names {
      if let size = device.size(of: kind) { parts.append("\(name) \(sizeText(size))") }
    }
    if let peers = device.maxPeers { parts.append("\(peers) peers") }
    return parts.joined(separator: ", ")
  }

  /// A row of `ivshmem list`.
  var row: [String] {
    [
      "\(function.address)", hexText(function.classCode, width: 6), kind,
      function.driver ?? "-", node ?? "-", vectors, device.peerID.map { "\($0)" } ?? "?", sections,
    ]
  }

  static var header: [String] {
    ["BDF", "CLASS", "KIND", "DRIVER", "NODE", "VECTORS", "ID", "SECTIONS"]
  }

  /// The keys that `list` and `info` share.
  func add(to object: inout JSONObject) {
    object.add("bdf", "\(function.address)")
    object.add("class", hexText(function.classCode, width: 6))
    object.add("protocol", device.linkProtocol?.what)
    object.add("role", device.linkProtocol?.role)
    object.add("virtioDevice", number: device.linkProtocol?.virtioDevice)
    object.add("driver", function.driver)
    object.add("node", function.nodePaths.first)
    object.add("links", strings: links)
    object.add("interrupts", device.interrupts.name)
    object.add("vectors", number: device.vectorCount)
    object.add("oneShot", flag: device.isOneShot)
    object.add("id", number: device.peerID)
    object.add("maxPeers", number: device.maxPeers)
    object.add("sections", list: device.sections.map { Self.json($0) })
    object.add("hidden", strings: device.hiddenByPrivilege)
  }

  private static func json(_ section: LinkSection) -> String {
    var object = JSONObject()
    object.add("name", section.kind.name)
    object.add("address", section.address.map { hexadecimal($0) })
    object.add("size", number: section.size)
    return object.text
  }

  static var keys: [(name: String, meaning: String)] {
    [
      ("bdf", "PCI address, DDDD:BB:DD.F"),
      ("class", "class code, six hexadecimal digits"),
      ("protocol", "what the class code says is spoken: 'virtio block', 'ethernet', ..."),
      ("role", "front-end, back-end or peer"),
      ("virtioDevice", "number of the virtio device, or null"),
      ("driver", "the driver that has it, or null"),
      ("node", "the device node of the driver, or null"),
      ("links", "names that udev rules gave the node"),
      ("interrupts", "msi-x, msi, intx, none or unknown"),
      ("vectors", "number of vectors, or null when it cannot be known"),
      ("oneShot", "whether each delivery disarms; null when it cannot be known"),
      ("id", "own peer id, or null when it cannot be known"),
      ("maxPeers", "peers the link has room for, or null"),
      ("sections[]", "name (stateTable, readWrite, inputs, output), address (or null), size"),
      ("hidden", "what privilege would show beyond this"),
    ]
  }
}
