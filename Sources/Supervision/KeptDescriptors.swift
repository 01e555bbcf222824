import CLinux

/// Descriptors that are kept for the next process, with their names. Like systemd's store, it may
/// hold several of one name.
final class KeptDescriptors {
  private(set) var entries: [(name: String, number: Int32)] = []
  /// The most there may be: a service that gives more is refused, not served worse.
  let limit: Int

  init(limit: Int) { self.limit = limit }

  // Closing is what a device's peer sees as its end: with the last value, not before.
  deinit { for entry in entries { cl_close(entry.number) } }

  /// Takes a descriptor over; `false`, and it is closed, when there is no room.
  func add(_ name: String, _ number: Int32) -> Bool {
    guard entries.count < limit else {
      cl_close(number)
      return false
    }
    entries.append((name, number))
    return true
  }

  /// Closes everything of that name.
  func remove(_ name: String) {
    for entry in entries where entry.name == name { cl_close(entry.number) }
    entries.removeAll { $0.name == name }
  }

  /// The names as LISTEN_FDNAMES has them.
  var names: String { entries.map { $0.name }.joined(separator: ":") }
}
