import CCellmate
import CLinux
import CService
public import CommandOptions
import LinuxSupport
import ToolSupport

/// A back-end process: opens everything first, then serves each link, on threads or turn by turn,
/// until SIGTERM or SIGINT.
///
/// Beside the links it serves whoever looks after them: the service manager, clients of the control
/// socket, SIGHUP. All of that happens on the thread that calls ``run()``.
public struct BackendProcess: ~Copyable {
  var options: BackendOptions
  /// Gives the configuration anew; `nil`: there is nothing to reload.
  let source: (() throws(UsageError) -> BackendOptions)?
  var links: [ServedLink]
  /// Signalled by signal handlers and links.
  private let event: Descriptor
  private let epoll: Descriptor
  var control: ControlServer?
  let manager = ServiceManager()
  let startTime = cl_realtime_ns()
  private var idle: IdleLoop
  private var tags = [UInt64](repeating: 0, count: 32)
  private var turns = 0
  var isStopping = false
  /// The times SIGHUP had come when it was last looked at.
  private var hangups: UInt32 = 0
  /// Reports of links that were stopped by a reload.
  private var reports: [LinkReport] = []

  /// Answers that wait for fresh numbers of the links.
  var waiting: [(client: Int, request: ControlRequest, serial: UInt32, due: UInt64)] = []
  /// The last question to the links.
  private var serial: UInt32 = 0
  private var watchdogDue: UInt64?
  /// The question whose answer shows that every loop is alive.
  private var watchdogSerial: UInt32?
  private var isSilent = false
  var reload = ReloadState()

  /// Opens every link and device; nothing has started when this throws.
  public init(
    _ options: BackendOptions, source: (() throws(UsageError) -> BackendOptions)? = nil
  ) throws(UsageError) {
    try options.check()
    let epoll = Self.need(cl_epoll())
    let event = Self.need(cl_eventfd())
    _ = cl_epoll_add(epoll.number, event.number, 0, 1)
    // From here on there are things to clean up.
    cl_catch_stop(event.number)
    LibraryHooks.listen { options.note($0) }
    LibraryHooks.keepDescriptors()
    var links: [ServedLink] = []
    for link in options.links { links.append(try ServedLink(link, options)) }
    if let specification = options.control {
      control = try ControlServer(specification, epoll: epoll.number)
    } else {
      control = nil
    }
    for name in DescriptorStore.dropRest() {
      options.note(.warning, "", "\(name) was kept for a link that is not served now; it is closed")
    }
    self.links = links
    self.options = options
    self.source = source
    self.epoll = epoll
    self.event = event
    idle = IdleLoop(options.wait)
  }

  private static func need(_ result: Int) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor(result)
    } catch { preconditionFailure("an event can always be made: \(error.text)") }
  }

  /// Whether a signal or a client has ended the process, not the loss of its links.
  public var wasAskedToStop: Bool { isStopping }

  // MARK: The loop

  /// Serves until asked to stop or until no link is left; returns what was counted.
  public mutating func run() -> [LinkReport] {
    // Without a configuration file SIGHUP stays what it was: the end, or new logs of consoles.
    if source != nil { _ = cellmate_watch_hangups(event.number, 1) }
    hangups = cellmate_hangups()
    defer { _ = cellmate_watch_hangups(event.number, 0) }
    cs_receive_signals()
    for link in links { start(link) }
    manager.ready(statusText)
    if let interval = manager.watchdogNanoseconds {
      watchdogDue = cl_monotonic_ns() + interval / 2
    }
    while true {
      let isBusy = options.threads == .single && turnLinks()
      turns &+= 1
      // The links come first; the service may wait for some of their turns.
      if isBusy, turns & 31 != 0 { continue }
      let due = attend()
      if links.allSatisfy({ $0.board.hasEnded }), !reload.isRunning { break }
      rest(isBusy, due)
    }
    if !isStopping { manager.stopping() }
    for link in links { link.join() }
    let all = reports + links.map { $0.report }
    links = []
    return all
  }

  /// Starts to serve a link.
  func start(_ link: ServedLink) {
    switch options.threads {
    case .single: link.start(watching: epoll.number, tag: 2)
    case .perLink:
      do throws(SystemError) {
        try link.start(signalling: event.number)
      } catch { preconditionFailure("a thread can be had: \(error.text)") }
    }
  }

  /// Everything but the links; when it has to be called again, on the monotonic clock.
  private mutating func attend() -> UInt64? {
    let now = cl_monotonic_ns()
    if cl_stop_requested() != 0, !isStopping { beginStop() }
    if cellmate_hangups() != hangups {
      hangups = cellmate_hangups()
      // Logs of consoles are opened anew without us.
      if source != nil { beginReload(client: nil) }
    }
    advanceReload(now)
    takeBacklog(now)
    answerWaiting(now)
    var due = control?.endLate(now: now)
    for wait in waiting { due = min(due ?? .max, wait.due) }
    if let watchdog = tendWatchdog(now) { due = min(due ?? .max, watchdog) }
    for link in links where options.threads == .single && !link.board.hasEnded {
      if let deadline = link.deadline { due = min(due ?? .max, deadline) }
    }
    return due
  }

  /// Asks every link to leave.
  mutating func beginStop() {
    isStopping = true
    manager.stopping()
    for link in links {
      link.board.askToStop()
      link.wakeUp()
    }
  }

  /// A link that a reload has stopped.
  mutating func retire(_ link: ServedLink) {
    link.join()
    reports.append(link.report)
  }

  // MARK: One thread for everything

  private func turnLinks() -> Bool {
    var isBusy = false
    for link in links where link.turn() == .busy { isBusy = true }
    return isBusy
  }

  /// Waits, or does not, as the policy says.
  private mutating func rest(_ isBusy: Bool, _ due: UInt64?) {
    guard !isBusy, !(control?.hasBacklog ?? false) else {
      idle.restart()
      return look(timeout: 0)
    }
    guard options.threads == .single else { return look(timeout: timeout(due)) }
    let next = links.contains(where: { $0.isUp }) ? idle.next() : .sleep
    switch next {
    case .look: return
    case .peek:
      look(timeout: 0)
      for link in links { link.peek() }
    case .sleep:
      idle.restart()
      sleep(due)
    }
  }

  private mutating func sleep(_ due: UInt64?) {
    var prepared = 0
    for link in links {
      guard link.prepareToSleep() else { break }
      prepared += 1
    }
    guard prepared == links.count else {
      for link in links[..<prepared] { link.stayAwake() }
      return look(timeout: 0)
    }
    var due = due
    for link in links {
      if let deadline = link.deadline { due = min(due ?? .max, deadline) }
    }
    look(timeout: timeout(due))
    for link in links { link.endSleep() }
  }

  private func timeout(_ due: UInt64?) -> Int64 {
    guard let due else { return -1 }
    let now = cl_monotonic_ns()
    return due > now ? Int64(clamping: due - now) : 0
  }

  /// Waits for descriptors and carries out what clients ask.
  private mutating func look(timeout: Int64) {
    let number = epoll.number
    let count = unsafe tags.withUnsafeMutableBufferPointer { tags in
      guard let base = tags.baseAddress else { return 0 }
      return unsafe cl_epoll_wait(number, base, UInt32(tags.count), timeout)
    }
    guard count > 0, let control else { return }
    let now = cl_monotonic_ns()
    var requests: [(Int, ControlRequest)] = []
    for index in 0..<count {
      control.handle(tags[index], now: now) { requests.append(($0, $1)) }
    }
    for (client, request) in requests { carryOut(request, client, now) }
  }

  private mutating func takeBacklog(_ now: UInt64) {
    guard let control else { return }
    var requests: [(Int, ControlRequest)] = []
    control.takeBacklog { requests.append(($0, $1)) }
    for (client, request) in requests { carryOut(request, client, now) }
  }

  // MARK: Questions to the links

  /// Asks every link for its numbers; the question.
  mutating func askLinks() -> UInt32 {
    serial &+= 1
    for link in links where !link.board.hasEnded {
      link.board.ask(serial)
      link.wakeUp()
    }
    return serial
  }

  /// Whether a link has answered a question, or a later one.
  func hasAnswered(_ link: ServedLink, _ question: UInt32) -> Bool {
    link.board.hasEnded
      || Int32(bitPattern: link.board.answered &- question) >= 0
  }

  /// Tells the manager that the loops are alive: of this thread, which calls this, and of every
  /// link, which have to answer first. When it has to be called again.
  private mutating func tendWatchdog(_ now: UInt64) -> UInt64? {
    guard let due = watchdogDue, let interval = manager.watchdogNanoseconds else { return nil }
    if let question = watchdogSerial {
      if links.allSatisfy({ hasAnswered($0, question) }) {
        watchdogSerial = nil
        manager.alive()
        if isSilent { manager.status(statusText) }
        isSilent = false
      } else if now >= due, !isSilent {
        isSilent = true
        for link in links where !hasAnswered(link, question) {
          let subject = link.specification.face.subject
          manager.status("\(subject) does not answer")
        }
      }
    }
    guard now >= due else { return due }
    if watchdogSerial == nil { watchdogSerial = askLinks() }
    let next = now + interval / 2
    watchdogDue = next
    return next
  }

  /// One line about the whole process.
  var statusText: String {
    var devices = 0
    for link in links { devices += link.specification.devices.count }
    return "serving \(links.count) link(s), \(devices) device(s)"
  }
}
