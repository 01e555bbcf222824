import CHostConsole
import CLinux
import Glibc
import LinuxSupport

/// The thread that waits for the descriptors of a console's ports and tells the device's thread.
///
/// It only waits, notes which ports have news, one bit each, and signals the device's wake-up; but
/// for the files that must not be written on the device's thread. Every descriptor is watched for
/// edges, so that what nobody reads does not keep the thread busy.
@safe
final class ConsoleWatcher: @unchecked Sendable {
  private let set: Descriptor
  private let stop: Descriptor
  private let wakeDescriptor: Int32
  private let news: UnsafeMutablePointer<UInt32>
  private var thread: pthread_t?
  /// The ports that have work for this thread; set before it starts.
  private var workers: [LogEndpoint] = []

  private static var stopTag: UInt64 { 1 << 32 }
  private static var workTag: UInt64 { 1 << 33 }

  init(wakeDescriptor: Int32) throws(SystemError) {
    self.wakeDescriptor = wakeDescriptor
    set = try Descriptor(chc_poll_set())
    stop = try Descriptor(cl_eventfd())
    unsafe news = .allocate(capacity: 1)
    unsafe news.initialize(to: 0)
    _ = try SystemError.check(chc_poll_add(set.number, stop.number, Self.stopTag))
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

  /// Watches an event that tells that a port has work for the thread.
  func addWork(_ descriptor: Int32, port: Int, what: String) throws(ConsoleHostError) {
    do throws(SystemError) {
      _ = try SystemError.check(
        chc_poll_add(set.number, descriptor, Self.workTag | UInt64(port)))
    } catch { throw .system(what: what, error) }
  }

  /// Starts the thread.
  func start(_ workers: [LogEndpoint]) throws(SystemError) {
    self.workers = workers
    // Signals are for the threads that wait for them.
    var all = sigset_t()
    var before = sigset_t()
    unsafe sigfillset(&all)
    unsafe pthread_sigmask(SIG_SETMASK, &all, &before)
    var thread = pthread_t()
    // SAFETY: the thread borrows the object; it is joined before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let error = unsafe pthread_create(
      &thread, nil,
      { context in
        guard let context = unsafe context else { return nil }
        unsafe Unmanaged<ConsoleWatcher>.fromOpaque(context).takeUnretainedValue().watch()
        return nil
      }, context)
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
    guard error == 0 else { throw SystemError(error) }
    self.thread = thread
  }

  /// Ends the thread, after it has done its work; may be called without one.
  func finish() {
    guard let thread else { return }
    _ = cl_event_signal(stop.number)
    pthread_join(thread, nil)
    self.thread = nil
    workers = []
  }

  /// The ports with news since the last call, one bit each.
  func takeNews() -> UInt32 { unsafe chc_bits_take(news) }

  /// Notes news of a port and wakes the device's thread; from any thread.
  func signal(port: Int) {
    unsafe chc_bits_add(news, 1 << UInt32(port))
    _ = cl_event_signal(wakeDescriptor)
  }

  // MARK: The watching thread

  private func watch() {
    var tags = InlineArray<32, UInt64>(repeating: 0)
    while true {
      var span = tags.mutableSpan
      let count = unsafe span.withUnsafeMutableBufferPointer { buffer in
        guard let base = buffer.baseAddress else { return 0 }
        return unsafe chc_poll_wait(set.number, base)
      }
      guard count > 0 else { return }
      var bits: UInt32 = 0
      var isStopping = false
      for index in 0..<count {
        switch tags[index] {
        case Self.stopTag: isStopping = true
        case let tag where tag & Self.workTag != 0: break
        case let tag: bits |= 1 << UInt32(truncatingIfNeeded: tag)
        }
      }
      for worker in workers { worker.work() }
      if bits != 0 {
        unsafe chc_bits_add(news, bits)
        _ = cl_event_signal(wakeDescriptor)
      }
      if isStopping { return }
    }
  }
}
