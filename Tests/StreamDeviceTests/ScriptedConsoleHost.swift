import VirtioConsole

/// Ports in memory: what the test puts in comes out, what the driver sends is kept, and how much
/// is taken is the test's affair.
struct ScriptedConsoleHost: ConsoleHost, ~Copyable {
  struct Port {
    var name = ""
    var size = ConsoleSize.unknown
    var isOpen = true
    /// Bytes for the driver.
    var incoming: [UInt8] = []
    /// Bytes of the driver.
    var outgoing: [UInt8] = []
    /// Bytes that may still be taken.
    var room = Int.max
  }

  var ports: [Port]
  /// The most bytes read or taken at once.
  var grain = Int.max
  /// Whether the next look is told of news; a test that changes something sets it.
  var hasNews = true
  let hasSize = true

  init(ports: Int) { self.ports = Array(repeating: Port(), count: ports) }

  var portCount: Int { ports.count }
  func nameByte(port: Int, at index: Int) -> UInt8 {
    let name = Array(ports[port].name.utf8)
    return index < name.count ? name[index] : 0
  }
  func size(port: Int) -> ConsoleSize { ports[port].size }
  func isOpen(port: Int) -> Bool { ports[port].isOpen }
  mutating func takeEvents() -> Bool {
    defer { hasNews = false }
    return hasNews
  }
  func requestLook() {}

  mutating func read(port: Int, into bytes: inout MutableSpan<UInt8>) -> Int {
    let count = min(bytes.count, min(grain, ports[port].incoming.count))
    for index in 0..<count { bytes[index] = ports[port].incoming[index] }
    ports[port].incoming.removeFirst(count)
    return count
  }

  mutating func write(port: Int, _ bytes: Span<UInt8>) -> ConsoleWrite {
    guard ports[port].isOpen else { return .gone }
    let count = min(bytes.count, min(grain, ports[port].room))
    for index in 0..<count { ports[port].outgoing.append(bytes[index]) }
    if ports[port].room != .max { ports[port].room -= count }
    return .taken(count)
  }
}
