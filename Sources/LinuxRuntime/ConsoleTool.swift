import CLinux
public import CommandOptions
import HostResources
import LinuxSupport
import SharedMemory
import VirtioConsole
import Virtqueue

/// `ivshmem frontend console`: this terminal, or standard input and output, on a port of a console.
public struct ConsoleTool: DeviceTool, Sendable {
  /// The options of the tool.
  public static let options =
    FrontendPlace.options + [
      OptionSpecification("port", "N", "which port (default 0)"),
      OptionSpecification("list", "show the console's ports instead"),
      OptionSpecification("json", "with --list: as one JSON object"),
      OptionSpecification(
        "linger", "SECONDS", "after the end of a piped input, go on until so long nothing came (1)"
      ),
    ] + FrontendPlace.lastOptions

  let place: FrontendPlace
  private let port: Int?
  private let isJSON: Bool
  private let linger: UInt64

  /// Checks the command line; nothing is opened yet.
  public init(_ given: CommandOptions) throws(UsageError) {
    place = try FrontendPlace(given)
    guard given.arguments.isEmpty else {
      throw UsageError("frontend console takes no action, got '\(given.arguments[0])'")
    }
    let limit = UInt64(ConsoleFormat.portLimit - 1)
    let number = Int(try given.number("port", in: 0...limit, default: 0))
    guard !given.has("list") || !given.has("port") else {
      throw UsageError("--list shows every port; leave --port out")
    }
    isJSON = given.has("json")
    guard given.has("list") || !isJSON else { throw UsageError("--json goes with --list") }
    port = given.has("list") ? nil : number
    linger = try given.number("linger", in: 0...86400, default: 1) * 1_000_000_000
  }

  /// Connects until Ctrl-], the end of the input or a signal; or shows the ports.
  public func run() throws(ClientError) {
    try open()
  }

  var memoryBytes: Int { ConsolePortDriver.memoryBytes(port: port) }

  func drive(_ path: consuming some DevicePath & ~Copyable) throws(ClientError) {
    var path = path
    let driver = try ConsolePortDriver(port: port, &path)
    var client = DeviceClient(path, driver, place)
    do throws(ClientError) {
      if let port {
        client.driver.console.setOpen(true, port: port)
        try client.start()
        var session = try ConsoleSession(port, wake: client.wakeDescriptor, place, linger)
        try session.run(&client)
      } else {
        try client.start()
        try list(&client)
      }
    } catch {
      client.leave()
      throw error
    }
    client.leave()
  }

  // MARK: The list

  /// How long no message may come before the list counts as complete: the specification has no
  /// message that says so.
  private static var quietTime: UInt64 { 200_000_000 }

  private func list(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(ClientError) {
    var quietSince = cl_monotonic_ns()
    while client.driver.isMultiport, cl_monotonic_ns() < quietSince + Self.quietTime {
      do throws(QueueError) {
        if try client.driver.console.step() { quietSince = cl_monotonic_ns() }
      } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
      client.publish()
      if client.isLost() { try client.recover() }
      try client.wait(until: quietSince + Self.quietTime)
    }
    var texts: [String] = []
    for index in 0..<client.driver.portCount { texts.append(describe(client, index)) }
    if isJSON {
      var ports = ""
      for text in texts { ports += (ports.isEmpty ? "" : ",") + text }
      writeOutput("{\"multiport\":\(client.driver.isMultiport),\"ports\":[\(ports)]}\n")
    } else {
      for text in texts { writeOutput(text + "\n") }
    }
  }

  private func describe(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>, _ index: Int
  ) -> String {
    let isMultiport = client.driver.isMultiport
    let isAdded = client.driver.console.isAdded(port: index)
    let isOpen = client.driver.console.isHostOpen(port: index)
    var name = ""
    for place in 0..<client.driver.console.nameCount(port: index) {
      let byte = client.driver.console.nameByte(port: index, at: place)
      // A name comes from the back-end: nothing of it may move the cursor or end a string.
      let isPlain = byte > 31 && byte < 127 && byte != 34 && byte != 92
      name.unicodeScalars.append(Unicode.Scalar(isPlain ? byte : 63))
    }
    let size =
      index == 0 ? client.consoleSize : client.driver.console.size(port: index)
    guard !isJSON else {
      return "{\"port\":\(index),\"present\":\(isAdded),\"name\":\"\(name)\","
        + "\"console\":\(client.driver.console.isConsole(port: index)),"
        + "\"open\":\(isMultiport ? "\(isOpen)" : "null"),\"columns\":\(size.columns),"
        + "\"rows\":\(size.rows)}"
    }
    var text = "port \(index)"
    guard isAdded else { return text + ": not there" }
    if !name.isEmpty { text += " '\(name)'" }
    text += isMultiport ? (isOpen ? ": somebody is there" : ": nobody is there") : ":"
    if client.driver.console.isConsole(port: index) {
      text += isMultiport ? ", console" : " console"
    }
    if size != .unknown { text += ", \(size.columns)x\(size.rows)" }
    return text
  }
}

extension DeviceClient where Path: ~Copyable, Driver == ConsolePortDriver {
  /// The size of port 0: from a message, or from the configuration space.
  var consoleSize: ConsoleSize {
    let told = driver.console.size(port: 0)
    guard told == .unknown, features.contains(.consoleSize) else { return told }
    let bytes = configuration
    return ConsoleSize(
      columns: UInt16(bytes[0]) | UInt16(bytes[1]) << 8,
      rows: UInt16(bytes[2]) | UInt16(bytes[3]) << 8)
  }
}
