import CLinux
import Foundation
import HostResources
import LinuxSupport
import VirtioConsole

/// A console host with its wake-up, used from one thread as a device uses it.
struct ConsoleRig: ~Copyable {
  var host: LinuxConsoleHost
  let wake: Descriptor
  let log: LogLines

  init(_ ports: ConsolePortOptions...) throws {
    let wake = try Descriptor(cl_eventfd())
    let log = LogLines()
    host = try LinuxConsoleHost(ports, wakeDescriptor: wake.number, log: log.hook)
    self.wake = wake
    self.log = log
  }

  /// Looks at each news until `condition` holds; false after a minute.
  mutating func waits(until condition: (inout LinuxConsoleHost) -> Bool) -> Bool {
    let end = cl_monotonic_ns() + 60_000_000_000
    while cl_monotonic_ns() < end {
      _ = host.takeEvents()
      if condition(&host) { return true }
      if waitForEvent(wake.number) { cl_event_take(wake.number) }
    }
    return false
  }

  /// Reads until `count` bytes have come.
  mutating func read(_ count: Int, port: Int = 0) -> [UInt8] {
    var all: [UInt8] = []
    _ = waits { host in
      while all.count < count {
        var bytes = [UInt8](repeating: 0, count: 100)
        var span = bytes.mutableSpan
        let got = host.read(port: port, into: &span)
        if got == 0 { return false }
        all += bytes[..<got]
      }
      return true
    }
    return all
  }

  /// Reads what is there now.
  mutating func readNow() -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 100)
    var span = bytes.mutableSpan
    let got = host.read(port: 0, into: &span)
    return Array(bytes[..<got])
  }

  /// Writes what fits.
  mutating func write(_ bytes: [UInt8], port: Int = 0) -> ConsoleWrite {
    host.write(port: port, bytes.span)
  }

  /// Writes until the other end takes nothing more; returns how much it took.
  mutating func writeUntilFull(_ bytes: [UInt8], port: Int = 0) -> Int {
    var done = 0
    while done < bytes.count {
      guard case .taken(let count) = host.write(port: port, bytes.span.extracting(done...)),
        count > 0
      else { break }
      done += count
    }
    return done
  }

  /// Writes everything while `drain` takes it at the other end, at its own pace; false after
  /// a minute.
  mutating func writeAll(_ bytes: [UInt8], from start: Int, _ drain: () -> Void) -> Bool {
    var done = start
    let end = cl_monotonic_ns() + 60_000_000_000
    while done < bytes.count, cl_monotonic_ns() < end {
      drain()
      _ = host.takeEvents()
      if case .taken(let count) = host.write(port: 0, bytes.span.extracting(done...)), count > 0 {
        done += count
      } else {
        var entry = cl_poll_entry(fd: wake.number, events: Int16(CL_POLL_IN), revents: 0)
        if unsafe cl_poll_ns(&entry, 1, 2_000_000) > 0 { cl_event_take(wake.number) }
      }
    }
    return done == bytes.count
  }
}

/// What somebody outside holds: the other end of a terminal, a client's socket.
final class Outside {
  let number: Int32

  init(_ result: Int) throws { number = try Descriptor(result).release() }
  /// Opens a terminal without making it ours.
  static func terminal(_ path: String) throws -> Outside {
    try Outside(unsafe cl_open(path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0))
  }
  static func client(_ path: String) throws -> Outside {
    try Outside(unsafe cl_connect_stream(path))
  }

  deinit { cl_close(number) }

  func write(_ text: String) -> Bool {
    let bytes = Array(text.utf8)
    return unsafe bytes.withUnsafeBytes { unsafe Glibc.write(number, $0.baseAddress, $0.count) }
      == bytes.count
  }

  /// What is there now.
  func readNow() -> [UInt8] {
    var all: [UInt8] = []
    var bytes = [UInt8](repeating: 0, count: 4096)
    while true {
      let got = unsafe bytes.withUnsafeMutableBytes {
        unsafe Glibc.read(number, $0.baseAddress, $0.count)
      }
      guard got > 0 else { return all }
      all += bytes[..<got]
    }
  }

  /// Waits until as much has come, at most a minute.
  func read(_ count: Int) -> [UInt8] {
    var all = readNow()
    while all.count < count {
      guard waitForEvent(number) else { break }
      let more = readNow()
      if more.isEmpty { break }
      all += more
    }
    return all
  }
}
