import CLinux
import CommandOptions
import Foundation
import FrontendCommands
import Glibc
import LinuxRuntime
import LinuxSupport
import SharedMemory
import Testing
import VhostUser
import VirtioDevice

private let program = (ProcessInfo.processInfo.environment["PATH"] ?? "")
  .split(separator: ":").map { "\($0)/qemu-storage-daemon" }
  .first { FileManager.default.isExecutableFile(atPath: $0) }

/// Our driver side against a device that nobody here wrote: qemu-storage-daemon. `./dev setup`
/// installs it.
@Suite(.enabled(if: program != nil)) struct StorageDaemonTests {
  /// A daemon that exports an image until it is released.
  final class Daemon {
    let folder: URL
    let image: URL
    let path: String
    private let process = Process()
    private let ended = DispatchSemaphore(value: 0)

    init(bytes: [UInt8], queues: Int = 1) throws {
      folder = FileManager.default.temporaryDirectory.appendingPathComponent(
        "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      image = folder.appendingPathComponent("disk.img")
      path = folder.appendingPathComponent("qsd.sock").path
      try Data(bytes).write(to: image)
      process.executableURL = program.map { URL(fileURLWithPath: $0) }
      process.arguments = [
        "--blockdev", "driver=file,node-name=f,filename=\(image.path)", "--export",
        "type=vhost-user-blk,id=e,node-name=f,addr.type=unix,addr.path=\(path),writable=on,"
          + "num-queues=\(queues)",
      ]
      let ended = ended
      process.terminationHandler = { _ in ended.signal() }
      try process.run()
      let end = Date().addingTimeInterval(30)
      // The daemon tells nobody that it listens; a connection does.
      while !isListening(), process.isRunning, Date() < end {
        var nothing = cl_poll_entry(fd: -1, events: 0, revents: 0)
        _ = unsafe cl_poll_ns(&nothing, 1, 2_000_000)
      }
    }

    private func isListening() -> Bool {
      let result = unsafe cl_connect_stream(path)
      if result >= 0 { cl_close(Int32(result)) }
      return result >= 0
    }

    /// Ends it; a test does so itself, because a release may come early or late.
    func stop() {
      // Nothing of it is needed any more. Waiting by semaphore: a run loop of the test's thread
      // would have to be run for `waitUntilExit`.
      _ = kill(process.processIdentifier, SIGKILL)
      ended.wait()
      try? FileManager.default.removeItem(at: folder)
    }
  }

  static func random(_ count: Int, seed: UInt64) -> [UInt8] {
    var dice = VhostDice(state: seed)
    return (0..<count).map { _ in UInt8(truncatingIfNeeded: dice.next()) }
  }

  @Test(arguments: [(1, "512"), (8, "4K"), (64, "16K"), (2, "1M")])
  func aWholeDiskIsRead(depth: Int, size: String) throws {
    let bytes = Self.random(2 << 20, seed: UInt64(depth))
    let daemon = try Daemon(bytes: bytes)
    defer { daemon.stop() }
    let copy = daemon.folder.appendingPathComponent("copy.img")
    try ServedSocketTests.tool(
      "read",
      ["--vhost-user", daemon.path, "--file", copy.path, "--depth", "\(depth)", "--size", size])
    #expect(try Data(contentsOf: copy) == Data(bytes))
  }

  @Test func whatIsWrittenAndFlushedIsInTheFile() throws {
    let daemon = try Daemon(bytes: Self.random(2 << 20, seed: 5))
    defer { daemon.stop() }
    let local = daemon.folder.appendingPathComponent("local.img")
    let bytes = Data(Self.random(768 << 10, seed: 6))
    try bytes.write(to: local)
    try ServedSocketTests.tool(
      "write",
      ["--vhost-user", daemon.path, "--file", local.path, "--offset", "512K", "--size", "8K"])
    let image = try Data(contentsOf: daemon.image)
    #expect(image[(512 << 10)..<((512 + 768) << 10)] == bytes)
  }

  @Test func featuresQueuesAndConfigurationAreUnderstood() throws {
    let daemon = try Daemon(bytes: Self.random(1 << 20, seed: 7), queues: 3)
    defer { daemon.stop() }
    var front = try VhostUserFrontend.connect(path: daemon.path, patience: 60_000_000_000)
    var arena = PrivateMemory.arena(1 << 16)
    let memory = try DriverMemory.make(1 << 20, arena: &arena)
    let wanted = FeatureSet.version1.union(.indirectDescriptors).union(.eventIndex)
    #expect(try front.negotiate(wanted: wanted, memory: memory) == wanted)
    #expect(try front.queueCount() == 3)
    var bytes = InlineArray<8, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    try front.configuration(into: &span)
    let capacity = bytes.indices.reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << UInt64(8 * $1) }
    #expect(capacity == 2048)
  }
}
