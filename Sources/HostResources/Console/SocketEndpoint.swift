import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// A Unix socket with one client at a time; the next one may connect when it has left.
@safe
final class SocketEndpoint: ConsoleEndpoint {
  private let path: String
  private let listener: Descriptor
  private let watcher: ConsoleWatcher
  private let port: Int
  private let log: @Sendable (String) -> Void
  private var client: Descriptor?
  private var hasInput = false

  init(
    path: String, _ watcher: ConsoleWatcher, port: Int, log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) {
    do throws(SystemError) {
      listener = try Descriptor(unsafe cl_listen_stream(path))
    } catch { throw .system(what: "socket \(path)", error) }
    self.path = path
    self.watcher = watcher
    self.port = port
    self.log = log
    super.init()
    try watcher.add(listener.number, port: port, what: "socket \(path)")
  }

  override var isOpen: Bool { client != nil }

  override func look() {
    hasInput = true
    // Bounded by the backlog of the socket.
    for _ in 0..<8 {
      let result = cl_accept(listener.number)
      guard result >= 0 else { return }
      let found = Descriptor(owning: Int32(truncatingIfNeeded: result))
      guard client == nil else {
        log("console socket \(path): pid \(cl_peer_pid(found.number)) was turned away: in use")
        continue
      }
      guard watcher.tryAdd(found.number, port: port) else { continue }
      client = found
    }
  }

  /// The client has gone; a next one may be waiting already.
  private func leave() {
    client = nil
    look()
  }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput, let number = clientNumber else { return 0 }
    switch ConsoleInput(number, &bytes) {
    case .bytes(let count): return count
    case .nothing: hasInput = false
    case .ended: leave()
    }
    return 0
  }

  private var clientNumber: Int32? {
    switch client {
    case .some(let client): client.number
    case nil: nil
    }
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    guard let number = clientNumber else { return .gone }
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_send(number, base, buffer.count)
    }
    if put == Int(CHC_AGAIN.rawValue) { return .taken(0) }
    guard put >= 0 else {
      // What it has sent before is still read; the end is seen there.
      return .gone
    }
    return .taken(put)
  }

  override func close() {
    client = nil
    _ = unsafe cl_unlink(path)
  }
}
