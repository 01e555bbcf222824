import CCellmate
import CLinux
import ToolSupport

/// What a tool tells its device on the control queue, each time the device was set up.
struct NetworkCommands {
  /// The address it asks for.
  let address: EtherAddress?
  /// Whether it takes frames for its own address and broadcasts alone.
  let takesOwn: Bool
  /// Times the device had been set up again when the commands were given last.
  private var recoveries = -1

  init(address: EtherAddress?, takesOwn: Bool) {
    self.address = address
    self.takesOwn = takesOwn
  }

  /// Gives the commands, when the device has not had them since it was set up.
  ///
  /// - Throws: when the device refuses one.
  mutating func run(_ driver: inout LibraryDriver, patience: UInt64) throws(ClientError) {
    let deadline = cl_monotonic_ns() + patience
    while recoveries != driver.recoveries {
      recoveries = driver.recoveries
      try runOnce(&driver, until: deadline)
    }
  }

  /// All commands, or as far as it gets before the device goes away and comes back.
  private func runOnce(
    _ driver: inout LibraryDriver, until deadline: UInt64
  ) throws(ClientError) {
    let pairs = UInt64(try driver.networkFacts().pairs_in_use)
    if pairs > 1 {
      guard try tell(CELLMATE_NETWORK_SET_PAIRS, pairs, &driver, until: deadline) else { return }
    }
    if let address {
      guard try tell(CELLMATE_NETWORK_SET_ADDRESS, address.rawValue, &driver, until: deadline)
      else { return }
    }
    if takesOwn {
      for command in [CELLMATE_NETWORK_PROMISCUOUS, CELLMATE_NETWORK_ALL_MULTICAST] {
        guard try tell(command, 0, &driver, until: deadline) else { return }
      }
    }
  }

  /// Gives one command and waits for its answer; `false` when the device was set up again
  /// meanwhile.
  private func tell(
    _ command: Int, _ argument: UInt64, _ driver: inout LibraryDriver, until deadline: UInt64
  ) throws(ClientError) -> Bool {
    let result = unsafe cellmate_network_command(
      driver.handle, UInt32(command), argument, deadline)
    if result == LibraryResult.linkLost {
      try driver.recover()
      return false
    }
    try driver.checked(result)
    return true
  }
}

extension LibraryDriver {
  /// What is known of a network device now.
  func networkFacts() throws(ClientError) -> cellmate_network_facts {
    var facts = cellmate_network_facts()
    facts.size = MemoryLayout<cellmate_network_facts>.size
    try checked(unsafe cellmate_network_info(handle, &facts))
    return facts
  }
}

extension cellmate_network_facts {
  /// The device's address; `nil` when it has none.
  var ownAddress: EtherAddress? {
    guard has_address != 0 else { return nil }
    let bytes: InlineArray<6, UInt8> = [
      address.0, address.1, address.2, address.3, address.4, address.5,
    ]
    return EtherAddress(bytes.span, at: 0)
  }
}
