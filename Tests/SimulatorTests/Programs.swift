import CLinux
import Foundation

/// A program of ours with its standard streams, ended with the value.
final class Program {
  let process = Process()
  private let output = Pipe()
  private let errors = Pipe()
  private var said = Data()
  let input = Pipe()

  init(_ name: String, _ arguments: [String]) throws {
    process.executableURL = DiskTests.program(name)
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = output
    process.standardError = errors
    try process.run()
  }

  deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

  /// Sends `text` and ends the input.
  func send(_ text: String) throws {
    try input.fileHandleForWriting.write(contentsOf: Data(text.utf8))
    try input.fileHandleForWriting.close()
  }

  /// Waits until standard error says `text`; whether it did before it ended.
  func waits(for text: String) -> Bool {
    while true {
      let more = errors.fileHandleForReading.availableData
      said += more
      if String(decoding: said, as: UTF8.self).contains(text) { return true }
      if more.isEmpty { return false }
    }
  }

  /// Waits for the end; status, standard output, standard error.
  func end() throws -> (status: Int32, output: String, errors: String) {
    let text = try output.fileHandleForReading.readToEnd() ?? Data()
    said += try errors.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return (
      process.terminationStatus, String(decoding: text, as: UTF8.self),
      String(decoding: said, as: UTF8.self)
    )
  }

  /// The next `count` bytes of standard output, or all there are.
  func read(_ count: Int) -> Data {
    (try? output.fileHandleForReading.read(upToCount: count)) ?? Data()
  }

  /// SIGKILL, and the end.
  func killNow() {
    kill(process.processIdentifier, SIGKILL)
    process.waitUntilExit()
  }

  /// Ends a program that stops at SIGTERM.
  func stop() throws -> (status: Int32, output: String, errors: String) {
    process.terminate()
    return try end()
  }
}

/// Looks again until `condition` holds, at most a minute.
func holds(_ condition: () throws -> Bool) rethrows -> Bool {
  for _ in 0..<12_000 {
    if try condition() { return true }
    var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
    _ = unsafe cl_poll_ns(&entry, 1, 5_000_000)
  }
  return false
}
