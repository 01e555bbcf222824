import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// A Unix socket with one client at a time.
///
/// The next one waits in the socket's backlog until the driver has got everything that the one
/// before it sent. A client that only shuts its writing side down stays, for what is still to come.
@safe
final class SocketEndpoint: ConsoleEndpoint {
  private let name: String
  private let listener: Descriptor
  private let watcher: ConsoleWatcher
  private let port: Int
  private let fixedSize: ConsoleSize?
  private let log: @Sendable (String) -> Void
  /// The socket's file: another one under its name is somebody else's.
  private let inode: UInt64
  private var client: Descriptor?
  private var clientID: Int32 = 0
  private var hasInput = false
  private var isClientSilent = false

  @inline(never)
  init(
    path: String, size: ConsoleSize?, _ watcher: ConsoleWatcher, port: Int,
    log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) {
    do throws(SystemError) {
      listener = try Descriptor(unsafe cl_listen_stream(path))
    } catch {
      throw error.code == SystemError.addressInUse
        ? .socketInUse(path: path) : .system(what: "socket \(path)", error)
    }
    inode = unsafe cl_inode(path)
    name = path
    fixedSize = size
    self.watcher = watcher
    self.port = port
    self.log = log
    super.init()
    do throws(ConsoleHostError) {
      try watcher.add(listener.number, port: port, what: "socket \(path)")
    } catch {
      removeFile()
      throw error
    }
  }

  override var path: String { name }
  override var isOpen: Bool { client != nil }
  override var hasSize: Bool { fixedSize != nil }
  override var size: ConsoleSize { fixedSize ?? .unknown }

  private var clientNumber: Int32? {
    switch client {
    case .some(let client): client.number
    case nil: nil
    }
  }

  override func look() {
    hasInput = true
    if let number = clientNumber {
      guard isClientSilent, chc_socket_is_dead(number) != 0 else { return }
      return leave()
    }
    acceptNext()
  }

  private func acceptNext() {
    let result = cl_accept(listener.number)
    guard result >= 0 else { return }
    let found = Descriptor(owning: Int32(truncatingIfNeeded: result))
    let number = found.number
    guard watcher.tryAdd(number, port: port) else { return }
    client = consume found
    clientID = cl_peer_pid(number)
    log("console port \(port): pid \(clientID) connected to \(name)")
    hasInput = true
    isClientSilent = false
  }

  /// The client has gone; a next one may be waiting already.
  private func leave() {
    log("console port \(port): pid \(clientID) left")
    client = nil
    // The driver is told of the change first.
    watcher.signal(port: port)
  }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput, !isClientSilent, let number = clientNumber else { return 0 }
    switch ConsoleInput(number, &bytes) {
    case .bytes(let count): return count
    case .nothing: hasInput = false
    case .ended:
      isClientSilent = true
      if chc_socket_is_dead(number) != 0 { leave() }
    }
    return 0
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    guard let number = clientNumber else { return .gone }
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_send(number, base, buffer.count)
    }
    // What a client that is gone has sent before is still read; its end is seen there.
    return put >= 0 ? .taken(put) : put == CHC_AGAIN ? .taken(0) : .gone
  }

  override func close() {
    client = nil
    removeFile()
  }

  private func removeFile() {
    if unsafe cl_inode(name) == inode { _ = unsafe cl_unlink_socket(name) }
  }
}
