import CCellmate
import CLinux
public import CommandOptions
import LinuxSupport
public import ToolSupport

/// `ivshmem frontend console`: this terminal, or standard input and output, on a port of a console.
public struct ConsoleTool: Sendable {
  /// The options of the tool.
  public static let options =
    FrontendPlace.options + [
      OptionSpecification("port", "N", "which port (default 0)"),
      OptionSpecification("list", "show the console's ports instead"),
      OptionSpecification(
        "emergency", "TEXT", "write TEXT into port 0's emergency register, and end: needs no queue"
      ),
      OptionSpecification("json", "with --list and --emergency: as one JSON object"),
      OptionSpecification(
        "linger", "SECONDS", "after the end of a piped input, go on until so long nothing came (1)"
      ),
    ] + FrontendPlace.lastOptions

  private let place: FrontendPlace
  private let port: Int?
  private let emergency: String?
  private let isJSON: Bool
  private let linger: UInt64

  /// The last port that a driver of the library has room for.
  private static var lastPort: UInt64 { 14 }

  /// Checks the command line; nothing is opened yet.
  public init(_ given: CommandOptions) throws(UsageError) {
    place = try FrontendPlace(given)
    guard given.arguments.isEmpty else {
      throw UsageError("frontend console takes no action, got '\(given.arguments[0])'")
    }
    let number = Int(try given.number("port", in: 0...Self.lastPort, default: 0))
    guard !given.has("list") || !given.has("port") else {
      throw UsageError("--list shows every port; leave --port out")
    }
    isJSON = given.has("json")
    emergency = given.value("emergency")
    guard emergency == nil || !given.has("list") else {
      throw UsageError("--list and --emergency: one of them")
    }
    guard emergency == nil || number == 0 else {
      throw UsageError("--port \(number): the emergency register writes to port 0 alone")
    }
    guard given.has("list") || emergency != nil || !isJSON else {
      throw UsageError("--json goes with --list or --emergency")
    }
    port = given.has("list") ? nil : number
    linger = try given.number("linger", in: 0...86400, default: 1) * 1_000_000_000
  }

  /// Connects until Ctrl-], the end of the input or a signal; or shows the ports.
  public func run() throws(ClientError) {
    var driver = unsafe try LibraryDriver(place) { link, driver, error in
      unsafe cellmate_console_create(
        link, place.slot, port.map { Int32($0) } ?? -1, driver, error)
    }
    if let emergency {
      let count = try driver.writeEmergency(emergency)
      return writeOutput(isJSON ? "{\"bytes\":\(count)}\n" : "\(count) bytes\n")
    }
    try driver.start()
    guard let port else { return try list(&driver) }
    var session = try ConsoleSession(port, wake: driver.wakeDescriptor, place, linger)
    try session.run(&driver)
  }

  // MARK: The list

  /// How long no message may come before the list counts as complete: the specification has no
  /// message that says so.
  private static var quietTime: UInt64 { 200_000_000 }

  private func list(_ driver: inout LibraryDriver) throws(ClientError) {
    var quietSince = cl_monotonic_ns()
    var first = try driver.consolePort(0)
    while first.is_multiport != 0, cl_monotonic_ns() < quietSince + Self.quietTime {
      switch try driver.step() {
      case true?: quietSince = cl_monotonic_ns()
      case false?: break
      case nil: try driver.recover()
      }
      try driver.wait(until: quietSince + Self.quietTime)
      first = try driver.consolePort(0)
    }
    let isMultiport = first.is_multiport != 0
    var texts: [String] = []
    for index in 0..<first.port_count {
      texts.append(describe(try driver.consolePort(Int(index)), Int(index)))
    }
    if isJSON {
      var ports = ""
      for text in texts { ports += (ports.isEmpty ? "" : ",") + text }
      writeOutput("{\"multiport\":\(isMultiport),\"ports\":[\(ports)]}\n")
    } else {
      for text in texts { writeOutput(text + "\n") }
    }
  }

  private func describe(_ port: cellmate_console_facts, _ index: Int) -> String {
    var port = port
    let isMultiport = port.is_multiport != 0
    let isOpen = port.is_open != 0
    let (isPresent, isConsole) = (port.is_present != 0, port.is_console != 0)
    var name = ""
    unsafe withUnsafeBytes(of: &port.name) { bytes in
      for index in 0..<bytes.count {
        let byte = unsafe bytes[index]
        if byte == 0 { break }
        // A name comes from the back-end: nothing of it may move the cursor or end a string.
        let isPlain = byte > 31 && byte < 127 && byte != 34 && byte != 92
        name.unicodeScalars.append(Unicode.Scalar(isPlain ? byte : 63))
      }
    }
    guard !isJSON else {
      return "{\"port\":\(index),\"present\":\(isPresent),\"name\":\"\(name)\","
        + "\"console\":\(isConsole),"
        + "\"open\":\(isMultiport ? "\(isOpen)" : "null"),\"columns\":\(port.columns),"
        + "\"rows\":\(port.rows)}"
    }
    var text = "port \(index)"
    guard isPresent else { return text + ": not there" }
    if !name.isEmpty { text += " '\(name)'" }
    text += isMultiport ? (isOpen ? ": somebody is there" : ": nobody is there") : ":"
    if isConsole { text += isMultiport ? ", console" : " console" }
    if port.columns != 0 || port.rows != 0 { text += ", \(port.columns)x\(port.rows)" }
    return text
  }
}

extension LibraryDriver {
  /// Writes a text into a console's emergency register, without setting the console up.
  func writeEmergency(_ text: String) throws(ClientError) -> Int {
    cl_catch_stop(wakeDescriptor)
    let deadline = deadline
    var bytes: [UInt8] = []
    bytes.append(contentsOf: text.utf8)
    var done = 0
    while done < bytes.count {
      let (start, handle) = unsafe (done, self.handle)
      let result = unsafe bytes.withUnsafeBytes { bytes in
        unsafe cellmate_console_emergency(
          handle, bytes.baseAddress.map { unsafe $0 + start }, bytes.count - start, deadline)
      }
      // A call that only meets the deadline says so.
      done += try checked(result)
    }
    return done
  }

  /// What is known of a console's port now.
  func consolePort(_ port: Int) throws(ClientError) -> cellmate_console_facts {
    var facts = cellmate_console_facts()
    facts.size = MemoryLayout<cellmate_console_facts>.size
    try checked(unsafe cellmate_console_port(handle, UInt32(port), &facts))
    return facts
  }
}
