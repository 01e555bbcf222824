import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// Standard input and output of this process. A terminal is raw until the process ends, however it
/// ends.
@safe
final class StdioEndpoint: ConsoleEndpoint {
  private let input: Descriptor
  private let output: Descriptor
  private let isTerminal: Bool
  private let resized: Descriptor
  private var hasInput = true
  private var hasEnded = false
  private var isGone = false
  private var isLeaving = false
  private var lastSize = ConsoleSize.unknown

  /// The character that stops the process as SIGTERM does: Ctrl-].
  static var escape: UInt8 { 0x1d }

  @inline(never)
  init(_ watcher: ConsoleWatcher, port: Int) throws(ConsoleHostError) {
    do throws(SystemError) {
      input = try Descriptor(chc_own(0))
      output = try Descriptor(chc_own(1))
      resized = try Descriptor(cl_eventfd())
      isTerminal = try SystemError.check(chc_raw(0)) == 1
    } catch {
      throw error.code == SystemError.busy ? .stdioTwice : .system(what: "stdio", error)
    }
    super.init()
    // A file is always ready, and cannot be waited for.
    watcher.tryAdd(input.number, port: port)
    watcher.tryAdd(output.number, port: port)
    try watcher.add(resized.number, port: port, what: "stdio")
    if isTerminal { chc_watch_size(resized.number) }
    look()
  }

  override var isOpen: Bool { !isGone }
  override var hasSize: Bool { isTerminal }
  override var size: ConsoleSize { lastSize }

  override var hasInputEnded: Bool { hasEnded }
  override var hasEscaped: Bool { isLeaving }

  override func look() {
    hasInput = true
    if isTerminal { lastSize = ConsoleSize(of: input.number) }
  }

  override func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput, !hasEnded else { return 0 }
    switch ConsoleInput(input.number, &bytes) {
    case .bytes(let count):
      guard isTerminal else { return count }
      for index in 0..<count where bytes[index] == Self.escape {
        hasEnded = true
        isLeaving = true
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
    let result = ConsoleWrite(output.number, bytes)
    isGone = result == .gone
    return result
  }

  override func close() {
    if isTerminal { chc_watch_size(-1) }
    chc_restore()
  }
}
