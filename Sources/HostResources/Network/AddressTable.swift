import VirtioNet

/// Where stations behind uplinks were seen last: a bounded table whose entries age.
///
/// An address has a few places it may take; when others that are still fresh have them all, it is
/// not learnt, and frames for it are flooded. Nobody can grow the table or push others out.
struct AddressTable {
  private struct Entry {
    var address = MACAddress.none
    var port = 0
    var seen: UInt64 = 0
  }

  private var entries: [Entry]
  /// Microseconds after which an entry is forgotten.
  let lifetime: UInt64
  /// Addresses that found no place.
  private(set) var refused: UInt64 = 0

  private static var probes: Int { 8 }

  /// An empty table of `count` places, a power of two of 8 or more.
  init(count: Int, lifetime: UInt64) {
    precondition(count >= Self.probes && count & (count - 1) == 0)
    entries = Array(repeating: Entry(), count: count)
    self.lifetime = lifetime
  }

  private func place(_ address: MACAddress, _ probe: Int) -> Int {
    let mixed = address.rawValue &* 0x9e37_79b9_7f4a_7c15
    return (Int(truncatingIfNeeded: mixed >> 40) + probe) & (entries.count - 1)
  }

  private func isFresh(_ entry: Entry, _ now: UInt64) -> Bool {
    entry.address != .none && now < entry.seen + lifetime
  }

  /// A frame of `address` came through `port`.
  mutating func learn(_ address: MACAddress, port: Int, now: UInt64) {
    var free: Int?
    for probe in 0..<Self.probes {
      let index = place(address, probe)
      if entries[index].address == address {
        free = index
        break
      }
      if free == nil, !isFresh(entries[index], now) { free = index }
    }
    guard let free else {
      refused &+= 1
      return
    }
    entries[free] = Entry(address: address, port: port, seen: now)
  }

  /// The port an address was seen at, if that is not too long ago.
  func port(of address: MACAddress, now: UInt64) -> Int? {
    for probe in 0..<Self.probes {
      let entry = entries[place(address, probe)]
      if entry.address == address { return isFresh(entry, now) ? entry.port : nil }
    }
    return nil
  }

  /// Forgets what was seen at a port.
  mutating func forget(port: Int) {
    for index in entries.indices where entries[index].port == port { entries[index] = Entry() }
  }
}
