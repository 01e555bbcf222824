import CCellmate
import CLinux
import CommandOptions
import LinkNames
import LinuxSupport
import ToolSupport

/// What one turn of a link's loop found.
enum LinkTurn {
  case busy
  case idle
  /// The link serves no more.
  case ended
}

/// A link or a socket in service: on a thread of its own, or turned by the one thread.
///
/// The service talks to it through its ``LinkBoard``. After ``start(signalling:)`` only the new
/// thread touches the link itself, until ``join()``.
@safe
final class ServedLink: @unchecked Sendable {
  /// What it was made of.
  let specification: BackendOptions.Link
  let board: LinkBoard
  /// The library's; `nil` when it serves no more.
  private var backend: OpaquePointer?
  private var idle: IdleLoop
  private var thread: UInt64?
  private var event: Int32 = -1
  private var watcher: Int32 = -1
  private var isStopping = false
  private var hasSuccessor = false
  private let isSiemens: Bool

  /// Opens the link and its devices; nothing is half-started when this throws.
  init(_ link: BackendOptions.Link, _ options: BackendOptions) throws(UsageError) {
    specification = link
    idle = IdleLoop(options.wait)
    let backend = unsafe try LibraryCall.openBackend(link.face)
    do throws(UsageError) {
      let facts = unsafe LibraryCall.facts(backend)
      try Self.checkCount(link, facts)
      for (slot, device) in link.devices.enumerated() {
        try LibraryCall.run(link.face.name) { error in
          unsafe device.text.withCString { text in
            unsafe cellmate_backend_add(backend, UInt32(slot), text, error)
          }
        }
      }
      isSiemens = facts.kind == UInt32(CELLMATE_SIEMENS)
      board = unsafe LinkBoard(
        backend, LibraryCall.counters(backend),
        kinds: link.devices.indices.map { unsafe LibraryCall.kind(backend, $0) },
        facts.kind == UInt32(CELLMATE_VHOST_USER) ? nil : LinkFacts(facts))
      unsafe self.backend = backend
    } catch {
      unsafe cellmate_backend_close(backend)
      throw error
    }
  }

  private static func checkCount(
    _ link: BackendOptions.Link, _ facts: cellmate_backend_facts
  ) throws(UsageError) {
    let count = link.devices.count
    guard count > Int(facts.device_limit) else { return }
    throw UsageError(
      "\(link.face.subject): \(count) devices, "
        + (facts.kind == UInt32(CELLMATE_SIEMENS)
          ? "the Siemens dialect carries one a link"
          : "a link carries at most \(facts.device_limit)"))
  }

  deinit { close() }

  private func close() {
    board.hideBackend()
    if let backend = unsafe backend { unsafe cellmate_backend_close(backend) }
    unsafe backend = nil
  }

  // MARK: One turn

  private func publish() {
    guard let backend = unsafe backend else { return }
    board.publish { values, count in
      _ = unsafe cellmate_backend_counters(backend, values, UInt32(count))
    }
    board.publishRings { rings, count in
      unsafe Int(cellmate_backend_rings(backend, rings, UInt32(count)))
    }
  }

  private func followOrders() {
    if board.isAskedToStop { stopOnce() }
    if let question = board.question {
      publish()
      board.answer(question)
      if event >= 0 { _ = cl_event_signal(event) }
    }
  }

  /// A process that ends may be followed by another one, a link that a reload stops is not.
  private func stopOnce() {
    let isEnd = cl_stop_requested() != 0
    guard !isStopping || isEnd != hasSuccessor else { return }
    isStopping = true
    hasSuccessor = isEnd
    _ = unsafe cellmate_backend_quiesce(backend, isEnd ? 1 : 0)
  }

  /// One turn, after the service's orders; ends the link when it serves no more.
  private func advance() -> LinkTurn {
    followOrders()
    switch unsafe cellmate_backend_step(backend) {
    case 0: return .idle
    case 1: return .busy
    default:
      finish()
      return .ended
    }
  }

  /// Closes everything that was opened; the numbers stay.
  private func finish() {
    publish()
    if watcher >= 0 { _ = unsafe cellmate_backend_unwatch(backend, watcher) }
    watcher = -1
    close()
  }

  /// Whether a front-end is there.
  var isUp: Bool { unsafe backend != nil && cellmate_backend_is_up(backend) == 1 }

  /// When the link has to be turned even if nothing wakes it.
  var deadline: UInt64? {
    var end = UInt64.max
    guard unsafe cellmate_backend_deadline(backend, &end) == 0, end != .max else { return nil }
    return end
  }

  // MARK: A thread of its own

  /// Serves on a new thread, which signals `event` when it has something to say.
  func start(signalling event: Int32) throws(SystemError) {
    self.event = event
    var number: UInt64 = 0
    let context = unsafe Unmanaged.passUnretained(self).toOpaque()
    _ = try SystemError.check(
      unsafe cl_thread_start(
        { context in
          guard let context = unsafe context else { return }
          unsafe Unmanaged<ServedLink>.fromOpaque(context).takeUnretainedValue().serve()
        }, context, 1, &number))
    thread = number
  }

  private func serve() {
    _ = unsafe cellmate_backend_adopt(backend)
    _ = unsafe cellmate_backend_start(backend)
    while true {
      switch advance() {
      case .ended:
        board.noteEnd()
        _ = cl_event_signal(event)
        return
      case .busy: idle.restart()
      case .idle: rest()
      }
    }
  }

  private func rest() {
    switch isUp ? idle.next() : .sleep {
    case .look: return
    case .peek: peek()
    case .sleep:
      idle.restart()
      _ = unsafe cellmate_backend_sleep(backend, .max)
    }
  }

  /// Ends the sleep of the link's thread, so that it sees its orders.
  func wakeUp() {
    if thread != nil { board.wakeUp() }
  }

  /// Waits for the end of the thread; only when ``LinkBoard/hasEnded``.
  func join() {
    if let number = thread { cl_thread_join(number) }
    thread = nil
  }

  // MARK: Turned by the one thread

  /// Begins to serve on this thread, which waits with `epoll`.
  func start(watching epoll: Int32, tag: UInt64) {
    let result = unsafe cellmate_backend_watch(backend, epoll, tag)
    precondition(result == 0, "a place in epoll can be had")
    watcher = epoll
    _ = unsafe cellmate_backend_start(backend)
  }

  /// One turn; `.ended` once and for all.
  func turn() -> LinkTurn {
    guard !board.hasEnded else { return .ended }
    let turn = advance()
    if turn == .ended { board.noteEnd() }
    return turn
  }

  /// Whether this link may sleep now; then ``endSleep()`` or ``stayAwake()`` is next.
  func prepareToSleep() -> Bool {
    // Of a link whose platform is gone the next turn is the end.
    guard !board.hasEnded else { return true }
    return unsafe cellmate_backend_prepare_sleep(backend) == 1
  }

  func stayAwake() {
    if !board.hasEnded { _ = unsafe cellmate_backend_stay_awake(backend) }
  }

  func endSleep() {
    if !board.hasEnded { _ = unsafe cellmate_backend_end_sleep(backend) }
  }

  func peek() {
    if !board.hasEnded { _ = unsafe cellmate_backend_poll(backend) }
  }

  // MARK: What it says

  /// What it has counted, as last published.
  var report: LinkReport {
    let head =
      switch specification.face {
      case .link(let link):
        "\"link\":\(quoted(link.name))"
          + (isSiemens ? ",\"dialect\":\"siemens\"" : "")
      case .vhostUser(let path): "\"vhostUser\":\(quoted(path))"
      }
    return LinkReport(json: board.json(head))
  }
}
