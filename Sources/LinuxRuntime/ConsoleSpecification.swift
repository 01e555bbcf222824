import CommandOptions
public import HostResources
import VirtioConsole

/// A console device: `console,END[,name=NAME][,size=COLSxROWS][,END...]`.
///
/// Each end (`pty[=LINK]`, `stdio`, `socket=PATH`, `log=PATH`) begins the next port; name and size
/// belong to the end before them.
public struct ConsoleSpecification: Equatable, Sendable {
  /// The ports, in order.
  public private(set) var ports: [ConsolePortOptions] = []

  /// The keys that begin a port.
  private static var ends: String { "pty[=LINK], stdio, socket=PATH or log=PATH" }

  /// Parses the value of `--device`, which starts with `console`.
  init(_ text: String) throws(UsageError) {
    let keyed = try KeyedValue(
      text, option: "device", known: ["pty", "stdio", "socket", "log", "name", "size"])
    for (key, value) in keyed.values {
      switch key {
      case "name": try name(value, text)
      case "size": try size(value, text)
      default: ports.append(ConsolePortOptions(end: try Self.end(key, value, text)))
      }
    }
    guard !ports.isEmpty else {
      throw UsageError("--device \(text): nothing to connect to; give \(Self.ends)")
    }
    guard ports.count <= ConsoleFormat.portLimit else {
      throw UsageError(
        "--device \(text): \(ports.count) ports, a console has at most \(ConsoleFormat.portLimit)")
    }
  }

  private static func end(
    _ key: String, _ value: String, _ text: String
  ) throws(UsageError) -> ConsoleEnd {
    switch key {
    case "pty": return .pty(link: value.isEmpty ? nil : value)
    case "stdio":
      guard value.isEmpty else { throw UsageError("--device \(text): stdio takes no value") }
      return .stdio
    default:
      guard !value.isEmpty else { throw UsageError("--device \(text): \(key)=PATH is missing") }
      return key == "socket" ? .socket(path: value) : .log(path: value)
    }
  }

  /// The port that a name or size belongs to.
  private func last(_ key: String, _ text: String) throws(UsageError) -> Int {
    guard !ports.isEmpty else {
      throw UsageError("--device \(text): \(key) belongs behind its port: \(Self.ends)")
    }
    return ports.count - 1
  }

  private mutating func name(_ value: String, _ text: String) throws(UsageError) {
    let port = try last("name", text)
    guard !value.isEmpty, value.utf8.count < ConsoleFormat.nameLimit else {
      throw UsageError(
        "--device \(text): a name has 1 to \(ConsoleFormat.nameLimit - 1) bytes, got '\(value)'")
    }
    ports[port].name = value
  }

  private mutating func size(_ value: String, _ text: String) throws(UsageError) {
    let port = try last("size", text)
    let parts = value.split(separator: "x", omittingEmptySubsequences: false)
    guard parts.count == 2, let columns = UInt16(parts[0]), let rows = UInt16(parts[1]),
      columns > 0, rows > 0
    else {
      throw UsageError("--device \(text): size is COLSxROWS, such as 80x25, got '\(value)'")
    }
    guard port == 0 else {
      throw UsageError("--device \(text): only the first port has a size")
    }
    guard ports[port].end != .stdio else {
      throw UsageError("--device \(text): stdio has the size of its terminal")
    }
    ports[port].size = ConsoleSize(columns: columns, rows: rows)
  }
}
