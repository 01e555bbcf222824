import CCellmate
import CLinux
import CommandOptions
import LinuxSupport
import ToolSupport

/// Results of `cellmate.h`; the constants come as untyped enumerators.
enum LibraryResult {
  static var text: cellmate_result { -6 }
  static var memory: cellmate_result { -7 }
  static var linkLost: cellmate_result { -10 }
  static var refused: cellmate_result { -11 }
  static var interrupted: cellmate_result { -14 }
}

/// A driver of libcellmate as the tools use it: it takes the device up again when the back-end was
/// restarted, ends its waits at a signal, and says in words what is wrong.
@safe
struct LibraryDriver: ~Copyable {
  /// The handle, for the functions of one device.
  let handle: OpaquePointer
  /// The descriptor that ends a wait when it is signalled.
  let wakeDescriptor: Int32
  /// Times the back-end came back.
  private(set) var recoveries = 0
  private let place: FrontendPlace

  /// Opens the place and makes a driver of it with `create`.
  init(
    _ place: FrontendPlace,
    _ create: (
      OpaquePointer, UnsafeMutablePointer<OpaquePointer?>, UnsafeMutablePointer<cellmate_error>
    ) -> cellmate_result
  ) throws(ClientError) {
    var error = cellmate_error()
    error.size = MemoryLayout<cellmate_error>.size
    var link: OpaquePointer?
    let front = Int32(CELLMATE_FRONT_END)
    var result = unsafe place.link.withCString { name in
      unsafe cellmate_link_open(name, front, &link, &error)
    }
    guard result == 0, let link = unsafe link else {
      throw Self.failure(result, error, isUsage: true)
    }
    var driver: OpaquePointer?
    result = unsafe create(link, &driver, &error)
    guard result == 0, let driver = unsafe driver else {
      // Used up but for errors that leave it.
      _ = unsafe cellmate_link_close(link)
      throw Self.failure(result, error, isUsage: true)
    }
    unsafe handle = driver
    wakeDescriptor = unsafe cellmate_driver_wake_descriptor(driver)
    self.place = place
  }

  deinit { _ = unsafe cellmate_driver_close(handle) }

  // MARK: Errors

  private static func failure(
    _ result: cellmate_result, _ error: cellmate_error, isUsage: Bool
  ) -> ClientError {
    var error = error
    var text = unsafe withUnsafeBytes(of: &error.text) { bytes in
      unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    if text.isEmpty { text = unsafe String(cString: cellmate_result_text(result)) }
    // What the library names so is an option here.
    if text.hasPrefix("vhost-user ") { text = "--" + text }
    if result == LibraryResult.interrupted { return .interrupted }
    let isOpening = result == LibraryResult.text || result == LibraryResult.memory
    return isOpening && isUsage ? .usage(UsageError(text)) : .failed(text)
  }

  /// Why a call failed.
  func failure(_ result: cellmate_result) -> ClientError {
    if cl_stop_requested() != 0 { return .interrupted }
    var error = cellmate_error()
    error.size = MemoryLayout<cellmate_error>.size
    _ = unsafe cellmate_driver_error(handle, &error)
    return Self.failure(result, error, isUsage: true)
  }

  /// The result of a call, when it worked.
  @discardableResult
  func checked(_ result: cellmate_result) throws(ClientError) -> Int {
    guard result >= 0 else { throw failure(result) }
    return Int(result)
  }

  // MARK: Life

  /// Sets the device up for the first time.
  mutating func start() throws(ClientError) {
    cl_catch_stop(wakeDescriptor)
    try connect()
  }

  /// When the patience with a missing back-end ends, if it begins now.
  var deadline: UInt64 { cl_monotonic_ns() + place.patience }

  private func connect() throws(ClientError) {
    let deadline = deadline
    while true {
      let result = unsafe cellmate_driver_connect(handle, deadline)
      if result >= 0 { return }
      // Somebody else may have woken the driver.
      guard result == LibraryResult.interrupted, cl_stop_requested() == 0,
        cl_monotonic_ns() < deadline
      else { throw failure(result) }
    }
  }

  /// Waits for the back-end and sets the device up again.
  ///
  /// - Parameter note: what to add to the message about it.
  mutating func recover(_ note: String = "") throws(ClientError) {
    place.progress("the back-end went away; waiting for it")
    try connect()
    recoveries += 1
    place.progress("the back-end is back" + note)
  }

  /// Sleeps until the device, ``wakeDescriptor`` or `deadline`, unless something has come already.
  ///
  /// - Throws: also when the process was asked to stop.
  func wait(until deadline: UInt64? = nil, spin: UInt64 = 0) throws(ClientError) {
    if cl_stop_requested() != 0 { throw .interrupted }
    let end = unsafe cellmate_driver_sleep(handle, deadline ?? .max, spin)
    if cl_stop_requested() != 0 { throw .interrupted }
    if end == CELLMATE_WAIT_GONE {
      throw .failed("the platform is gone: did ivshmem-sim stop?")
    }
    try checked(end)
  }

  /// Sleeps until ``wakeDescriptor`` is signalled, whatever the device does.
  func waitForWake() throws(ClientError) {
    var entry = cl_poll_entry(fd: wakeDescriptor, events: Int16(CL_POLL_IN), revents: 0)
    if unsafe cl_poll_ns(&entry, 1, -1) > 0 { cl_event_take(wakeDescriptor) }
    if cl_stop_requested() != 0 { throw .interrupted }
  }

  /// Handles what the device says by itself; whether there was anything. `nil` when the device has
  /// to be set up again; what it has delivered can still be taken.
  func step() throws(ClientError) -> Bool? {
    let result = unsafe cellmate_driver_step(handle)
    if result == LibraryResult.linkLost { return nil }
    return try checked(result) == 2
  }

  /// What was counted.
  var counters: cellmate_driver_counters {
    var counters = cellmate_driver_counters()
    counters.size = MemoryLayout<cellmate_driver_counters>.size
    _ = unsafe cellmate_driver_count(handle, &counters)
    return counters
  }

  /// What the device has not taken yet.
  var pending: Int {
    get throws(ClientError) { try checked(unsafe cellmate_driver_pending(handle)) }
  }
}
