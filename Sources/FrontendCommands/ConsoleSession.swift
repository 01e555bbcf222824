import CCellmate
import CLinux
import CommandOptions
import LinuxSupport
import ToolSupport

/// Moves bytes between a port and this terminal, or standard input and output.
///
/// Each direction has one small buffer: while its reader does not read, its writer is held back.
struct ConsoleSession: ~Copyable {
  private let port: Int
  private let linger: UInt64
  private let isNoisy: Bool
  private let isInteractive: Bool
  private let terminal: Terminal
  private let outgoing = ByteBuffer()
  private let incoming = ByteBuffer()
  private let spare = ByteBuffer()
  private var lastInput = cl_monotonic_ns()
  private var lastColumns: UInt16 = 0
  private var lastRows: UInt16 = 0
  /// What was told about the other end; nothing before the first answer was due.
  private var wasOpen: Bool?
  private let answerDue = cl_monotonic_ns() + 300_000_000

  /// Takes the terminal, or standard input and output, over.
  init(
    _ port: Int, wake: Int32, _ place: FrontendPlace, _ linger: UInt64
  ) throws(ClientError) {
    let terminal: Terminal
    do throws(SystemError) {
      terminal = try Terminal(wakeDescriptor: wake)
    } catch { throw .usage(UsageError("standard input and output: stdio: \(error.text)")) }
    let isInteractive = terminal.isInteractive
    self.terminal = terminal
    self.port = port
    self.linger = linger
    isNoisy = place.isNoisy
    self.isInteractive = isInteractive
    if isInteractive { say("connected; Ctrl-] ends it") }
  }

  /// Runs to the end of the input, Ctrl-] or a signal.
  mutating func run(
    _ client: inout LibraryDriver
  ) throws(ClientError) {
    do throws(ClientError) {
      while !(try isDone(&client)) { try turn(&client) }
    } catch {
      guard case .interrupted = error, terminal.hasEscaped else { throw error }
    }
  }

  private mutating func turn(_ client: inout LibraryDriver) throws(ClientError) {
    terminal.takeEvents()
    let stepped = try client.step()
    var hasMoved = stepped == true
    let isOpen = try tellChanges(client)
    if try takeIn(client) { hasMoved = true }
    if try sendOut(client, isOpen: isOpen) { hasMoved = true }
    guard terminal.isOpen else { throw .failed("standard output is gone") }
    if hasMoved { return }
    // What the device had delivered before it went has been taken.
    guard stepped == nil else { return try client.wait(until: nextLook) }
    if incoming.isEmpty { try client.recover() } else { try client.waitForWake() }
  }

  /// When to look again though nothing comes.
  private var nextLook: UInt64? {
    guard wasOpen == nil else { return deadline }
    return min(answerDue, deadline ?? .max)
  }

  /// When the session ends if nothing comes.
  private var deadline: UInt64? {
    terminal.hasInputEnded ? lastInput + linger : nil
  }

  private func isDone(_ client: inout LibraryDriver) throws(ClientError) -> Bool {
    guard let deadline, outgoing.isEmpty, incoming.isEmpty else { return false }
    guard try client.pending == 0 else { return false }
    return cl_monotonic_ns() >= deadline
  }

  // MARK: Bytes

  /// From the port to standard output.
  private mutating func takeIn(_ client: borrowing LibraryDriver) throws(ClientError) -> Bool {
    if incoming.isEmpty {
      let handle = unsafe client.handle
      let result = incoming.fill { bytes in
        unsafe bytes.withUnsafeMutableBytes { bytes in
          unsafe cellmate_console_read(handle, bytes.baseAddress, bytes.count)
        }
      }
      try client.checked(result)
    }
    guard !incoming.isEmpty else { return false }
    lastInput = cl_monotonic_ns()
    return incoming.drain { bytes in terminal.write(bytes) } > 0
  }

  /// From standard input to the port.
  private mutating func sendOut(
    _ client: borrowing LibraryDriver, isOpen: Bool
  ) throws(ClientError) -> Bool {
    readTerminal()
    // What is sent while nobody is there would be dropped.
    guard !outgoing.isEmpty, isOpen else { return false }
    let handle = unsafe client.handle
    let result = outgoing.drain { bytes in
      unsafe bytes.withUnsafeBytes { bytes in
        unsafe cellmate_console_write(handle, bytes.baseAddress, bytes.count)
      }
    }
    return try client.checked(result) > 0
  }

  /// Reads what has come. A terminal is read even when there is no room, so that Ctrl-] is seen:
  /// what is typed then is lost, as a terminal itself loses it.
  private mutating func readTerminal() {
    guard outgoing.isEmpty || isInteractive else { return }
    let buffer = outgoing.isFull ? spare : outgoing
    let got = buffer.fill { bytes in Int32(terminal.read(into: &bytes)) }
    spare.clear()
    if got > 0 { lastInput = cl_monotonic_ns() }
  }

  // MARK: What people are told

  /// Tells what is new of the port; whether somebody is at its other end.
  private mutating func tellChanges(
    _ client: borrowing LibraryDriver
  ) throws(ClientError) -> Bool {
    let facts = try client.consolePort(port)
    if facts.columns != lastColumns || facts.rows != lastRows {
      lastColumns = facts.columns
      lastRows = facts.rows
      say("the console is \(facts.columns)x\(facts.rows)")
    }
    let isOpen = facts.is_open != 0
    guard isOpen != wasOpen, isOpen || wasOpen != nil || cl_monotonic_ns() >= answerDue else {
      return isOpen
    }
    defer { wasOpen = isOpen }
    if isOpen, wasOpen == nil { return isOpen }
    say(isOpen ? "somebody is at the other end" : "nobody is at the other end")
    return isOpen
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

  /// Adds what `read` puts into the free space; returns how much, or what it fails with, below 0.
  @discardableResult
  func fill(_ read: (inout MutableSpan<UInt8>) -> Int32) -> Int32 {
    if isEmpty { clear() }
    // Moved out and back: a span may not borrow from an object that others can change.
    var taken = bytes
    bytes = []
    defer { bytes = taken }
    var span = taken.mutableSpan
    var room = span._mutatingExtracting(end..<span.count)
    let count = read(&room)
    end += Int(max(count, 0))
    return count
  }

  /// Gives what is there to `write`, which says how much it took; returns that, or what it fails
  /// with, below 0.
  func drain(_ write: (Span<UInt8>) -> Int32) -> Int32 {
    let taken = bytes
    let count = write(taken.span.extracting(start..<end))
    start += Int(max(count, 0))
    return count
  }
}
