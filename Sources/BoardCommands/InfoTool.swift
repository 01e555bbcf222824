import CommandOptions
import LinkFormat
import LinkNames
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem info BDF`: all that can be known of a device without its node.
struct InfoTool {
  static var page: HelpPage {
    HelpPage(
      name: "info", usage: "info BDF [--json] [--root DIR]",
      summary: "Shows one ivshmem device in detail",
      details: """
        It reads sysfs, and the registers through sysfs where the kernel allows it: read-only, and
        no device node is opened.
        """,
      options: [BoardOptions.json, BoardOptions.root, BoardOptions.help],
      keys: DeviceDescription.keys + [
        ("subsystem", "subsystem vendor and device, VVVV:DDDD"),
        ("command", "the PCI command register: bit 1 memory, 2 bus master, 10 INTx off"),
        ("interruptNumber", "Linux' number of the INTx interrupt, 0 without one"),
        ("messageInterrupts", "Linux' numbers of the MSI or MSI-X vectors in use"),
        ("iommuGroup", "number of the IOMMU group, or null"),
        ("driverOverride", "the only driver it may be given to, or null"),
        ("holders", "processes that have the node open, as far as it can be known"),
        ("events", "interrupts that the UIO driver counted, or null"),
        ("bars[]", "bar, start and size of each memory range"),
        ("maps[]", "index, name, address and size of each map of the UIO driver"),
        ("registers", "id, maxPeers, interruptControl, state; null when they cannot be read"),
        ("registersHiddenBy", "why not, or null"),
      ])
  }

  private let given: CommandOptions
  private let address: PCIAddress

  init(_ given: CommandOptions) throws(ClientError) {
    address = try BoardOptions.address(given, "info")
    self.given = given
  }

  func run() throws(ClientError) -> Int32 {
    let discovery = try BoardOptions.discovery(given)
    let device = try BoardOptions.device(at: address, discovery)
    let function = device.function
    let description = DeviceDescription(
      device: device,
      links: function.nodes.first.map { discovery.links(of: $0, on: function) } ?? [])
    let holders = NodeHolders(of: function.nodePaths, files: discovery.files)
    var registers: RegisterPicture?
    var reason: String?
    do throws(WindowError) {
      let window = try FunctionWindow(device, bar: 0, files: discovery.files)
      registers = RegisterPicture(window)
    } catch { reason = error.text }
    if given.has("json") {
      writeOutput(json(description, holders, registers, reason) + "\n")
    } else {
      writeOutput(text(description, holders, registers, reason))
    }
    return 0
  }

  private func json(
    _ description: DeviceDescription, _ holders: NodeHolders, _ registers: RegisterPicture?,
    _ reason: String?
  ) -> String {
    let function = description.device.function
    var object = JSONObject()
    description.add(to: &object)
    object.add(
      "subsystem",
      "\(hexText(function.subsystemVendor, width: 4)):\(hexText(function.subsystem, width: 4))")
    object.add("command", description.device.configuration.map { hexadecimal($0.command) })
    object.add("interruptNumber", number: function.interrupt)
    object.add("messageInterrupts", list: function.messageInterrupts.map { "\($0)" })
    object.add("iommuGroup", function.iommuGroup)
    object.add("driverOverride", function.driverOverride)
    object.add("holders", list: holders.processes.map { "\($0)" })
    object.add("events", number: function.nodes.first?.events)
    object.add(
      "bars",
      list: function.resources.filter { $0.isMemory }.map { range in
        var entry = JSONObject()
        entry.add("bar", number: range.bar)
        entry.add("start", hexadecimal(range.start))
        entry.add("size", number: range.size)
        return entry.text
      })
    object.add(
      "maps",
      list: (function.nodes.first?.maps ?? []).map { map in
        var entry = JSONObject()
        entry.add("index", number: map.index)
        entry.add("name", map.name)
        entry.add("address", hexadecimal(map.address))
        entry.add("size", number: map.size)
        return entry.text
      })
    object.add("registers", json: registers.map { $0.json } ?? "null")
    object.add("registersHiddenBy", reason)
    return object.text
  }

  private func text(
    _ description: DeviceDescription, _ holders: NodeHolders, _ registers: RegisterPicture?,
    _ reason: String?
  ) -> String {
    let device = description.device
    let function = device.function
    var rows: [[String]] = []
    rows.append(["device", "\(function.address)  110a:4106  \(description.kind)"])
    rows.append(["class", hexText(function.classCode, width: 6)])
    rows.append(["driver", function.driver ?? "none"])
    rows.append(["node", node(description, holders)])
    rows.append(["interrupts", interrupts(device)])
    if let group = function.iommuGroup { rows.append(["IOMMU group", group]) }
    for section in device.sections {
      let place = section.address.map { " at \(hexadecimal($0))" } ?? ""
      rows.append([section.kind.name, sizeText(section.size) + place])
    }
    for range in function.resources where range.isMemory {
      rows.append(["BAR \(range.bar)", "\(sizeText(range.size)) at \(hexadecimal(range.start))"])
    }
    for map in function.nodes.first?.maps ?? [] {
      rows.append([
        "map \(map.index)", "\(map.name), \(sizeText(map.size)) at \(hexadecimal(map.address))",
      ])
    }
    if let error = device.configurationError {
      rows.append(["configuration", "makes no sense: \(error)"])
    }
    if let registers {
      rows.append([
        "registers",
        "id \(registers.id), maximum peers \(registers.maxPeers), interrupt control"
          + " \(registers.interruptControl), state \(stateText(registers.state))",
      ])
    } else {
      rows.append(["registers", "not readable: \(reason ?? "")"])
    }
    let hidden = device.hiddenByPrivilege
    if !hidden.isEmpty { rows.append(["as root also", hidden.joined(separator: ", ")]) }
    return columns(rows)
  }

  private func node(_ description: DeviceDescription, _ holders: NodeHolders) -> String {
    let function = description.device.function
    guard let path = function.nodePaths.first else {
      return "none; 'ivshmem bind \(function.address)' makes one"
    }
    var text = ([path] + description.links).joined(separator: ", ")
    if holders.processes.isEmpty {
      text += holders.isComplete ? ", nobody has it open" : ""
    } else {
      text += ", open in "
      text += holders.processes.map { processText($0) }.joined(separator: ", ")
    }
    return text
  }

  private func interrupts(_ device: LinkDevice) -> String {
    var text = device.interrupts.name
    if let count = device.vectorCount { text += ", \(count) vector\(count == 1 ? "" : "s")" }
    if let isOneShot = device.isOneShot { text += isOneShot ? ", one-shot" : ", not one-shot" }
    let numbers = device.function.messageInterrupts
    if !numbers.isEmpty {
      text += ", Linux irq " + numbers.map { "\($0)" }.joined(separator: " ")
    } else if device.function.interrupt != 0 {
      text += ", Linux irq \(device.function.interrupt)"
    }
    if let events = device.function.nodes.first?.events { text += ", \(events) counted" }
    return text
  }
}

extension RegisterPicture {
  /// The registers as JSON.
  var json: String {
    var object = JSONObject()
    object.add("id", number: id)
    object.add("maxPeers", number: maxPeers)
    object.add("interruptControl", number: interruptControl)
    object.add("state", hexadecimal(state))
    return object.text
  }
}

/// A state with what is known of its meaning.
func stateText(_ state: UInt32) -> String {
  guard let meaning = stateMeaning(state) else { return hexadecimal(state) }
  return "\(hexadecimal(state)) (\(meaning))"
}

/// What a state means; `nil` when only the peers' protocol knows.
func stateMeaning(_ state: UInt32) -> String? {
  switch state {
  case 0: "reset or absent"
  case 1: "ready (Siemens dialect)"
  case 0x434d_0101: "native front-end"
  case 0x434d_0102: "native back-end"
  default:
    switch PingWord.read(state)?.phase {
    case .ready: "waits for a ping"
    case .begin, .ask, .end: "pings"
    case .begun, .seen: "answers a ping"
    case nil: nil
    }
  }
}
