import CLinux
import CommandOptions
import Foundation
import FrontendCommands
import LinuxSupport
import SharedMemory
import Testing
import ToolSupport
import VhostUser
import VirtioDevice

@testable import BackendService
@testable import Cellmate
@testable import LinuxRuntime

/// What the library has said in this process.
final class SpokenLines: @unchecked Sendable {
  static let shared = SpokenLines()
  private let lock = NSLock()
  private var all: [String] = []

  func listen() {
    LibraryHooks.listen { [self] record in
      lock.lock()
      all.append(record.line)
      lock.unlock()
    }
  }

  var lines: [String] {
    lock.lock()
    defer { lock.unlock() }
    return all
  }
}

/// A socket of the library's, as the face of the library makes it, without a handle.
func openSocket(
  _ path: String, _ device: String, wake: Int32,
  voice: LinkVoice = LinkVoice("test") { _, _, _ in }
) throws -> VhostUserLink {
  var arena = PrivateMemory.arena(8 << 20)
  let served = try ServedDevice.make(
    try DeviceSpecification(device), wakeDescriptor: wake, arena: &arena, log: { _ in })
  let made = try LibraryDevice.make(served, arena: &arena)
  return try VhostUserLink.open(path: path, made, wake: wake, voice, arena: &arena)
}

/// A vhost-user socket served on a thread of this process.
@safe
final class ServedSocket: @unchecked Sendable {
  let folder: URL
  let path: String
  let image: URL
  private var link: ServedLink?
  private let event: Descriptor

  init(imageBytes: Int = 1 << 20) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    path = folder.appendingPathComponent("vhost.sock").path
    image = folder.appendingPathComponent("disk.img")
    event = try Descriptor(cl_eventfd())
    var dice = VhostDice(state: 77)
    let bytes = (0..<imageBytes).map { _ in UInt8(truncatingIfNeeded: dice.next()) }
    try Data(bytes).write(to: image)
  }

  /// Starts to serve the image.
  func start() throws {
    SpokenLines.shared.listen()
    let link = try ServedLink(
      BackendOptions.Link(
        .vhostUser(path), devices: [try DeviceText("block,file=\(image.path)")]),
      BackendOptions())
    try link.start(signalling: event.number)
    self.link = link
  }

  func stop() {
    guard let link else { return }
    link.board.askToStop()
    link.wakeUp()
    while !link.board.hasEnded { _ = cl_event_wait(event.number) }
    link.join()
    self.link = nil
  }

  /// Whether a log line holds `text`.
  func hasLogged(_ text: String) -> Bool {
    SpokenLines.shared.lines.contains { $0.contains(path) && $0.contains(text) }
  }

  deinit {
    try? FileManager.default.removeItem(at: folder)
  }
}

@Suite(.serialized) struct ServedSocketTests {
  static func tool(_ action: String, _ words: [String]) throws {
    let given = try CommandOptions(words + ["--quiet", "--json"], BlockTool.options)
    try BlockTool(action, given).run()
  }

  /// Our driver side against our device side: the whole way through socket, rings and file.
  @Test func aDiskIsReadAndWritten() throws {
    let served = try ServedSocket()
    try served.start()
    let copy = served.folder.appendingPathComponent("copy.img")
    try Self.tool("read", ["--vhost-user", served.path, "--file", copy.path, "--size", "16K"])
    #expect(try Data(contentsOf: copy) == Data(contentsOf: served.image))
    let other = Data((0..<65536).map { UInt8(truncatingIfNeeded: $0 &* 7) })
    try other.write(to: copy)
    try Self.tool(
      "write", ["--vhost-user", served.path, "--file", copy.path, "--offset", "128K"])
    served.stop()
    let image = try Data(contentsOf: served.image)
    #expect(image[(128 << 10)..<(192 << 10)] == other)
    #expect(!FileManager.default.fileExists(atPath: served.path))
  }

  /// A back-end that was killed leaves its socket file behind; the next one takes its place.
  @Test func aSocketThatNobodyServesIsReplaced() throws {
    let served = try ServedSocket()
    _ = try Descriptor(unsafe cl_listen_stream(served.path))
    try served.start()
    served.stop()
  }

  @Test func aSocketThatIsServedIsNotTaken() throws {
    let served = try ServedSocket()
    try served.start()
    let wake = try Descriptor(cl_eventfd())
    #expect(throws: UsageError.self) {
      _ = try openSocket(served.path, "entropy", wake: wake.number)
    }
    served.stop()
  }

  /// Whatever else the path names is left alone: a disk image given by mistake, a folder.
  @Test func whatIsNoSocketIsNotReplaced() throws {
    let served = try ServedSocket()
    let before = try Data(contentsOf: served.image)
    let wake = try Descriptor(cl_eventfd())
    for (path, reason) in [
      (served.image.path, "no socket is there"), (served.folder.path, "no socket is there"),
      (served.folder.path + "/none/a.sock", "make it first"),
      (served.path + String(repeating: "x", count: 107), "at most 107 bytes"),
    ] {
      let error = #expect(throws: UsageError.self) {
        _ = try openSocket(path, "entropy", wake: wake.number)
      }
      #expect(error?.message.contains(reason) == true)
    }
    #expect(try Data(contentsOf: served.image) == before)
  }

  /// `--check`, and a process whose second socket cannot be opened, leave nothing behind.
  @Test func aSocketThatWasNeverServedLeavesNoFile() throws {
    let served = try ServedSocket()
    do {
      let wake = try Descriptor(cl_eventfd())
      let link = try openSocket(served.path, "entropy", wake: wake.number)
      #expect(link.wakeDescriptor >= 0)
      #expect(FileManager.default.fileExists(atPath: served.path))
      _ = consume link
    }
    #expect(!FileManager.default.fileExists(atPath: served.path))
    var options = BackendOptions()
    for path in [served.path, served.path + "/not-a-folder"] {
      options.links.append(
        BackendOptions.Link(.vhostUser(path), devices: [try DeviceText("entropy")]))
    }
    #expect(throws: UsageError.self) { _ = try BackendProcess(options) }
    #expect(!FileManager.default.fileExists(atPath: served.path))
  }

  /// The socket of a successor is not taken away.
  @Test func aReplacedSocketFileStays() throws {
    let served = try ServedSocket()
    try served.start()
    try FileManager.default.removeItem(atPath: served.path)
    let successor = try Descriptor(unsafe cl_listen_stream(served.path))
    served.stop()
    #expect(FileManager.default.fileExists(atPath: served.path))
    #expect(successor.number >= 0)
  }

  /// Garbage ends the connection with a reason in the log; the next front-end is served.
  @Test func garbageOnTheSocketEndsTheConnectionOnly() throws {
    let served = try ServedSocket()
    try served.start()
    for seed in 1...20 {
      var dice = VhostDice(state: UInt64(seed))
      let client = try Descriptor(unsafe cl_connect_stream(served.path))
      let bytes = (0..<200).map { _ in UInt8(truncatingIfNeeded: dice.next()) }
      _ = unsafe bytes.withUnsafeBytes { buffer in
        unsafe buffer.baseAddress.map { unsafe cl_send(client.number, $0, buffer.count, nil, 0) }
      }
      // The connection ends: the other side closes it.
      var entry = cl_poll_entry(fd: client.number, events: Int16(CL_POLL_IN), revents: 0)
      #expect(unsafe cl_poll_ns(&entry, 1, 60_000_000_000) == 1)
    }
    let copy = served.folder.appendingPathComponent("copy.img")
    try Self.tool("read", ["--vhost-user", served.path, "--file", copy.path])
    #expect(try Data(contentsOf: copy) == Data(contentsOf: served.image))
    served.stop()
    #expect(served.hasLogged("the connection is ended"))
  }

  /// A VMM that is started again at once is not mistaken for a second one: here it comes in the
  /// moment in which its predecessor is accepted and leaves.
  @Test func aSuccessorIsNotTurnedAway() throws {
    final class Visitors: @unchecked Sendable {
      var first: Descriptor?
      var second: Descriptor?
      var seen: [String] = []
    }
    let served = try ServedSocket()
    let visitors = Visitors()
    let path = served.path
    let voice = LinkVoice("vhost-user") { _, _, line in
      visitors.seen.append(line)
      guard line.contains("connected ("), visitors.second == nil else { return }
      visitors.first = nil
      visitors.second = try? Descriptor(unsafe cl_connect_stream(path))
    }
    let wake = try Descriptor(cl_eventfd())
    var link = try openSocket(path, "entropy", wake: wake.number, voice: voice)
    link.begin()
    visitors.first = try Descriptor(unsafe cl_connect_stream(path))
    while visitors.seen.count < 4 {
      if link.turn() == .idle { _ = link.sleep(until: nil) }
    }
    #expect(visitors.seen.contains { $0.contains("was turned away") } == false)
    #expect(visitors.seen.count { $0.contains("front-end connected") } == 2)
  }

  @Test func aSecondFrontEndIsTurnedAway() throws {
    let served = try ServedSocket()
    try served.start()
    var first = try VhostUserFrontend.connect(path: served.path, patience: 60_000_000_000)
    var arena = PrivateMemory.arena(1 << 16)
    let memory = try DriverMemory.make(1 << 20, arena: &arena)
    _ = try first.negotiate(wanted: FeatureSet.version1, memory: memory)
    var second = try VhostUserFrontend.connect(path: served.path, patience: 60_000_000_000)
    #expect(throws: VhostUserFrontendError.self) {
      _ = try second.negotiate(wanted: FeatureSet.version1, memory: memory)
    }
    #expect(try first.queueCount() == 1)
    served.stop()
    #expect(served.hasLogged("was turned away"))
  }
}
