import CLinux
import LinuxSupport
public import VirtioConsole

/// Terminals, sockets and files behind the ports of a console device.
public struct LinuxConsoleHost: ConsoleHost, ~Copyable {
  private let watcher: ConsoleWatcher
  private let ends: [ConsoleEndpoint]
  private let names: [[UInt8]]
  /// Number of ports.
  public let portCount: Int
  /// Whether port 0 is a terminal.
  public let hasSize: Bool
  private let wakeDescriptor: Int32

  /// Opens every port; nothing stays behind when this throws.
  ///
  /// - Parameters:
  ///   - wakeDescriptor: the event that is signalled when a port has news.
  ///   - log: takes one line for the operator; called from any thread.
  /// - Throws: which port cannot be opened, and why.
  @inline(never)
  public init(
    _ ports: [ConsolePortOptions], wakeDescriptor: Int32,
    log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) {
    precondition(!ports.isEmpty && ports.count <= ConsoleFormat.portLimit)
    let (watcher, ends) = try Self.open(ports, wakeDescriptor, log)
    self.watcher = watcher
    self.ends = ends
    self.wakeDescriptor = wakeDescriptor
    portCount = ports.count
    hasSize = ends[0].hasSize
    names = ports.map { Array($0.name.utf8.prefix(ConsoleFormat.nameLimit)) }
  }

  private static func open(
    _ ports: [ConsolePortOptions], _ wakeDescriptor: Int32,
    _ log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) -> (ConsoleWatcher, [ConsoleEndpoint]) {
    var ends: [ConsoleEndpoint] = []
    do throws(ConsoleHostError) {
      let watcher: ConsoleWatcher
      do throws(SystemError) {
        watcher = try ConsoleWatcher(wakeDescriptor: wakeDescriptor)
      } catch { throw .system(what: "waiting", error) }
      for port in ports.indices {
        let size = ports[port].size
        switch ports[port].end {
        case .pty(let link):
          ends.append(try PtyEndpoint(link: link, size: size, watcher, port: port))
        case .stdio: ends.append(try StdioEndpoint(watcher, port: port))
        case .socket(let path):
          ends.append(try SocketEndpoint(path: path, size: size, watcher, port: port, log: log))
        case .log(let path):
          ends.append(try LogEndpoint(path: path, size: size, watcher, port: port, log: log))
        }
      }
      do throws(SystemError) {
        try watcher.start()
      } catch { throw .system(what: "starting a thread", error) }
      return (watcher, ends)
    } catch {
      for end in ends { end.close() }
      throw error
    }
  }

  /// Where people find what is behind a port: a terminal, a link to it, a socket, a file; empty
  /// for standard input and output.
  public func path(port: Int) -> String { ends[port].path }

  /// Whether nothing more will come from a port: standard input has ended.
  public func hasInputEnded(port: Int) -> Bool { ends[port].hasInputEnded }

  /// Whether the person at the terminal behind a port asked to stop, with Ctrl-].
  public func hasEscaped(port: Int) -> Bool { ends[port].hasEscaped }

  /// Bytes that ports took and could not deliver: a disk was full.
  public var lostCount: UInt64 {
    var count: UInt64 = 0
    for end in ends { count += end.lostCount }
    return count
  }

  // MARK: ConsoleHost

  /// Byte `index` of a port's name.
  public func nameByte(port: Int, at index: Int) -> UInt8 {
    index < names[port].count ? names[port][index] : 0
  }

  /// The size of the terminal behind a port.
  public func size(port: Int) -> ConsoleSize { ends[port].size }

  /// Whether somebody is at the other end of a port.
  public func isOpen(port: Int) -> Bool { ends[port].isOpen }

  /// Whether a port has news.
  public mutating func takeEvents() -> Bool {
    var news = watcher.takeNews()
    guard news != 0 else { return false }
    while news != 0 {
      ends[news.trailingZeroBitCount].look()
      news &= news &- 1
    }
    return true
  }

  /// Wakes the device's own thread.
  public func requestLook() { _ = cl_event_signal(wakeDescriptor) }

  /// Reads what has come.
  public mutating func read(port: Int, into bytes: inout MutableSpan<UInt8>) -> Int {
    ends[port].read(into: &bytes)
  }

  /// Gives bytes to the other end.
  public mutating func write(port: Int, _ bytes: Span<UInt8>) -> ConsoleWrite {
    ends[port].write(bytes)
  }

  deinit {
    watcher.finish()
    for end in ends { end.close() }
  }
}
