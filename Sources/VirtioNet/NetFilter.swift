import SharedMemory

/// Which frames a driver wants (VIRTIO 1.4, 5.1.9.5.1 and 5.1.9.5.2).
struct NetModes: BitSet, BitwiseCopyable {
  let rawValue: UInt8

  static var promiscuous: NetModes { NetModes(rawValue: 1) }
  static var allMulticast: NetModes { NetModes(rawValue: 2) }
  static var allUnicast: NetModes { NetModes(rawValue: 4) }
  static var noMulticast: NetModes { NetModes(rawValue: 8) }
  static var noUnicast: NetModes { NetModes(rawValue: 16) }
  static var noBroadcast: NetModes { NetModes(rawValue: 32) }
}

/// The receive filter of one device. A table that the driver's addresses do not fit into takes
/// every frame of its kind: nothing is lost, the driver filters by itself.
struct NetFilter: ~Copyable {
  var modes = NetModes.promiscuous
  let unicast: PrivateTable<MACAddress>
  let multicast: PrivateTable<MACAddress>
  /// Addresses in use; more than there is room for: all.
  var unicastCount = 0
  var multicastCount = 0

  @inline(never)
  init?(arena: inout PrivateArena) {
    guard let unicast = arena.table(of: NetFormat.filterLimit, initial: MACAddress.none),
      let multicast = arena.table(of: NetFormat.filterLimit, initial: MACAddress.none)
    else { return nil }
    self.unicast = unicast
    self.multicast = multicast
  }

  /// Back to taking everything.
  mutating func reset() {
    modes = .promiscuous
    unicastCount = 0
    multicastCount = 0
  }

  mutating func set(_ mode: NetModes, _ isOn: Bool) {
    modes = isOn ? modes.union(mode) : modes.subtracting(mode)
  }

  private static func holds(
    _ table: PrivateTable<MACAddress>, _ count: Int, _ address: MACAddress
  ) -> Bool {
    guard count <= table.count else { return true }
    for index in 0..<count where table[index] == address { return true }
    return false
  }

  /// Whether a frame for `destination` is taken by a device with the address `own`.
  func takes(_ destination: MACAddress, own: MACAddress) -> Bool {
    if modes.contains(.promiscuous) { return true }
    if destination == .broadcast { return !modes.contains(.noBroadcast) }
    if destination.isMulticast {
      if modes.contains(.noMulticast) { return false }
      return modes.contains(.allMulticast)
        || Self.holds(multicast, multicastCount, destination)
    }
    if modes.contains(.noUnicast) { return false }
    return modes.contains(.allUnicast) || destination == own
      || Self.holds(unicast, unicastCount, destination)
  }
}
