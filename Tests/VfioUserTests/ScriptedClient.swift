import CLinux
import Foundation
import IVShmem
import LinuxSupport
import Simulator
import SimulatorPeer
import VfioUser

/// A server on a thread of its own, with a folder that goes away with it.
final class MachineServer {
  let folder: URL
  let path: String
  private let stop: Int32
  private let done = DispatchSemaphore(value: 0)

  /// A link whose peers in `machines` are virtual machines.
  init(
    machines: [UInt32], _ change: (inout SimulatorOptions) -> Void = { _ in }
  ) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "cellmate-test-\(UInt64.random(in: 0...UInt64.max))")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    path = folder.appendingPathComponent("link.sock").path
    var options = SimulatorOptions()
    options.outputSize = 1 << 14
    for peer in machines {
      options.machines.append(
        MachineOptions(
          peer: peer, path: folder.appendingPathComponent("vm\(peer).sock").path))
    }
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

  func socket(of peer: UInt32) -> String {
    folder.appendingPathComponent("vm\(peer).sock").path
  }

  func client(_ peer: UInt32) throws -> ScriptedClient { try ScriptedClient(socket(of: peer)) }

  func process(_ peer: UInt16) throws -> SimulatorPeer {
    try SimulatorPeer(socketPath: path, wanting: PeerID(peer))
  }

  deinit {
    _ = cl_event_signal(stop)
    done.wait()
    try? FileManager.default.removeItem(at: folder)
  }
}

/// What a client got back.
struct ScriptedReply {
  var header: VfioUserHeader
  var payload: [UInt8]
  var descriptors: [Int32]

  func word(_ offset: Int) -> UInt32 { little(payload, offset, 4).low }
  func long(_ offset: Int) -> UInt64 { little(payload, offset, 8) }
  var error: UInt32 { header.flags & 0x20 != 0 ? header.error : 0 }
}

func little(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> UInt64 {
  (0..<count).reversed().reduce(0) { $0 << 8 | UInt64(bytes[offset + $1]) }
}

func words(_ values: UInt32...) -> [UInt8] {
  values.flatMap { value in (0..<4).map { UInt8(truncatingIfNeeded: value >> UInt32(8 * $0)) } }
}

extension UInt64 { var low: UInt32 { UInt32(truncatingIfNeeded: self) } }

enum ScriptedError: Error { case closed, noAnswer, wrongHeader }

/// A vfio-user client that says what a test tells it to.
final class ScriptedClient {
  let socket: Descriptor
  var nextID: UInt16 = 100

  init(_ path: String) throws {
    var result = unsafe cl_connect_stream(path)
    let deadline = cl_monotonic_ns() + 60_000_000_000
    // The server may not have taken the connections before this one.
    while result == -11, cl_monotonic_ns() < deadline { result = unsafe cl_connect_stream(path) }
    socket = try Descriptor(result)
    _ = cl_set_blocking(socket.number)
  }

  func sendRaw(_ bytes: [UInt8], _ descriptors: [Int32] = []) -> Int {
    unsafe bytes.withUnsafeBytes { data in
      unsafe descriptors.withUnsafeBufferPointer { fds in
        guard let base = data.baseAddress else { return 0 }
        return unsafe cl_send(
          socket.number, base, data.count, fds.baseAddress, UInt32(fds.count))
      }
    }
  }

  /// Sends a request without looking for an answer.
  func send(
    _ command: UInt16, _ payload: [UInt8] = [], flags: UInt32 = 0, _ descriptors: [Int32] = []
  ) throws {
    nextID &+= 1
    let header = VfioUserHeader(
      id: nextID, command: command, size: UInt32(16 + payload.count), flags: flags)
    let bytes = header.bytes + payload
    guard sendRaw(bytes, descriptors) == bytes.count else { throw ScriptedError.closed }
  }

  /// Receives exactly `count` bytes, within a minute.
  func receive(_ count: Int, _ descriptors: inout [Int32]) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var have = 0
    while have < count {
      var entry = cl_poll_entry(fd: socket.number, events: 1, revents: 0)
      guard unsafe cl_poll_ns(&entry, 1, 60_000_000_000) == 1 else { throw ScriptedError.noAnswer }
      var numbers = [Int32](repeating: -1, count: Int(CL_MAX_FDS))
      var arrived: UInt32 = 0
      let got = unsafe bytes.withUnsafeMutableBytes { data in
        unsafe numbers.withUnsafeMutableBufferPointer { fds in
          guard let base = data.baseAddress, let first = fds.baseAddress else { return 0 }
          return unsafe cl_receive(
            socket.number, base + have, count - have, first, &arrived, 0)
        }
      }
      descriptors += numbers[..<Int(arrived)]
      guard got > 0 else { throw ScriptedError.closed }
      have += got
    }
    return bytes
  }

  func receiveReply() throws -> ScriptedReply {
    var descriptors: [Int32] = []
    let header = VfioUserHeader(try receive(16, &descriptors))
    let payload = try receive(Int(header.size) - 16, &descriptors)
    return ScriptedReply(header: header, payload: payload, descriptors: descriptors)
  }

  /// Sends a request and takes its answer, whose header must be the right one.
  @discardableResult
  func ask(
    _ command: VfioUserCommand, _ payload: [UInt8] = [], _ descriptors: [Int32] = []
  ) throws -> ScriptedReply {
    try send(command.rawValue, payload, descriptors)
    let reply = try receiveReply()
    guard reply.header.id == nextID, reply.header.command == command.rawValue,
      reply.header.flags & 0xf == 1
    else { throw ScriptedError.wrongHeader }
    return reply
  }

  private func send(_ command: UInt16, _ payload: [UInt8], _ descriptors: [Int32]) throws {
    try send(command, payload, flags: 0, descriptors)
  }

  // MARK: What QEMU says

  /// QEMU's proposal, as observed.
  @discardableResult
  func agree() throws -> ScriptedReply {
    let json =
      #"{"capabilities": {"max_data_xfer_size": 1048576, "max_msg_fds": 16, "max_dma_maps": 65535, "#
      + #""pgsizes": 4096, "migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "#
      + #""write_multiple": true}}"#
    return try ask(.version, [0, 0, 0, 0] + Array(json.utf8) + [0])
  }

  func read(_ region: UInt32, _ offset: UInt64, _ count: UInt32) throws -> ScriptedReply {
    try ask(.read, words(offset.low, (offset >> 32).low, region, count))
  }

  func write(_ region: UInt32, _ offset: UInt64, _ data: [UInt8]) throws -> ScriptedReply {
    try ask(
      .write, words(offset.low, (offset >> 32).low, region, UInt32(data.count)) + data)
  }

  func register(_ offset: UInt64) throws -> UInt32 { try read(0, offset, 4).word(16) }

  func setRegister(_ offset: UInt64, _ value: UInt32) throws {
    guard try write(0, offset, words(value)).error == 0 else { throw ScriptedError.wrongHeader }
  }

  func configuration() throws -> [UInt8] { Array(try read(7, 0, 256).payload[16...]) }

  func setInterrupts(
    _ flags: UInt32, _ index: UInt32, _ start: UInt32, _ count: UInt32,
    _ descriptors: [Int32] = []
  ) throws -> ScriptedReply {
    try ask(.setInterrupts, words(20, flags, index, start, count), descriptors)
  }
}

/// An eventfd as a VMM makes it.
final class ScriptedEvent {
  let descriptor: Descriptor
  init() throws {
    descriptor = try Descriptor(cl_eventfd())
    _ = cl_set_nonblocking(descriptor.number)
  }
  /// Whether it was signalled, at most `seconds` from now.
  func fires(within seconds: Int64 = 60) -> Bool {
    var entry = cl_poll_entry(fd: descriptor.number, events: 1, revents: 0)
    guard unsafe cl_poll_ns(&entry, 1, seconds * 1_000_000_000) == 1 else { return false }
    cl_event_take(descriptor.number)
    return true
  }
  var isSignalled: Bool { fires(within: 0) }
}
