import CHostConsole
import CLinux
import Glibc
import LinuxSupport
import VirtioConsole

/// A file that is appended to. The watching thread writes: a disk may be slow, the device may not.
@safe
final class LogEndpoint: ConsoleEndpoint, @unchecked Sendable {
  private let path: String
  private let file: Descriptor
  private let wakeUp: Descriptor
  private let watcher: ConsoleWatcher
  private let port: Int
  private let log: @Sendable (String) -> Void
  private let buffer: UnsafeMutablePointer<UInt8>
  // A mutex stays where it is: Swift may move a stored property.
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  // Under the mutex.
  private var start = 0
  private var count = 0
  private var wasFull = false
  // The watching thread alone.
  private var hasFailed = false

  static var capacity: Int { 64 << 10 }

  init(
    path: String, _ watcher: ConsoleWatcher, port: Int, log: @escaping @Sendable (String) -> Void
  ) throws(ConsoleHostError) {
    do throws(SystemError) {
      file = try Descriptor(unsafe chc_append_to(path))
      wakeUp = try Descriptor(cl_eventfd())
    } catch { throw .system(what: "log \(path)", error) }
    self.path = path
    self.watcher = watcher
    self.port = port
    self.log = log
    unsafe buffer = .allocate(capacity: Self.capacity)
    unsafe buffer.initialize(repeating: 0, count: Self.capacity)
    unsafe mutex = .allocate(capacity: 1)
    unsafe mutex.initialize(to: pthread_mutex_t())
    unsafe pthread_mutex_init(mutex, nil)
    super.init()
    try watcher.addWork(wakeUp.number, port: port, what: "log \(path)")
  }

  deinit {
    unsafe pthread_mutex_destroy(mutex)
    unsafe mutex.deallocate()
    unsafe buffer.deallocate()
  }

  override func write(_ bytes: Span<UInt8>) -> ConsoleWrite {
    unsafe pthread_mutex_lock(mutex)
    let taken = min(bytes.count, Self.capacity - count)
    for index in 0..<taken {
      unsafe buffer[(start + count + index) % Self.capacity] = bytes[index]
    }
    count += taken
    if taken < bytes.count { wasFull = true }
    unsafe pthread_mutex_unlock(mutex)
    _ = cl_event_signal(wakeUp.number)
    return .taken(taken)
  }

  /// Writes everything that waits; at the end of the process, too.
  override func work() {
    while true {
      unsafe pthread_mutex_lock(mutex)
      let first = start
      let piece = min(count, Self.capacity - start)
      unsafe pthread_mutex_unlock(mutex)
      guard piece > 0 else { return }
      // SAFETY: the device's thread writes only behind these bytes until they are given back.
      note(unsafe chc_write(file.number, buffer + first, piece))
      unsafe pthread_mutex_lock(mutex)
      start = (start + piece) % Self.capacity
      count -= piece
      let isAwaited = wasFull
      wasFull = false
      unsafe pthread_mutex_unlock(mutex)
      if isAwaited { watcher.signal(port: port) }
    }
  }

  /// Says once that the file cannot be written, and once that it can again.
  private func note(_ result: Int) {
    guard (result < 0) != hasFailed else { return }
    hasFailed = result < 0
    log(
      hasFailed
        ? "console log \(path): \(SystemError(Int32(-result)).text); output is lost"
        : "console log \(path): written again")
  }
}
