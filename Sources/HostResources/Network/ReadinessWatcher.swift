import CHostNetwork
import CLinux
import LinuxSupport

/// A thread that waits until one of a few descriptors can be read or written, and signals an
/// event: once for each time it is asked to.
@safe
final class ReadinessWatcher: @unchecked Sendable {
  private let set: Descriptor
  private let stop: Descriptor
  private let wakeDescriptor: Int32
  private var thread: UInt64 = 0
  private var isRunning = false

  /// What of a descriptor is waited for.
  enum Events: Int32 {
    case input = 1
    case room = 2
    case both = 3
  }

  init(wakeDescriptor: Int32) throws(SystemError) {
    self.wakeDescriptor = wakeDescriptor
    set = try Descriptor(cl_epoll())
    stop = try Descriptor(cl_eventfd())
    _ = try SystemError.check(chn_watch(set.number, stop.number, Events.input.rawValue))
  }

  /// Starts the thread.
  func start() throws(SystemError) {
    // SAFETY: the thread borrows the object; finish() joins it before the last reference goes.
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    let result = unsafe cl_thread_start(
      { context in
        guard let context = unsafe context else { return }
        unsafe Unmanaged<ReadinessWatcher>.fromOpaque(context).takeUnretainedValue().watch()
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

  /// Asks for one signal when `descriptor` is ready, at once when it is already.
  func arm(_ descriptor: Int32, _ events: Events) {
    let result = chn_watch(set.number, descriptor, events.rawValue)
    // A file is always ready.
    if result < 0 { _ = cl_event_signal(wakeDescriptor) }
  }

  private func watch() {
    while true {
      let descriptor = chn_watch_wait(set.number)
      guard descriptor >= 0, descriptor != Int(stop.number) else { return }
      _ = cl_event_signal(wakeDescriptor)
    }
  }
}
