import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// One port's connection to the world. All calls come from the device's thread and never block;
/// nothing is allocated after `init`, but for log lines.
class ConsoleEndpoint {
  /// Whether somebody is at the other end.
  var isOpen: Bool { true }
  /// Whether it is a terminal with a size.
  var hasSize: Bool { false }
  /// Its size now.
  var size: ConsoleSize { .unknown }
  /// Something happened to one of its descriptors.
  func look() {}
  /// Reads what has come; 0 when there is nothing.
  func read(into bytes: inout MutableSpan<UInt8>) -> Int { 0 }
  /// Writes what fits.
  func write(_ bytes: Span<UInt8>) -> ConsoleWrite { .gone }
  /// Called by the watching thread: moves what may block.
  func work() {}
  /// Ends it; called once, after the watching thread has ended.
  func close() {}
}

/// Reads from a descriptor: bytes, nothing for now, or the end.
enum ConsoleInput {
  case bytes(Int)
  case nothing
  case ended

  init(_ descriptor: Int32, _ bytes: inout MutableSpan<UInt8>) {
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_read(descriptor, base, buffer.count)
    }
    self = got > 0 ? .bytes(got) : got == Int(CHC_AGAIN.rawValue) ? .nothing : .ended
  }
}

/// A terminal's size as the system packs it.
func consoleSize(of descriptor: Int32) -> ConsoleSize {
  let packed = chc_terminal_size(descriptor)
  return ConsoleSize(
    columns: UInt16(truncatingIfNeeded: packed), rows: UInt16(truncatingIfNeeded: packed >> 16))
}

/// A pseudo-terminal.
///
/// Who opens its other end is seen through inotify: the kernel tells the master only when the last
/// one has left. A change of its size is signalled to nobody here, so that the size is read whenever
/// anything else happens.
@safe
final class PtyEndpoint: ConsoleEndpoint {
  private let master: Descriptor
  private let opens: Descriptor
  private let name: String
  private let link: String?
  private var isSomebodyThere = false
  private var hasInput = true

  init(link: String?, _ watcher: ConsoleWatcher, port: Int) throws(ConsoleHostError) {
    var name = InlineArray<64, CChar>(repeating: 0)
    do throws(SystemError) {
      var span = name.mutableSpan
      let result = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return -22 }
        return unsafe chc_pty(base)
      }
      master = try Descriptor(result)
      var text = ""
      for index in name.indices where name[index] != 0 {
        text.unicodeScalars.append(Unicode.Scalar(UInt8(bitPattern: name[index])))
      }
      self.name = text
      opens = try Descriptor(unsafe chc_watch_opens(text))
    } catch { throw .system(what: "pty", error) }
    self.link = link
    super.init()
    try watcher.add(master.number, port: port, what: "pty")
    try watcher.add(opens.number, port: port, what: "pty")
    if let link { try makeLink(link) }
    look()
  }

  private func makeLink(_ link: String) throws(ConsoleHostError) {
    do throws(SystemError) {
      _ = try SystemError.check(unsafe chc_link(name, link))
    } catch {
      throw error.code == 17 ? .linkInTheWay(path: link) : .system(what: "link \(link)", error)
    }
  }

  /// The path people connect to.
  var path: String { link ?? name }

  override var isOpen: Bool { isSomebodyThere }
  override var hasSize: Bool { true }
  override var size: ConsoleSize { consoleSize(of: master.number) }

  override func look() {
    chc_drain(opens.number)
    isSomebodyThere = chc_pty_is_open(master.number) != 0
    hasInput = true
  }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput else { return 0 }
    switch ConsoleInput(master.number, &bytes) {
    case .bytes(let count): return count
    // The end is the end of whoever was there: the next one is seen by look().
    case .nothing, .ended:
      hasInput = false
      return 0
    }
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    if !isSomebodyThere {
      // The news may be under way.
      isSomebodyThere = chc_pty_is_open(master.number) != 0
      guard isSomebodyThere else { return .gone }
    }
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_write(master.number, base, buffer.count)
    }
    if put == Int(CHC_AGAIN.rawValue) { return .taken(0) }
    return put >= 0 ? .taken(put) : .gone
  }

  override func close() {
    guard let link else { return }
    unsafe chc_unlink_if(name, link)
  }
}

/// Standard input and output.
@safe
final class StdioEndpoint: ConsoleEndpoint {
  private let input: Descriptor
  private let output: Descriptor
  private let isTerminal: Bool
  private var hasInput = true
  private var hasEnded = false
  private var isGone = false
  private let resized: Descriptor

  /// The character that stops the process as SIGTERM does: Ctrl-].
  static var escape: UInt8 { 0x1d }

  init(_ watcher: ConsoleWatcher, port: Int) throws(ConsoleHostError) {
    do throws(SystemError) {
      input = try Descriptor(chc_own(0, 0))
      output = try Descriptor(chc_own(1, 1))
      resized = try Descriptor(cl_eventfd())
      isTerminal = try SystemError.check(chc_raw(0)) == 1
    } catch { throw .system(what: "stdio", error) }
    super.init()
    // A file is always ready, and cannot be waited for.
    watcher.tryAdd(input.number, port: port)
    watcher.tryAdd(output.number, port: port)
    try watcher.add(resized.number, port: port, what: "stdio")
    if isTerminal { chc_watch_size(resized.number) }
  }

  override var isOpen: Bool { !isGone }
  override var hasSize: Bool { isTerminal }
  override var size: ConsoleSize { isTerminal ? consoleSize(of: output.number) : .unknown }
  override func look() { hasInput = true }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput, !hasEnded else { return 0 }
    switch ConsoleInput(input.number, &bytes) {
    case .bytes(let count):
      guard isTerminal else { return count }
      for index in 0..<count where bytes[index] == Self.escape {
        chc_ask_to_stop()
        return index
      }
      return count
    case .nothing: hasInput = false
    case .ended: hasEnded = true
    }
    return 0
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    guard !isGone else { return .gone }
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_write(output.number, base, buffer.count)
    }
    if put == Int(CHC_AGAIN.rawValue) { return .taken(0) }
    isGone = put < 0
    return isGone ? .gone : .taken(put)
  }

  override func close() {
    guard isTerminal else { return }
    chc_watch_size(-1)
    chc_restore()
  }
}
