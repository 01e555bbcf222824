import CCellmate
import CommandOptions
import LinuxSupport
import ToolSupport

/// Carries frames between a network device and a far end, until the far end or the process ends.
struct BridgeSession {
  private let place: FrontendPlace
  private var commands: NetworkCommands
  private var wasUp: Bool?

  /// Opens the far end, which the library names so: `tap:NAME`, `socket:PATH` or `stdio`.
  init(
    _ end: String, _ place: FrontendPlace, _ commands: NetworkCommands,
    _ driver: borrowing LibraryDriver
  ) throws(ClientError) {
    var error = cellmate_error()
    error.size = MemoryLayout<cellmate_error>.size
    let handle = unsafe driver.handle
    let result = unsafe end.withCString { end in
      unsafe cellmate_network_bridge(handle, end, &error)
    }
    if result < 0 {
      guard case .usage(let usage) = driver.failure(result) else { throw driver.failure(result) }
      // Both are options here.
      throw .usage(UsageError(end == "stdio" ? usage.message : "--" + usage.message))
    }
    self.place = place
    self.commands = commands
  }

  /// Runs to the end of the input, the loss of the far end, or a signal.
  mutating func run(_ driver: inout LibraryDriver) throws(ClientError) {
    say("connected")
    while true {
      try followLink(driver)
      let result = unsafe cellmate_network_carry(driver.handle)
      if result == LibraryResult.linkLost {
        try driver.recover()
        try commands.run(&driver, patience: place.patience)
        continue
      }
      switch try driver.checked(result) {
      case 0: try driver.wait()
      case 1: break
      case 2: return say("the far end has ended")
      default: say("the tap keeps its address and MTU: that needs CAP_NET_ADMIN")
      }
    }
  }

  private mutating func followLink(_ driver: borrowing LibraryDriver) throws(ClientError) {
    let isUp = try driver.networkFacts().is_link_up != 0
    guard isUp != wasUp else { return }
    if wasUp != nil || !isUp { say(isUp ? "the link is up" : "the link is down") }
    wasUp = isUp
  }

  private func say(_ text: String) { if place.isNoisy { writeError("ivshmem: \(text)\n") } }
}
