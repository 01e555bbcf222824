import CLinux
import CommandOptions
import Foundation
import FrontendCommands
import HostResources
import IVShmem
import BackendService
import LinuxRuntime
import LinuxSupport
import SharedMemory
import Simulator
import SimulatorPeer
import Testing
import ToolSupport
import VirtioBlock

/// A server on a thread of its own, with a folder that goes away with it.
final class RunningServer {
  let folder: URL
  let path: String
  private let stop: Int32
  private let done = DispatchSemaphore(value: 0)

  init(_ change: (inout SimulatorOptions) -> Void = { _ in }) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    path = folder.appendingPathComponent("link.sock").path
    var options = SimulatorOptions()
    options.outputSize = 1 << 20
    change(&options)
    // SAFETY: this thread only makes the server; the other one alone runs it.
    nonisolated(unsafe) let server = try SimulatorServer(path: path, options: options) { _ in }
    stop = unsafe server.stopEvent
    let done = done
    Thread.detachNewThread {
      unsafe server.run()
      done.signal()
    }
  }

  deinit {
    _ = cl_event_signal(stop)
    done.wait()
    try? FileManager.default.removeItem(at: folder)
  }
}

@Suite struct SimulatedLinkTests {
  static let soon = Instant(nanoseconds: 0)

  static func peer(_ server: RunningServer, _ id: UInt16) throws -> SimulatorPeer {
    try SimulatorPeer(socketPath: server.path, wanting: PeerID(id))
  }

  /// A path given by mistake costs nobody a file.
  @Test func aFileThatIsNoSocketIsLeftAlone() throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
    try Data("precious".utf8).write(to: path)
    defer { try? FileManager.default.removeItem(at: path) }
    #expect(throws: SimulatorServerError.self) {
      _ = try SimulatorServer(path: path.path, options: SimulatorOptions()) { _ in }
    }
    #expect(try Data(contentsOf: path) == Data("precious".utf8))
  }

  @Test func doorbellsAreLostWhileDisarmedAndOneShotDisarms() throws {
    let server = try RunningServer()
    var a = try Self.peer(server, 0)
    var b = try Self.peer(server, 1)
    a.ringDoorbell(.zero, at: b.peerID)
    #expect(b.wait(until: Self.soon) == .deadline)
    b.setInterruptsEnabled(true)
    #expect(b.wait(until: Self.soon) == .deadline)
    a.ringDoorbell(.zero, at: b.peerID)
    #expect(b.interruptsEnabled() == false)
    a.ringDoorbell(.zero, at: b.peerID)
    #expect(b.wait(until: Self.soon) == .event)
    #expect(b.wait(until: Self.soon) == .deadline)
    let counts = a.interruptCounts(of: PeerID(1))
    #expect(counts.delivered == 1 && counts.dropped == 2)
  }

  @Test func withoutOneShotDoorbellsKeepComing() throws {
    let server = try RunningServer { $0.isOneShot = false }
    var a = try Self.peer(server, 0)
    var b = try Self.peer(server, 1)
    b.setInterruptsEnabled(true)
    for _ in 0..<3 {
      a.ringDoorbell(.zero, at: b.peerID)
      #expect(b.wait(until: Self.soon) == .event)
    }
  }

  @Test func vectorsBeyondTheLastVanish() throws {
    let server = try RunningServer { $0.vectorCount = 3 }
    var a = try Self.peer(server, 0)
    var b = try Self.peer(server, 1)
    b.setInterruptsEnabled(true)
    a.ringDoorbell(Vector(3), at: b.peerID)
    #expect(b.wait(until: Self.soon) == .deadline)
    a.ringDoorbell(Vector(2), at: b.peerID)
    #expect(b.wait(until: Self.soon) == .event)
  }

  @Test func stateChangesInterruptAndDeathIsStateZero() throws {
    let server = try RunningServer()
    var b = try Self.peer(server, 1)
    do {
      var a = try Self.peer(server, 0)
      b.setInterruptsEnabled(true)
      a.writeState(7)
      #expect(b.region.state(of: PeerID(0), in: b.geometry) == 7)
      #expect(a.readState() == 7)
      #expect(b.wait(until: Self.soon) == .event)
      b.setInterruptsEnabled(true)
      a.writeState(7)
      #expect(b.wait(until: Self.soon) == .deadline)
    }
    let later = b.now().advanced(byNanoseconds: 60_000_000_000)
    #expect(b.wait(until: later) == .event)
    #expect(b.region.state(of: PeerID(0), in: b.geometry) == 0)
  }

  @Test func aTakenPeerIsRefusedWithItsHolder() throws {
    let server = try RunningServer()
    let first = try Self.peer(server, 0)
    #expect(first.peerID == PeerID(0))
    var seen: SimulatorPeerError?
    do throws(SimulatorPeerError) {
      _ = try SimulatorPeer(socketPath: server.path, wanting: PeerID(0))
    } catch { seen = error }
    #expect(seen == .busy(PeerID(0), holder: cl_process_id()))
    do throws(SimulatorPeerError) {
      _ = try SimulatorPeer(socketPath: server.path, wanting: PeerID(9))
    } catch { seen = error }
    #expect(seen == .noSuchPeer(PeerID(9)))
  }

  /// The kernel enforces the rights: state table, other peer's section, guards.
  @Test func aPeerThatWritesWhereItMustNotDies() async {
    await #expect(processExitsWith: .signal(SIGSEGV)) {
      let server = try RunningServer()
      let peer = try SimulatorPeer(socketPath: server.path, wanting: PeerID(0))
      peer.region.store32(1, at: 0)
    }
    await #expect(processExitsWith: .signal(SIGSEGV)) {
      let server = try RunningServer()
      let peer = try SimulatorPeer(socketPath: server.path, wanting: PeerID(0))
      peer.region.store32(1, at: peer.geometry.output(of: PeerID(1)).lowerBound)
    }
    await #expect(processExitsWith: .success) {
      let server = try RunningServer()
      let peer = try SimulatorPeer(socketPath: server.path, wanting: PeerID(0))
      peer.region.store32(1, at: peer.geometry.output(of: PeerID(0)).lowerBound)
    }
  }

  /// Whatever a connection sends, it loses its connection and nothing else happens.
  @Test func malformedMessagesCloseOneConnectionOnly() throws {
    let server = try RunningServer()
    var good = try Self.peer(server, 0)
    for size in [0, 1, 4, 7, 8, 9, 64, 4096] {
      let bad = try Descriptor(unsafe cl_connect(server.path))
      let bytes = [UInt8](repeating: 0xff, count: size)
      unsafe bytes.withUnsafeBytes { buffer in
        guard let base = buffer.baseAddress else { return }
        _ = unsafe cl_send(bad.number, base, size, nil, 0)
      }
      good.writeState(UInt32(size) + 1)
      #expect(good.readState() == UInt32(size) + 1)
    }
  }

  @Test func aMissingBackEndIsATimeOut() throws {
    let server = try RunningServer()
    var seen: ClientError?
    do throws(ClientError) {
      let link: LinkSpecification
      do throws(UsageError) { link = try LinkSpecification("sim:\(server.path)") } catch {
        throw .usage(error)
      }
      _ = try BlockClient(
        link: link, slot: 0, depth: 4, chunk: 4096, patience: 50_000_000
      ) { _ in }
    } catch { seen = error }
    guard case .failed(let text) = seen else {
      Issue.record("\(String(describing: seen))")
      return
    }
    #expect(text.contains("no back-end"))
  }

  struct Bad: Sendable {
    let device: String
    let says: String
  }

  /// One clear line each, and nothing is half-started.
  @Test(arguments: [
    Bad(device: "disk,file=x", says: "unknown device"),
    Bad(device: "block", says: "file=PATH is missing"),
    Bad(device: "block,file=x,colour=red", says: "unknown key"),
    Bad(device: "block,file=/nowhere/x", says: "No such file"),
    Bad(device: "block,file=/tmp", says: "/tmp"),
    Bad(device: "block,file=/dev/null", says: "neither a regular file"),
    Bad(device: "block,file=x,queues=9", says: "1 to 8"),
  ])
  func badDevicesAreOneLine(bad: Bad) throws {
    let server = try RunningServer()
    var seen = ""
    do throws(UsageError) {
      var options = BackendOptions()
      options.links = [
        BackendOptions.Link(
          .link(try LinkSpecification("sim:\(server.path)")),
          devices: [try DeviceText(bad.device)])
      ]
      _ = try BackendProcess(options)
    } catch { seen = error.message }
    #expect(seen.contains(bad.says))
    #expect(!seen.contains("\n"))
  }
}
