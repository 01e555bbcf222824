import CLinux
import Foundation
import Glibc
import LinuxSupport
import Testing

/// A back-end process with its control socket and what it writes.
final class ServiceProcess {
  let folder: URL
  let control: String
  let process = Process()
  let errors: URL
  private var started = false

  init() throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-svc-\(UInt64.random(in: 0...UInt64.max))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    control = folder.appendingPathComponent("control").path
    errors = folder.appendingPathComponent("errors")
  }

  func path(_ name: String) -> String { folder.appendingPathComponent(name).path }

  func write(_ name: String, _ text: String) throws -> String {
    try Data(text.utf8).write(to: folder.appendingPathComponent(name))
    return path(name)
  }

  func image(_ name: String) throws -> String {
    try Data(count: 1 << 20).write(to: folder.appendingPathComponent(name))
    return path(name)
  }

  /// Starts the runner; `pipe` takes its standard error, else it goes to a file.
  func start(
    _ words: [String], _ environment: [String: String] = [:], pipe: Pipe? = nil,
    program: String? = nil
  ) throws {
    try startRaw(words + ["--control", control], environment, pipe: pipe, program: program)
  }

  /// The same without a control socket of its own.
  func startRaw(
    _ words: [String], _ environment: [String: String] = [:], pipe: Pipe? = nil,
    program: String? = nil
  ) throws {
    process.executableURL =
      program.map { URL(fileURLWithPath: $0) } ?? DiskTests.program("ivshmem-backend")
    process.arguments = words
    var all = ProcessInfo.processInfo.environment
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] { all[name] = nil }
    process.environment = all.merging(environment) { $1 }
    if let pipe {
      process.standardError = pipe
    } else {
      _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
      process.standardError = try FileHandle(forWritingTo: errors)
    }
    try process.run()
    started = true
  }

  var log: String { (try? String(contentsOf: errors, encoding: .utf8)) ?? "" }

  /// Sends bytes to the control socket and gives what comes back until `isWhole` or the end.
  func exchange(
    _ bytes: [UInt8], halfClose: Bool = false, isWhole: ([UInt8]) -> Bool = { _ in false }
  ) throws -> [UInt8] {
    let socket = try connect()
    _ = unsafe bytes.withUnsafeBytes {
      unsafe Glibc.send(socket.number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
    if halfClose { shutdown(socket.number, Int32(SHUT_WR)) }
    return Self.receive(socket.number, isWhole)
  }

  /// Waits until the control socket answers.
  func connect() throws -> Descriptor {
    let end = cl_monotonic_ns() + 60_000_000_000
    while true {
      let result = unsafe cl_connect_stream(control)
      if result >= 0 { return Descriptor(owning: Int32(result)) }
      guard cl_monotonic_ns() < end, process.isRunning || !started else {
        Issue.record("no answer; the process said: \(log)")
        throw SystemError(Int32(-result))
      }
      sched_yield()
    }
  }

  static func receive(_ socket: Int32, _ isWhole: ([UInt8]) -> Bool) -> [UInt8] {
    var answer: [UInt8] = []
    while !isWhole(answer) {
      var entry = cl_poll_entry(fd: socket, events: Int16(CL_POLL_IN), revents: 0)
      guard unsafe cl_poll_ns(&entry, 1, 60_000_000_000) > 0 else { return answer }
      var buffer = [UInt8](repeating: 0, count: 65536)
      let count = unsafe recv(socket, &buffer, buffer.count, 0)
      guard count > 0 else { return answer }
      answer += buffer[..<count]
    }
    return answer
  }

  /// One command, one line of JSON.
  func ask(_ command: String) throws -> [String: Any] {
    let answer = try exchange(Array((command + "\n").utf8)) { $0.last == 10 }
    let object = try JSONSerialization.jsonObject(with: Data(answer))
    return object as? [String: Any] ?? [:]
  }

  /// The links of a status answer by name.
  func links() throws -> [String: [String: Any]] {
    let list = try ask("status")["links"] as? [[String: Any]] ?? []
    return Dictionary(uniqueKeysWithValues: list.map { ($0["name"] as? String ?? "", $0) })
  }

  /// The samples of an HTTP answer by family.
  func metrics() throws -> [String: [String]] {
    let answer = try exchange(Array("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".utf8))
    let text = String(decoding: answer, as: UTF8.self)
    guard text.hasPrefix("HTTP/1.1 200 OK\r\n"), let head = text.range(of: "\r\n\r\n") else {
      return [:]
    }
    var families: [String: [String]] = [:]
    for line in text[head.upperBound...].split(separator: "\n") where !line.hasPrefix("#") {
      families[String(line.prefix { $0 != "{" && $0 != " " }), default: []].append(String(line))
    }
    return families
  }

  /// Waits for the end; the exit status.
  func wait() -> Int32 {
    process.waitUntilExit()
    return process.terminationStatus
  }

  func stop() throws -> Int32 {
    _ = try ask("stop")
    return wait()
  }

  /// How many descriptors and threads the process has.
  func census() throws -> [Int] {
    try ["fd", "task"].map {
      try FileManager.default.contentsOfDirectory(
        atPath: "/proc/\(process.processIdentifier)/\($0)"
      ).count
    }
  }

  /// Its address space in KiB.
  func addressSpace() throws -> Int {
    let text = try String(
      contentsOfFile: "/proc/\(process.processIdentifier)/status", encoding: .utf8)
    let line = text.split(separator: "\n").first { $0.hasPrefix("VmSize:") } ?? ""
    return Int(line.filter(\.isNumber)) ?? 0
  }

  deinit {
    if started, process.isRunning {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
    }
    try? FileManager.default.removeItem(at: folder)
  }
}

/// A fake service manager: the socket that `NOTIFY_SOCKET` names.
final class FakeManager {
  let socket: Descriptor
  private var lines: [String] = []

  /// Binds `name`, with `@` first for an abstract one.
  init(_ name: String) throws {
    socket = try Descriptor(Int(Glibc.socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    unsafe withUnsafeMutableBytes(of: &address.sun_path) { bytes in
      for (index, byte) in name.utf8.enumerated() {
        unsafe bytes[index] = index == 0 && byte == 64 ? 0 : byte
      }
    }
    let size = socklen_t(2 + name.utf8.count + (name.hasPrefix("@") ? 0 : 1))
    let number = socket.number
    let result = unsafe withUnsafePointer(to: &address) {
      unsafe bind(number, UnsafeRawPointer($0).assumingMemoryBound(to: sockaddr.self), size)
    }
    guard result == 0 else { throw SystemError(errno) }
  }

  /// The next line of any message; `nil` when none came within `nanoseconds`.
  func next(within nanoseconds: Int64 = 60_000_000_000) -> String? {
    while lines.isEmpty {
      var entry = cl_poll_entry(fd: socket.number, events: Int16(CL_POLL_IN), revents: 0)
      guard unsafe cl_poll_ns(&entry, 1, nanoseconds) > 0 else { return nil }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = unsafe recv(socket.number, &buffer, buffer.count, 0)
      guard count > 0 else { return nil }
      lines = String(decoding: buffer[..<count], as: UTF8.self)
        .split(separator: "\n").map(String.init)
    }
    return lines.removeFirst()
  }

  /// Takes lines up to one that begins so; `nil` when none comes.
  func take(_ prefix: String) -> String? {
    let end = cl_monotonic_ns() + 60_000_000_000
    while cl_monotonic_ns() < end, let line = next() {
      if line.hasPrefix(prefix) { return line }
    }
    return nil
  }
}
