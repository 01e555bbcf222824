import CLinux
import Foundation
import Glibc
import Simulator

/// What broke when somebody was killed; the text starts with the case.
struct KillFailure: Error, CustomStringConvertible { let description: String }

/// Everything that comes out of a pipe, until its end.
private final class Collector: @unchecked Sendable {
  private let lock = NSLock()
  private var bytes = Data()
  private let done = DispatchSemaphore(value: 0)
  let pipe = Pipe()

  init() {
    Thread.detachNewThread { [self] in
      while true {
        let more = pipe.fileHandleForReading.availableData
        guard !more.isEmpty else { break }
        lock.withLock { bytes += more }
      }
      done.signal()
    }
  }

  var data: Data { lock.withLock { bytes } }

  /// Waits for the end of the pipe.
  func finish() {
    done.wait()
    done.signal()
  }
}

/// A process that dies before one of its steps, with what it reads and writes.
final class Mortal {
  let process = Process()
  let input = Pipe()
  private let said = Collector()
  private let complained = Collector()

  init(_ name: String, _ arguments: [String], step: Int?) throws {
    process.executableURL = DiskTests.program(name)
    process.arguments = arguments
    process.standardInput = input
    process.standardOutput = said.pipe
    process.standardError = complained.pipe
    if let step {
      var environment = ProcessInfo.processInfo.environment
      environment["CELLMATE_CRASH_STEP"] = "\(step)"
      process.environment = environment
    }
    try process.run()
  }

  deinit { if process.isRunning { KillStepTests.end(process) } }

  var output: Data { said.data }
  var errors: String { String(decoding: complained.data, as: UTF8.self) }

  /// How often it says that the back-end went away.
  var recoveries: Int { errors.components(separatedBy: "the back-end went away").count - 1 }

  /// Waits for the end; whether the end was a step.
  ///
  /// - Throws: when it goes on for too long, or ends with another status than 0.
  func end(_ what: String) throws -> Bool {
    guard holds({ !process.isRunning }) else {
      throw KillFailure(description: "\(what) does not end: \(errors)")
    }
    process.waitUntilExit()
    said.finish()
    complained.finish()
    if KillStepTests.wasKilled(process) { return true }
    guard process.terminationReason == .exit, process.terminationStatus == 0 else {
      throw KillFailure(description: "\(what) ends with \(process.terminationStatus): \(errors)")
    }
    return false
  }
}

/// A stream of lines that are all different, and what came of it.
enum NumberedLines {
  static func bytes(_ letter: Character, _ range: Range<Int>) -> [UInt8] {
    range.flatMap { number in
      Array("\(letter)\(String(number + 1_000_000).dropFirst())\n".utf8)
    }
  }

  /// Cuts `seen` into pieces of `source`, as few as there can be; `nil` when a byte is from nowhere.
  static func pieces(_ seen: [UInt8], of source: [UInt8]) -> [Range<Int>]? {
    var found: [Range<Int>] = []
    var position = 0
    while position < seen.count {
      var best = 0..<0
      // Where the last piece went on, first.
      for start in [found.last?.upperBound ?? 0] + Array(source.indices) {
        var count = 0
        while position + count < seen.count, start + count < source.count,
          seen[position + count] == source[start + count]
        { count += 1 }
        if count > best.count { best = start..<start + count }
        if position + count == seen.count { break }
      }
      guard !best.isEmpty, found.count < 20 else { return nil }
      found.append(best)
      position += best.count
    }
    return found
  }
}

/// A client of a console's socket: says numbered lines, comes back when the back-end did, and hears
/// everything.
final class ConsoleCaller: @unchecked Sendable {
  private let path: String
  private let lock = NSLock()
  private var heardBytes: [UInt8] = []
  private var sentLines = 0
  private var isOver = false
  private let done = DispatchSemaphore(value: 0)

  init(_ path: String) {
    self.path = path
    Thread.detachNewThread { [self] in
      while !lock.withLock({ isOver }) { call() }
      done.signal()
    }
  }

  /// What it heard so far, and how many lines it has begun to say.
  var heard: [UInt8] { lock.withLock { heardBytes } }
  var sent: Int { lock.withLock { sentLines } }

  /// Hangs up for good. May be called again.
  func stop() {
    lock.withLock { isOver = true }
    done.wait()
    done.signal()
  }

  /// One connection, until it ends.
  private func call() {
    let client = Int32(truncatingIfNeeded: unsafe cl_connect_stream(path))
    guard client >= 0 else { return pause() }
    defer { cl_close(client) }
    var pending: [UInt8] = []
    var bytes = [UInt8](repeating: 0, count: 4096)
    while !lock.withLock({ isOver }) {
      var entry = cl_poll_entry(fd: client, events: Int16(CL_POLL_IN), revents: 0)
      if unsafe cl_poll_ns(&entry, 1, 2_000_000) > 0 {
        let count = unsafe read(client, &bytes, bytes.count)
        guard count > 0 else { return }
        lock.withLock { heardBytes += bytes[..<count] }
        continue
      }
      // At its ease: as much as one pass of a loop takes.
      if pending.isEmpty {
        pending = lock.withLock {
          defer { sentLines += 4 }
          return NumberedLines.bytes("h", sentLines..<sentLines + 4)
        }
      }
      let count = unsafe Glibc.send(
        client, pending, pending.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
      guard count >= 0 || errno == EAGAIN else { return }
      pending.removeFirst(max(0, count))
    }
  }

  private func pause() {
    var entry = cl_poll_entry(fd: -1, events: 0, revents: 0)
    _ = unsafe cl_poll_ns(&entry, 1, 2_000_000)
  }
}
