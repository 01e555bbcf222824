import CCellmate
import LinuxSupport
import ToolSupport

/// What the library asks and tells this process.
enum LibraryHooks {
  private final class Listener: Sendable {
    let take: @Sendable (LogRecord) -> Void
    init(_ take: @escaping @Sendable (LogRecord) -> Void) { self.take = take }
  }

  /// Gives the library's lines to `take`, from any thread, until somebody else takes them.
  static func listen(_ take: @escaping @Sendable (LogRecord) -> Void) {
    // Never given back: a thread of the library may be inside a call.
    let context = unsafe Unmanaged.passRetained(Listener(take)).toOpaque()
    unsafe cellmate_set_report(
      { context, level, subject, text in
        guard let context = unsafe context, let subject = unsafe subject, let text = unsafe text
        else { return }
        let kinds: [LogRecord.Level] = [.info, .warning, .error]
        let record = unsafe LogRecord(
          kinds[Int(min(max(level, 0), 2))], String(cString: subject), String(cString: text))
        unsafe Unmanaged<Listener>.fromOpaque(context).takeUnretainedValue().take(record)
      }, context)
  }

  /// Lets the library keep descriptors with the service manager.
  static func keepDescriptors() {
    var keeper = unsafe cellmate_keeper()
    unsafe keeper.size = MemoryLayout<cellmate_keeper>.size
    unsafe keeper.take = { _, name in
      guard let name = unsafe name else { return -1 }
      guard let found = DescriptorStore.take(unsafe String(cString: name)) else { return -1 }
      return found.release()
    }
    if DescriptorStore.isThere {
      unsafe keeper.keep = { _, name, number in
        guard let name = unsafe name else { return -SystemError.invalid }
        do throws(SystemError) {
          try DescriptorStore.keep(number, unsafe String(cString: name))
          return 0
        } catch { return -error.code }
      }
    }
    unsafe keeper.forget = { _, name in
      if let name = unsafe name { DescriptorStore.forget(unsafe String(cString: name)) }
    }
    _ = unsafe cellmate_set_keeper(&keeper)
  }
}
