import CommandOptions
import Simulator

/// `--vfio-user`: which peers are virtual machines, and what their devices look like.
enum Machines {
  static let keys = ["peer", "intx", "class", "address"]

  /// Reads every `--vfio-user` of a command line.
  static func parse(
    _ given: CommandOptions, peers: UInt32
  ) throws(UsageError) -> [MachineOptions] {
    var machines: [MachineOptions] = []
    for option in given.options where option.name == "vfio-user" {
      let machine = try parse(option.value, peers: peers)
      guard !machines.contains(where: { $0.peer == machine.peer }) else {
        throw UsageError("--vfio-user \(option.value): peer \(machine.peer) has a socket already")
      }
      guard !machines.contains(where: { $0.path == machine.path }) else {
        throw UsageError("--vfio-user \(option.value): every peer needs a socket of its own")
      }
      if machine.address != nil, given.value("memory") == nil {
        throw UsageError(
          "--vfio-user \(option.value): a device without BAR 2 needs --memory FILE, which QEMU maps"
            + " at that address")
      }
      machines.append(machine)
    }
    return machines
  }

  private static func parse(_ text: String, peers: UInt32) throws(UsageError) -> MachineOptions {
    let words = try KeyedValue(text, option: "vfio-user", known: keys)
    func wrong(_ what: String) -> UsageError { UsageError("--vfio-user \(text): \(what)") }
    func number(_ key: String, _ what: String) throws(UsageError) -> UInt64? {
      guard let value = words.value(key) else { return nil }
      guard let number = parseByteCount(value) else {
        throw wrong("\(key)=\(value): expected \(what)")
      }
      return number
    }
    guard !words.first.isEmpty, !words.first.contains("=") else {
      throw wrong("expected PATH,peer=N first")
    }
    guard let peer = try number("peer", "a number"), peer < UInt64(peers) else {
      throw wrong("expected peer=0 to peer=\(peers - 1)")
    }
    var machine = MachineOptions(peer: UInt32(peer), path: words.first)
    if let value = words.value("intx") {
      guard value.isEmpty else { throw wrong("intx takes no value") }
      machine.hasLine = true
    }
    if let code = try number("class", "a class code as 0xff8002") {
      guard code > 0, code < 1 << 24 else { throw wrong("expected class=0x1 to class=0xffffff") }
      machine.deviceClass = UInt32(code)
    }
    if let address = try number("address", "an address as 0x4f000000") {
      guard address > 0, address % 4096 == 0 else {
        throw wrong("address: expected a multiple of 4096")
      }
      machine.address = address
    }
    return machine
  }

  /// What a user has to know about a machine at its start.
  static func describe(_ machine: MachineOptions, _ options: SimulatorOptions) -> String {
    let interrupts =
      machine.hasLine
      ? "INTx" : "MSI-X with \(options.vectorCount) vector\(options.vectorCount == 1 ? "" : "s")"
    let place =
      machine.address.map { "sections at 0x\(String($0, radix: 16))" } ?? "sections in BAR 2"
    return "peer \(machine.peer) is a virtual machine at \(machine.path): \(interrupts), \(place)"
  }

  /// The warning that belongs to every link with machines.
  static let rightsWarning = """
    a machine maps the whole link writable by one descriptor: section rights are not enforced \
    against machines, nor against processes of this link that want to break them
    """
}
