import CHostConsole
import CLinux
import LinuxSupport

/// Standard input and output of this process. A terminal is raw until the process ends, however it
/// ends. Nothing blocks.
@safe
final class Terminal {
  private let input: Descriptor
  private let output: Descriptor
  private let resized: Descriptor
  private let watcher: TerminalWatcher
  /// Whether standard input is a terminal.
  let isInteractive: Bool
  /// Whether nothing more will be read.
  private(set) var hasInputEnded = false
  /// Whether the person at the terminal asked to stop, with Ctrl-].
  private(set) var hasEscaped = false
  /// Whether standard output is there.
  private(set) var isOpen = true
  private var hasInput = true

  /// The character that stops the process as SIGTERM does: Ctrl-].
  private static var escape: UInt8 { 0x1d }

  /// Takes both over; `wakeDescriptor` is signalled when one of them can be used again.
  init(wakeDescriptor: Int32) throws(SystemError) {
    input = try Descriptor(chc_own(0))
    output = try Descriptor(chc_own(1))
    resized = try Descriptor(cl_eventfd())
    watcher = try TerminalWatcher(wakeDescriptor: wakeDescriptor)
    isInteractive = try SystemError.check(chc_raw(0)) == 1
    // A file is always ready, and cannot be waited for.
    watcher.tryAdd(input.number)
    watcher.tryAdd(output.number)
    watcher.tryAdd(resized.number)
    if isInteractive { chc_watch_size(resized.number) }
    try watcher.start()
  }

  deinit {
    watcher.finish()
    if isInteractive { chc_watch_size(-1) }
    chc_restore()
  }

  /// Notes that there may be input again.
  func takeEvents() {
    if watcher.takeNews() { hasInput = true }
  }

  /// Reads what has come; 0 when there is nothing.
  func read(into bytes: inout MutableSpan<UInt8>) -> Int {
    guard hasInput, !hasInputEnded else { return 0 }
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_read(input.number, base, buffer.count)
    }
    if got == CHC_AGAIN {
      hasInput = false
      return 0
    }
    guard got > 0 else {
      hasInputEnded = true
      return 0
    }
    guard isInteractive else { return got }
    for index in 0..<got where bytes[index] == Self.escape {
      hasInputEnded = true
      hasEscaped = true
      chc_ask_to_stop()
      return index
    }
    return got
  }

  /// Writes what fits; how much that was.
  func write(_ bytes: Span<UInt8>) -> Int32 {
    guard isOpen else { return 0 }
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_write(output.number, base, buffer.count)
    }
    if put >= 0 { return Int32(put) }
    isOpen = put == CHC_AGAIN
    return 0
  }
}

/// The thread that waits for a terminal's descriptors and wakes the one that uses them. Every
/// descriptor is watched for edges, so that what nobody reads does not keep the thread busy.
@safe
private final class TerminalWatcher: @unchecked Sendable {
  private let set: Descriptor
  private let stop: Descriptor
  private let wakeDescriptor: Int32
  private let news: UnsafeMutablePointer<UInt32>
  private var thread: UInt64 = 0
  private var isRunning = false

  private static var stopTag: UInt64 { 1 }

  init(wakeDescriptor: Int32) throws(SystemError) {
    self.wakeDescriptor = wakeDescriptor
    set = try Descriptor(chc_poll_set())
    stop = try Descriptor(cl_eventfd())
    unsafe news = .allocate(capacity: 1)
    unsafe news.initialize(to: 0)
    // For input alone: an event can always be written.
    _ = try SystemError.check(cl_epoll_add(set.number, stop.number, Self.stopTag, 1))
  }

  deinit { unsafe news.deallocate() }

  /// Watches a descriptor, where that is possible.
  func tryAdd(_ descriptor: Int32) { _ = chc_poll_add(set.number, descriptor, 0) }

  /// Starts the thread.
  func start() throws(SystemError) {
    // SAFETY: the thread borrows the object; finish() joins it before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<TerminalWatcher>.fromOpaque(context).takeUnretainedValue().watch()
      }, context, 1, &thread)
    _ = try SystemError.check(result)
    isRunning = true
  }

  /// Ends the thread; may be called without one.
  func finish() {
    guard isRunning else { return }
    _ = cl_event_signal(stop.number)
    cl_thread_join(thread)
    isRunning = false
  }

  /// Whether there was news since the last call.
  func takeNews() -> Bool { unsafe chc_bits_take(news) != 0 }

  private func watch() {
    var tags = InlineArray<32, UInt64>(repeating: 0)
    while true {
      var span = tags.mutableSpan
      let count = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return -1 }
        return unsafe chc_poll_wait(set.number, base, -1)
      }
      guard count >= 0 else { return }
      for index in 0..<count where tags[index] == Self.stopTag { return }
      unsafe chc_bits_add(news, 1)
      _ = cl_event_signal(wakeDescriptor)
    }
  }
}
