import CLinux
import CService
import LinuxSupport

/// Starting, ending, handing over.
extension Supervisor {
  /// Starts the service with what is kept; the exit status when it cannot be, and never ran.
  func start() -> Int32? {
    readyAt = nil
    killAt = nil
    watchdogDue = nil
    // What an earlier one said is of no meaning any more; what it gave was taken at its end.
    let words = WordList([path] + options.words)
    var more = ["NOTIFY_SOCKET=\(notifyName)", "FDSTORE=\(kept.limit)"]
    if options.watchdog > 0 { more.append("WATCHDOG_USEC=\(options.watchdog / 1000)") }
    let environment = WordList(more)
    var numbers = kept.entries.map { $0.number }
    let count = UInt32(numbers.count)
    let result = unsafe numbers.withUnsafeMutableBufferPointer { buffer in
      unsafe cs_start(
        path, words.words, environment.words, buffer.baseAddress, count, kept.names)
    }
    if result > 0 {
      child = Int32(truncatingIfNeeded: result)
      return nil
    }
    let reason = SystemError(Int32(truncatingIfNeeded: -result)).text
    guard hasServed else {
      say("\(path) cannot be started: \(reason)", true)
      return Self.failed
    }
    plan("\(path) cannot be started: \(reason)", served: nil)
    return nil
  }

  private var notifyName: String {
    var name = InlineArray<128, CChar>(repeating: 0)
    let number = socket.number
    return unsafe withUnsafeMutablePointer(to: &name) { pointer in
      let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
      _ = unsafe cs_notify_name(number, first)
      return unsafe String(cString: first)
    }
  }

  /// Takes the end of the service; this process' exit status if that is the end of everything.
  func reap() -> Int32? {
    guard child > 0 else { return isStopping ? 0 : nil }
    var status: Int32 = 0
    guard unsafe cs_reap(child, &status) == 1 else { return nil }
    // What it gave away before it ended; a socket holds less than some turns take, and strangers
    // may go on sending.
    for _ in 0..<8 where !takeMessages() { break }
    let now = cl_monotonic_ns()
    let served = readyAt.map { now - $0 }
    let hadToStop = killAt != nil
    child = 0
    killAt = nil
    watchdogDue = nil
    let exit = status >= 0 ? status : 128 - status
    if isStopping { return exit }
    if status == 0, !hadToStop {
      say("the back-end has stopped on request", false)
      return 0
    }
    guard hasServed else { return exit }
    if hadToStop {
      restartAt = now
      return nil
    }
    plan(
      status >= 0
        ? "the back-end ended with status \(status)"
        : "the back-end was killed by signal \(-status)", served: served)
    return nil
  }

  private func plan(_ what: String, served: UInt64?) {
    let delay = policy.delay(served: served)
    restartAt = cl_monotonic_ns() &+ delay
    let wait = delay == 0 ? "at once" : "in \(delay / 1_000_000) ms"
    say("\(what); starting it again \(wait), \(kept.entries.count) descriptors are kept", true)
  }

  /// Puts the program that is at our path now into the place of this process; everything that is
  /// kept, the service included, stays.
  func replace() {
    let handover = Handover(
      child: child, socket: socket.number, pidFile: pidFile?.number ?? -1, entries: kept.entries)
    var numbers = handover.numbers
    let count = UInt32(numbers.count)
    let result = unsafe numbers.withUnsafeMutableBufferPointer { buffer in
      unsafe cs_replace(
        path, cl_arguments(), Handover.variable, handover.text, buffer.baseAddress, count)
    }
    let reason = SystemError(Int32(truncatingIfNeeded: -result)).text
    say("\(path) cannot take the place of its supervisor: \(reason); the old one stays", true)
  }
}

/// The path of the program this process runs.
func programPath() throws(SystemError) -> String {
  var bytes = [CChar](repeating: 0, count: Int(CS_PATH_SIZE))
  let result = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
    guard let base = buffer.baseAddress else { return 0 }
    return unsafe cs_program_path(cl_arguments()[0], base)
  }
  _ = try SystemError.check(result)
  return String(
    decoding: bytes.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}
