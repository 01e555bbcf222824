import CLinux
import CommandOptions
import HostResources
import LinuxSupport
import SharedMemory
import VirtioConsole
import VirtioDevice
import Virtqueue

/// Moves bytes between a port and this terminal, or standard input and output.
///
/// Each direction has one small buffer: while its reader does not read, its writer is held back.
struct ConsoleSession: ~Copyable {
  private let port: Int
  private let linger: UInt64
  private let isNoisy: Bool
  private let isInteractive: Bool
  private var terminal: LinuxConsoleHost
  private let outgoing = ByteBuffer()
  private let incoming = ByteBuffer()
  private let spare = ByteBuffer()
  private var lastInput = cl_monotonic_ns()
  private var lastSize = ConsoleSize.unknown
  /// What was told about the other end; nothing before the first answer was due.
  private var wasOpen: Bool?
  private let answerDue = cl_monotonic_ns() + 300_000_000

  /// Takes the terminal, or standard input and output, over.
  init(
    _ port: Int, wake: Int32, _ place: FrontendPlace, _ linger: UInt64
  ) throws(ClientError) {
    let terminal: LinuxConsoleHost
    do throws(ConsoleHostError) {
      terminal = try LinuxConsoleHost(
        [ConsolePortOptions(end: .stdio)], wakeDescriptor: wake, log: { _ in })
    } catch { throw .usage(UsageError("standard input and output: \(error)")) }
    let isInteractive = terminal.hasSize
    self.terminal = terminal
    self.port = port
    self.linger = linger
    isNoisy = place.isNoisy
    self.isInteractive = isInteractive
    if isInteractive { say("connected; Ctrl-] ends it") }
  }

  /// Runs to the end of the input, Ctrl-] or a signal.
  mutating func run(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(ClientError) {
    do throws(ClientError) {
      while !(try isDone(&client)) { try turn(&client) }
    } catch {
      guard case .interrupted = error, terminal.hasEscaped(port: 0) else { throw error }
    }
  }

  private mutating func turn(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(ClientError) {
    _ = terminal.takeEvents()
    var hasMoved = false
    do throws(QueueError) {
      hasMoved = try client.driver.console.step()
      if try takeIn(&client) { hasMoved = true }
      if try sendOut(&client) { hasMoved = true }
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
    client.publish()
    tellChanges(client)
    guard terminal.isOpen(port: 0) else { throw .failed("standard output is gone") }
    if hasMoved { return }
    // What the device had delivered before it went has been taken.
    guard client.isLost() else { return try client.wait(until: nextLook) }
    if incoming.isEmpty { try client.recover() } else { try client.waitForWake() }
  }

  /// When to look again though nothing comes.
  private var nextLook: UInt64? {
    guard wasOpen == nil else { return deadline }
    return min(answerDue, deadline ?? .max)
  }

  /// When the session ends if nothing comes.
  private var deadline: UInt64? {
    terminal.hasInputEnded(port: 0) ? lastInput + linger : nil
  }

  private func isDone(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(ClientError) -> Bool {
    guard let deadline, outgoing.isEmpty, incoming.isEmpty else { return false }
    do throws(QueueError) {
      guard try client.driver.console.unsentCount(port: port) == 0 else { return false }
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
    return cl_monotonic_ns() >= deadline
  }

  // MARK: Bytes

  /// From the port to standard output.
  private mutating func takeIn(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(QueueError) -> Bool {
    if incoming.isEmpty {
      try incoming.fill { (bytes) throws(QueueError) in
        try client.driver.console.read(port: port, into: &bytes)
      }
    }
    guard !incoming.isEmpty else { return false }
    lastInput = cl_monotonic_ns()
    return incoming.drain { bytes in
      if case .taken(let count) = terminal.write(port: 0, bytes) { count } else { 0 }
    }
  }

  /// From standard input to the port.
  private mutating func sendOut(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) throws(QueueError) -> Bool {
    readTerminal()
    // What is sent while nobody is there would be dropped.
    guard !outgoing.isEmpty, client.driver.console.isHostOpen(port: port) else { return false }
    return try outgoing.drain { (bytes) throws(QueueError) in
      try client.driver.console.write(port: port, bytes)
    }
  }

  /// Reads what has come. A terminal is read even when there is no room, so that Ctrl-] is seen:
  /// what is typed then is lost, as a terminal itself loses it.
  private mutating func readTerminal() {
    guard outgoing.isEmpty || isInteractive else { return }
    let buffer = outgoing.isFull ? spare : outgoing
    let got = buffer.fill { bytes in terminal.read(port: 0, into: &bytes) }
    spare.clear()
    if got > 0 { lastInput = cl_monotonic_ns() }
  }

  // MARK: What people are told

  private mutating func tellChanges(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, ConsolePortDriver>
  ) {
    let size = port == 0 ? client.consoleSize : client.driver.console.size(port: port)
    if size != lastSize {
      lastSize = size
      say("the console is \(size.columns)x\(size.rows)")
    }
    let isOpen = client.driver.console.isHostOpen(port: port)
    guard isOpen != wasOpen, isOpen || wasOpen != nil || cl_monotonic_ns() >= answerDue else {
      return
    }
    defer { wasOpen = isOpen }
    if isOpen, wasOpen == nil { return }
    say(isOpen ? "somebody is at the other end" : "nobody is at the other end")
  }

  private func say(_ text: String) { if isNoisy { writeError("ivshmem: \(text)\n") } }
}

/// Bytes on their way from one side to the other.
private final class ByteBuffer {
  private var bytes = [UInt8](repeating: 0, count: 4096)
  private var start = 0
  private var end = 0

  var isEmpty: Bool { start == end }
  var isFull: Bool { !isEmpty && end == bytes.count }

  func clear() {
    start = 0
    end = 0
  }

  /// Adds what `read` puts into the free space; returns how much.
  @discardableResult
  func fill<Failure: Error>(
    _ read: (inout MutableSpan<UInt8>) throws(Failure) -> Int
  ) throws(Failure) -> Int {
    if isEmpty { clear() }
    // Moved out and back: a span may not borrow from an object that others can change.
    var taken = bytes
    bytes = []
    defer { bytes = taken }
    var span = taken.mutableSpan
    var room = span._mutatingExtracting(end..<span.count)
    let count = try read(&room)
    end += count
    return count
  }

  /// Gives what is there to `write`, which says how much it took; whether it took anything.
  func drain<Failure: Error>(
    _ write: (Span<UInt8>) throws(Failure) -> Int
  ) throws(Failure) -> Bool {
    let taken = bytes
    let count = try write(taken.span.extracting(start..<end))
    start += count
    return count > 0
  }
}
