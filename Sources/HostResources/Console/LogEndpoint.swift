import CHostConsole
import CLinux
import LinuxSupport
import VirtioConsole

/// A file that is appended to, by a thread of its own: a disk may be slow, the device may not.
///
/// Bytes wait in a buffer of fixed size; while it is full the driver is held back. What the file
/// system refuses is dropped and counted, and said once. SIGHUP opens the path anew.
@safe
final class LogEndpoint: ConsoleEndpoint, @unchecked Sendable {
  private let name: String
  private let wakeUp: Descriptor
  private let watcher: ConsoleWatcher
  private let port: Int
  private let fixedSize: ConsoleSize?
  private let log: @Sendable (String) -> Void
  private let buffer: UnsafeMutablePointer<UInt8>
  private let monitor: OpaquePointer
  private var thread: UInt64 = 0
  // Inside the monitor.
  private var start = 0
  private var count = 0
  private var lost: UInt64 = 0
  private var wasFull = false
  private var isStopping = false
  // The writing thread alone.
  private var file: Descriptor
  private var hangups: UInt32
  private var hasFailed = false

  static var capacity: Int { 64 << 10 }

  @inline(never)
  init(
    path: String, size: ConsoleSize?, _ watcher: ConsoleWatcher, port: Int,
    log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) {
    do throws(SystemError) {
      file = try Descriptor(unsafe chc_append_to(path))
      wakeUp = try Descriptor(cl_eventfd())
    } catch { throw .system(what: "log \(path)", error) }
    name = path
    fixedSize = size
    self.watcher = watcher
    self.port = port
    self.log = log
    hangups = chc_hangups()
    unsafe buffer = .allocate(capacity: Self.capacity)
    unsafe buffer.initialize(repeating: 0, count: Self.capacity)
    unsafe monitor = cl_monitor_create()
    super.init()
    do throws(SystemError) {
      _ = try SystemError.check(chc_watch_hangup(wakeUp.number))
      try startThread()
    } catch {
      chc_unwatch_hangup(wakeUp.number)
      throw .system(what: "log \(path)", error)
    }
  }

  private func startThread() throws(SystemError) {
    // SAFETY: the thread borrows the object; close() joins it before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<LogEndpoint>.fromOpaque(context).takeUnretainedValue().run()
      }, context, 1, &thread)
    _ = try SystemError.check(result)
  }

  deinit {
    unsafe cl_monitor_destroy(monitor)
    unsafe buffer.deallocate()
  }

  override var path: String { name }
  override var hasSize: Bool { fixedSize != nil }
  override var size: ConsoleSize { fixedSize ?? .unknown }

  override var lostCount: UInt64 {
    unsafe cl_monitor_enter(monitor)
    defer { unsafe cl_monitor_leave(monitor) }
    return lost
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    unsafe cl_monitor_enter(monitor)
    let taken = min(bytes.count, Self.capacity - count)
    for index in 0..<taken {
      unsafe buffer[(start + count + index) % Self.capacity] = bytes[index]
    }
    count += taken
    if taken < bytes.count { wasFull = true }
    unsafe cl_monitor_leave(monitor)
    _ = cl_event_signal(wakeUp.number)
    return .taken(taken)
  }

  override func close() {
    chc_unwatch_hangup(wakeUp.number)
    unsafe cl_monitor_enter(monitor)
    isStopping = true
    unsafe cl_monitor_leave(monitor)
    _ = cl_event_signal(wakeUp.number)
    cl_thread_join(thread)
  }

  // MARK: The writing thread

  private func run() {
    while true {
      unsafe cl_monitor_enter(monitor)
      let first = start
      let piece = min(count, Self.capacity - start)
      let isLast = isStopping && count == 0
      unsafe cl_monitor_leave(monitor)
      if isLast { return }
      reopen()
      guard piece > 0 else {
        _ = cl_event_wait(wakeUp.number)
        continue
      }
      // SAFETY: the device's thread writes only behind these bytes until they are given back.
      give(piece, unsafe chc_write(file.number, buffer + first, piece))
    }
  }

  /// Gives `piece` bytes back, of which the file took as many as `result` says.
  private func give(_ piece: Int, _ result: Int) {
    // What a full disk takes in part is tried again and then lost.
    let done = result > 0 ? result : piece
    unsafe cl_monitor_enter(monitor)
    start = (start + done) % Self.capacity
    count -= done
    if result <= 0 { lost += UInt64(piece) }
    let isAwaited = wasFull
    wasFull = false
    let lostNow = lost
    unsafe cl_monitor_leave(monitor)
    if isAwaited { watcher.signal(port: port) }
    guard (result <= 0) != hasFailed else { return }
    hasFailed = result <= 0
    let cause = SystemError(Int32(truncatingIfNeeded: -result))
    log(
      hasFailed
        ? "console log \(name): \(cause.text); output is lost"
        : "console log \(name): written again; \(lostNow) bytes were lost so far")
  }

  /// Opens the path again when SIGHUP has come; the old file stays when that fails.
  private func reopen() {
    let now = chc_hangups()
    guard now != hangups else { return }
    hangups = now
    do throws(SystemError) {
      file = try Descriptor(unsafe chc_append_to(name))
      log("console port \(port): log \(name) opened again")
    } catch {
      log("console log \(name): \(error.text); the file before it is kept")
    }
  }
}
