import CLinux
import Foundation
import Synchronization

@testable import HostResources

/// A folder that goes away with the value.
final class Scratch {
  let folder: URL
  init(in parent: String? = nil) {
    let base = parent.map { URL(fileURLWithPath: $0) } ?? FileManager.default.temporaryDirectory
    folder = base.appendingPathComponent("cellmate-\(UUID().uuidString)")
    try? FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }
  func file(_ name: String, bytes: Int) throws -> String {
    let path = folder.appendingPathComponent(name).path
    try Data(count: bytes).write(to: URL(fileURLWithPath: path))
    return path
  }
  deinit { try? FileManager.default.removeItem(at: folder) }
}

/// What a host logged, from any thread.
final class LogLines: Sendable {
  private let lines = Mutex<[String]>([])
  var all: [String] { lines.withLock { $0 } }
  var hook: @Sendable (String) -> Void { { line in self.lines.withLock { $0.append(line) } } }
}

/// The threads of this process.
func threadCount() throws -> Int {
  try FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
}

/// Waits for an event at most a minute; whether it came.
func waitForEvent(_ descriptor: Int32) -> Bool {
  var entry = cl_poll_entry(fd: descriptor, events: Int16(CL_POLL_IN), revents: 0)
  return unsafe cl_poll_ns(&entry, 1, 60_000_000_000) > 0
}

extension FileBlockOptions {
  static func with(_ change: (inout FileBlockOptions) -> Void) -> FileBlockOptions {
    var options = FileBlockOptions()
    change(&options)
    return options
  }
}
