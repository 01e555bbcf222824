import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// The thread that waits for the descriptors of a console's ports and tells the device's thread.
///
/// It only waits, notes which ports have news, one bit each, and signals the device's wake-up.
/// Every descriptor is watched for edges, so that what nobody reads does not keep the thread busy.
@safe
final class ConsoleWatcher: @unchecked Sendable {
  private let set: Descriptor
  private let stop: Descriptor
  private let wakeDescriptor: Int32
  private let news: UnsafeMutablePointer<UInt32>
  private var thread: UInt64 = 0
  private var isRunning = false
  /// Pseudo-terminals whose size is compared; fixed before the thread starts.
  private var terminals: [Terminal] = []

  private struct Terminal {
    let master: Int32
    let port: Int
    var size: ConsoleSize
  }

  private static var stopTag: UInt64 { 1 << 32 }
  /// Between two looks at the sizes of terminals that somebody has open, in milliseconds: a person
  /// who drags a window's edge sees it as at once.
  private static var sizePeriod: Int32 { 200 }

  @inline(never)
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

  // MARK: The device's thread

  /// Watches a descriptor of a port, as long as it is open.
  func add(_ descriptor: Int32, port: Int, what: String) throws(ConsoleHostError) {
    do throws(SystemError) {
      _ = try SystemError.check(chc_poll_add(set.number, descriptor, UInt64(port)))
    } catch { throw .system(what: what, error) }
  }

  /// Watches a descriptor, where that is possible; whether it is.
  @discardableResult
  func tryAdd(_ descriptor: Int32, port: Int) -> Bool {
    chc_poll_add(set.number, descriptor, UInt64(port)) >= 0
  }

  /// Compares a pseudo-terminal's size while it is open; before ``start()``.
  func watchSize(of master: Int32, port: Int) {
    terminals.append(Terminal(master: master, port: port, size: ConsoleSize(of: master)))
  }

  /// Starts the thread.
  func start() throws(SystemError) {
    // SAFETY: the thread borrows the object; finish() joins it before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<ConsoleWatcher>.fromOpaque(context).takeUnretainedValue().watch()
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

  /// The ports with news since the last call, one bit each.
  func takeNews() -> UInt32 { unsafe chc_bits_take(news) }

  /// Notes news of a port and wakes the device's thread; from any thread.
  func signal(port: Int) { signal(ports: 1 << UInt32(port)) }

  private func signal(ports: UInt32) {
    guard ports != 0 else { return }
    unsafe chc_bits_add(news, ports)
    _ = cl_event_signal(wakeDescriptor)
  }

  // MARK: The watching thread

  private func watch() {
    var tags = InlineArray<32, UInt64>(repeating: 0)
    while true {
      let (resized, isAnyOpen) = lookAtTerminals()
      signal(ports: resized)
      var span = tags.mutableSpan
      let count = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return -1 }
        return unsafe chc_poll_wait(set.number, base, isAnyOpen ? Self.sizePeriod : -1)
      }
      guard count >= 0 else { return }
      var ports: UInt32 = 0
      for index in 0..<count {
        if tags[index] == Self.stopTag { return }
        ports |= 1 << UInt32(truncatingIfNeeded: tags[index])
      }
      signal(ports: ports)
    }
  }

  /// The ports whose size has changed, and whether somebody has a terminal open.
  private func lookAtTerminals() -> (resized: UInt32, isAnyOpen: Bool) {
    var resized: UInt32 = 0
    var isAnyOpen = false
    for index in terminals.indices where chc_pty_is_open(terminals[index].master) != 0 {
      isAnyOpen = true
      let size = ConsoleSize(of: terminals[index].master)
      guard size != terminals[index].size else { continue }
      terminals[index].size = size
      resized |= 1 << UInt32(terminals[index].port)
    }
    return (resized, isAnyOpen)
  }
}
