import CLinux
import CService
public import CommandOptions
import LinuxSupport

/// Starts a program, keeps what it wants to outlive it, and starts it again when it fails.
///
/// It speaks what systemd speaks: the service gives descriptors with sd_notify(3) (`FDSTORE`) and
/// finds them again as sd_listen_fds(3) says. Nothing of the service runs in this process; it reads
/// datagrams of one process, which may say what they like, and everything it keeps is bounded.
///
/// | signal | meaning |
/// |---|---|
/// | SIGTERM, SIGINT | the service gets SIGTERM; when it has ended, everything kept is closed |
/// | the same again | the service is killed |
/// | SIGHUP | passed on |
/// | SIGUSR1 | update, see below |
///
/// An update stops the service and starts it from the file that is there now; once it is ready,
/// this process is replaced by that file, too.
public final class Supervisor {
  /// How a service is looked after.
  public struct Options: Sendable {
    /// The words of the service's command line behind its name.
    public var words: [String] = []
    /// A service that gives no sign of life for so long is killed, in nanoseconds; 0: never.
    public var watchdog: UInt64 = 20_000_000_000
    /// The longest wait before a restart, in nanoseconds.
    public var longestDelay: UInt64 = 5_000_000_000
    /// Where to write this process' number; it is locked while the process lives.
    public var pidFile: String?
    /// Whether to go into the background once the service is ready.
    public var isBackground = false

    /// The standard.
    public init() {}
  }

  /// Takes one line for the operator, and whether it tells of something wrong.
  public typealias Say = @Sendable (String, Bool) -> Void

  /// How long a service may take to stop before it is killed: it drains for 5 s at most.
  static var stopLimit: UInt64 { 15_000_000_000 }
  /// The most descriptors that are kept.
  static var keptLimit: Int { 64 }
  /// The most datagrams that are read in one turn.
  static var turnLimit: Int { 256 }
  /// The status of a service that could not be started.
  static var failed: Int32 { 2 }

  let options: Options
  let say: Say
  let path: String
  let signals: Descriptor
  let socket: Descriptor
  let kept: KeptDescriptors
  let pidFile: PidFile?
  var policy: RestartPolicy
  /// The service; 0: none runs.
  var child: Int32 = 0
  /// When it was ready.
  var readyAt: UInt64?
  /// Whether it ever was.
  var hasServed = false
  var isStopping = false
  var isUpdating = false
  var restartAt: UInt64?
  var killAt: UInt64?
  var watchdogDue: UInt64?
  /// Who waits to hear that the service is ready.
  var waiter: Int32 = -1
  /// Messages that were dropped, as far as they were told.
  var strays: UInt64 = 0
  private var room = [UInt8](repeating: 0, count: Notification.byteLimit)

  /// Prepares everything; goes into the background if asked to. Signals are blocked from here on.
  ///
  /// - Throws: what stands in the way, with the way out.
  public init(_ options: Options, say: @escaping Say) throws(UsageError) {
    self.options = options
    self.say = say
    path = try Self.need("its own file", { () throws(SystemError) in try programPath() })
    let handover = try Handover.take()
    if handover == nil, options.isBackground {
      waiter = Int32(
        truncatingIfNeeded: try Self.need("the background") { () throws(SystemError) in
          try SystemError.check(cs_background())
        })
    }
    policy = RestartPolicy(longest: options.longestDelay)
    kept = KeptDescriptors(limit: Self.keptLimit)
    signals = Descriptor(
      owning: Int32(
        truncatingIfNeeded: try Self.need("signals") { () throws(SystemError) in
          try SystemError.check(cs_signal_descriptor())
        }))
    if let handover {
      socket = Descriptor(owning: handover.socket)
      pidFile = handover.pidFile >= 0 ? PidFile(owning: handover.pidFile, options.pidFile) : nil
      child = handover.child
      hasServed = true
      readyAt = cl_monotonic_ns()
      for entry in handover.entries { _ = kept.add(entry.name, entry.number) }
    } else {
      pidFile = try options.pidFile.map { name throws(UsageError) in try PidFile(name) }
      socket = Descriptor(
        owning: Int32(
          truncatingIfNeeded: try Self.need("a socket") { () throws(SystemError) in
            try SystemError.check(cs_notify_socket())
          }))
    }
  }

  private static func need<Value>(
    _ what: String, _ body: () throws(SystemError) -> Value
  ) throws(UsageError) -> Value {
    do throws(SystemError) {
      return try body()
    } catch { throw UsageError("--supervise cannot have \(what): \(error.text)") }
  }

  // MARK: The loop

  /// Looks after the service until it ends on request, or cannot be started; its exit status, or
  /// 128 and the signal that killed it.
  public func run() -> Int32 {
    if child == 0 { restartAt = cl_monotonic_ns() } else { feedWatchdog() }
    while true {
      takeMessages()
      takeSignals()
      if let status = reap() { return status }
      let now = cl_monotonic_ns()
      if let restartAt, now >= restartAt {
        self.restartAt = nil
        if let status = start() { return status }
      }
      tend(now)
      rest()
    }
  }

  /// Deadlines of a service that runs.
  private func tend(_ now: UInt64) {
    guard child > 0 else { return }
    if let killAt, now >= killAt {
      self.killAt = nil
      say("the back-end did not stop in time; it is killed", true)
      _ = cs_send_signal(child, Int32(CS_KILL))
    } else if let watchdogDue, now >= watchdogDue {
      self.watchdogDue = nil
      say("the back-end gives no sign of life; it is killed", true)
      _ = cs_send_signal(child, Int32(CS_KILL))
    }
  }

  private func rest() {
    var due = UInt64.max
    for time in [restartAt, killAt, watchdogDue] { due = min(due, time ?? .max) }
    let now = cl_monotonic_ns()
    let timeout: Int64 = due == .max ? -1 : due <= now ? 0 : Int64(clamping: due - now)
    let input = Int16(CL_POLL_IN)
    var entries: [2 of cl_poll_entry] = [
      cl_poll_entry(fd: signals.number, events: input, revents: 0),
      cl_poll_entry(fd: socket.number, events: input, revents: 0),
    ]
    unsafe withUnsafeMutablePointer(to: &entries) { pointer in
      let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(
        to: cl_poll_entry.self)
      _ = unsafe cl_poll_ns(first, 2, timeout)
    }
  }

  // MARK: What the service says

  /// Reads what has come; at most so many that a flood cannot keep signals waiting.
  @discardableResult
  func takeMessages() -> Bool {
    for _ in 0..<Self.turnLimit where !takeMessage() { return false }
    return true
  }

  /// Reads one datagram; `false` when there is none.
  private func takeMessage() -> Bool {
    var sender: Int32 = 0
    var count: UInt32 = 0
    var isCut: Int32 = 0
    var sent: [4 of Int32] = [-1, -1, -1, -1]
    let number = socket.number
    let size = unsafe withUnsafeMutablePointer(to: &sent) { pointer in
      let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: Int32.self)
      return unsafe room.withUnsafeMutableBytes { bytes in
        guard let base = bytes.baseAddress else { return -1 }
        return unsafe cs_notify_receive(
          number, base, bytes.count, &sender, first, &count, &isCut)
      }
    }
    guard size >= 0 else { return false }
    let numbers = (0..<min(4, Int(count))).map { sent[$0] }
    guard sender == child, child > 0 else {
      for number in numbers { cl_close(number) }
      strays += 1
      if strays & (strays - 1) == 0 {
        say("\(strays) message(s) of other processes were dropped, the last of pid \(sender)", true)
      }
      return true
    }
    take(Notification(room[..<size]), numbers, isCut: isCut != 0)
    return true
  }

  private func take(_ message: Notification, _ numbers: [Int32], isCut: Bool) {
    if message.stores, numbers.isEmpty || isCut {
      say(
        "a descriptor of the back-end could not be taken: this process has too many, or the message"
          + " is too long; it will not outlive the back-end", true)
    }
    for number in numbers {
      guard message.stores, let name = message.name else {
        cl_close(number)
        continue
      }
      if !kept.add(name, number) {
        say("\(name) is not kept: there are \(kept.limit) descriptors already", true)
      }
    }
    if message.removes, let name = message.name { kept.remove(name) }
    if message.isReady, readyAt == nil { noteReady() }
    if message.isReady || message.isAlive { feedWatchdog() }
    if message.isStopping { watchdogDue = nil }
  }

  private func noteReady() {
    readyAt = cl_monotonic_ns()
    hasServed = true
    tellWaiter()
    guard isUpdating else { return }
    isUpdating = false
    replace()
  }

  private func feedWatchdog() {
    guard options.watchdog > 0, child > 0, killAt == nil else { return }
    watchdogDue = cl_monotonic_ns() &+ options.watchdog
  }

  /// Lets go who started this in the background: the service is ready.
  private func tellWaiter() {
    guard waiter >= 0 else { return }
    var byte: UInt8 = 0
    let result = unsafe cl_write_all(waiter, &byte, 1)
    cl_close(waiter)
    waiter = -1
    // Interrupted before the service was ready: nothing is left behind.
    if result < 0 { stop() }
  }

  // MARK: Signals

  private func takeSignals() {
    while true {
      switch Int(cs_signal_next(signals.number)) {
      case 0: return
      case CS_TERMINATE, CS_INTERRUPT: stop()
      case CS_HANGUP: if child > 0 { _ = cs_send_signal(child, Int32(CS_HANGUP)) }
      case CS_UPDATE: update()
      // The children are looked after in reap().
      default: break
      }
    }
  }

  private func stop() {
    if isStopping, child > 0 { _ = cs_send_signal(child, Int32(CS_KILL)) }
    isStopping = true
    restartAt = nil
    stopChild()
  }

  private func update() {
    guard !isStopping else { return }
    isUpdating = true
    say("update: starting the back-end again from \(path)", false)
    if child > 0 { stopChild() } else { restartAt = cl_monotonic_ns() }
  }

  private func stopChild() {
    guard child > 0, killAt == nil else { return }
    watchdogDue = nil
    killAt = cl_monotonic_ns() &+ Self.stopLimit
    _ = cs_send_signal(child, Int32(CS_TERMINATE))
  }
}
