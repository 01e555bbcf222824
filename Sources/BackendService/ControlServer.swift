import CLinux
import CService
public import CommandOptions
import LinkNames
import LinuxSupport

/// Where the control socket lies and who may use it: `PATH[,group=NAME]`.
public struct ControlSpecification: Equatable, Sendable {
  /// The socket.
  public let path: String
  /// The group that may use it beside the owner, a name or a number.
  public let group: String?

  /// Parses the value of `--control`.
  public init(_ text: String) throws(UsageError) {
    let keyed = try KeyedValue(text, option: "control", known: ["group"])
    guard !keyed.first.isEmpty else {
      throw UsageError("--control \(text): expected PATH[,group=NAME]")
    }
    path = keyed.first
    group = keyed.value("group")
  }
}

/// The control socket with its clients; a bounded number, none of which can delay anything.
final class ControlServer {
  /// Clients at a time.
  static var clientLimit: Int { 16 }
  /// Connections accepted in one turn.
  private static var acceptLimit: Int { 8 }
  private static var listenerTag: UInt64 { 1 }
  private static var clientTag: UInt64 { 16 }

  private let path: String
  private let listener: Int32
  private let epoll: Int32
  private var clients: [ControlClient?]
  private var lastID = 0
  /// Requests answered so far.
  var requests: UInt64 = 0
  /// Clients that were turned away or whose connection was ended.
  private(set) var refusals: UInt64 = 0

  /// Listens; `epoll` is told what to watch.
  init(_ specification: ControlSpecification, epoll: Int32) throws(UsageError) {
    path = specification.path
    self.epoll = epoll
    clients = Array(repeating: nil, count: Self.clientLimit)
    let group = try Self.group(specification)
    var holder: Int32 = 0
    let mode: UInt32 = group < 0 ? 0o600 : 0o660
    let result = unsafe cs_listen(specification.path, mode, group, &holder)
    do throws(SystemError) {
      listener = Int32(truncatingIfNeeded: try SystemError.check(result))
      // Room in epoll is only missing where nothing else would work either.
      _ = cs_epoll_watch(epoll, listener, Self.listenerTag, 1, 0, 0)
    } catch {
      throw UsageError(
        "--control \(specification.path): \(error.text)"
          + (holder > 0 ? ", by \(processText(holder)); stop it or give another path" : ""))
    }
  }

  private static func group(_ specification: ControlSpecification) throws(UsageError) -> Int64 {
    guard let name = specification.group else { return -1 }
    if let number = UInt32(name) { return Int64(number) }
    let found = unsafe cs_group(name)
    guard found >= 0 else {
      throw UsageError("--control \(specification.path): there is no group '\(name)'")
    }
    return Int64(found)
  }

  /// What epoll said of `tag`; gives the requests that are whole now, with the client's number.
  func handle(
    _ tag: UInt64, now: UInt64, _ take: (Int, ControlRequest) -> Void
  ) {
    if tag == Self.listenerTag { return accept(now) }
    guard tag >= Self.clientTag, tag < Self.clientTag + UInt64(clients.count) else { return }
    let index = Int(tag - Self.clientTag)
    guard let client = clients[index] else { return }
    client.send(now: now)
    if let request = client.receive(now: now) {
      client.pending = request
      take(client.id, request)
    }
    settle(index)
  }

  private func accept(_ now: UInt64) {
    for _ in 0..<Self.acceptLimit {
      let result = cl_accept(listener)
      guard result >= 0 else { return }
      let socket = Descriptor(owning: Int32(truncatingIfNeeded: result))
      guard let place = clients.firstIndex(where: { $0 == nil }) else {
        refusals += 1
        var text = "{\"ok\":false,\"error\":\"too many clients\"}\n"
        text.withUTF8 { bytes in
          if let base = bytes.baseAddress {
            _ = unsafe cs_write(socket.number, base, bytes.count)
          }
        }
        continue
      }
      lastID += 1
      clients[place] = ControlClient(socket, id: lastID, now: now)
      settle(place)
    }
  }

  /// Gives a client its answer; who went away meanwhile gets none.
  func answer(_ id: Int, _ text: String, now: UInt64) {
    guard let index = clients.firstIndex(where: { $0?.id == id }), let client = clients[index]
    else { return }
    requests += 1
    client.answer(text, now: now)
    client.send(now: now)
    settle(index)
  }

  /// Takes one request of each client that has sent several at once.
  func takeBacklog(_ take: (Int, ControlRequest) -> Void) {
    for index in clients.indices {
      guard let client = clients[index], client.hasBacklog else { continue }
      if let request = client.nextRequest() {
        client.pending = request
        take(client.id, request)
      }
      settle(index)
    }
  }

  /// Whether ``takeBacklog(_:)`` has something to do.
  var hasBacklog: Bool { clients.contains { $0?.hasBacklog ?? false } }

  /// Ends the connections of clients that do nothing; when the next of them is due.
  func endLate(now: UInt64) -> UInt64? {
    var next: UInt64?
    for index in clients.indices {
      // Who waits for our answer is not late.
      guard let client = clients[index], client.pending == nil else { continue }
      if client.deadline <= now {
        refusals += 1
        close(index)
      } else {
        next = min(next ?? .max, client.deadline)
      }
    }
    return next
  }

  private func settle(_ index: Int) {
    guard let client = clients[index] else { return }
    guard !client.isDone else { return close(index) }
    let wants = client.wantsInput || client.wantsOutput
    guard wants || client.isWatched else { return }
    let result = cs_epoll_watch(
      epoll, client.socket, Self.clientTag + UInt64(index), client.wantsInput ? 1 : 0,
      client.wantsOutput ? 1 : 0, client.isWatched ? 1 : 0)
    client.isWatched = wants
    if result < 0 { close(index) }
  }

  private func close(_ index: Int) {
    guard let client = clients[index] else { return }
    if client.isWatched { cl_epoll_remove(epoll, client.socket) }
    clients[index] = nil
  }

  deinit {
    _ = unsafe cl_unlink(path)
    cl_close(listener)
  }
}
