import CLinux
import CommandOptions
import LinuxSupport
import VirtioTransport

/// A link or a socket in service: on a thread of its own, or turned by the one thread.
///
/// The service talks to it through its ``LinkBoard``. After ``start(signalling:)`` only the new
/// thread touches the link itself, until ``join()``.
@safe
final class ServedLink: @unchecked Sendable {
  /// What it was made of.
  let specification: BackendOptions.Link
  let board: LinkBoard
  private let memory = PrivateBlocks()
  private var native: BackendLink?
  private var siemens: SiemensServedLink?
  private var socket: VhostUserLink?
  /// The link's event under a number of our own, which outlives the link.
  private let wake: Int32
  private var idle: IdleLoop
  private var thread: UInt64?
  private var event: Int32 = -1
  private var watcher: Int32 = -1
  private var isStopping = false
  private var isSiemens = false
  /// Whether a front-end is there.
  private(set) var isUp = false
  /// When the link has to be turned even if nothing wakes it.
  private(set) var deadline: UInt64?

  /// Opens the link and its devices.
  init(_ link: BackendOptions.Link, _ options: BackendOptions) throws(UsageError) {
    specification = link
    idle = IdleLoop(options.wait)
    var counters: [Counter] = []
    switch link.face {
    case .link(let specification):
      var isAdopted = false
      let platform = try openKeptPeer(specification, options, isAdopted: &isAdopted)
      let shown = LinkMemory(platform)
      switch try chooseDialect(platform, specification, .backEnd) {
      case .native:
        var native = try BackendLink(
          platform, specification, link.devices, options, memory: memory)
        native.forEachCounter { counter, _ in counters.append(counter) }
        board = LinkBoard(counters, kinds: native.kinds)
        wake = try Self.duplicate(native.wakeDescriptor, link)
        self.native = consume native
      case .siemens:
        var siemens = try SiemensServedLink.open(
          platform, specification, link.devices, options, memory: memory, isAdopted: isAdopted)
        siemens.forEachCounter { counter, _ in counters.append(counter) }
        board = LinkBoard(counters, kinds: siemens.kinds)
        wake = try Self.duplicate(siemens.wakeDescriptor, link)
        isSiemens = true
        self.siemens = consume siemens
      }
      board.showMemory(shown)
    case .vhostUser(let path):
      var socket = try VhostUserLink.open(
        path: path, device: link.devices[0], options, memory: memory)
      socket.forEachCounter { counter, _ in counters.append(counter) }
      board = LinkBoard(counters, kinds: socket.kinds)
      wake = try Self.duplicate(socket.wakeDescriptor, link)
      self.socket = consume socket
    }
  }

  private static func duplicate(
    _ number: Int32, _ link: BackendOptions.Link
  ) throws(UsageError) -> Int32 {
    do throws(SystemError) {
      return Int32(truncatingIfNeeded: try SystemError.check(cl_duplicate(number)))
    } catch { throw UsageError("\(link.face.name): \(error.text)") }
  }

  // The link first, then the memory its books lie in.
  deinit {
    board.hideMemory()
    native = nil
    siemens = nil
    socket = nil
    cl_close(wake)
  }

  // MARK: Either link

  // One of the three is there; each is reached through its mutating accessor, because a borrow of a
  // class's property would be a copy.

  private func begin() {
    if native != nil {
      native!.begin()
    } else if siemens != nil {
      siemens!.begin()
    } else {
      socket!.begin()
    }
  }

  private func turnOnce() -> LinkTurn {
    if native != nil { return native!.turn() }
    return siemens != nil ? siemens!.turn() : socket!.turn()
  }

  private func noteState() {
    let note: (Bool, UInt64?) -> Void = {
      self.isUp = $0
      self.deadline = $1
    }
    if native != nil {
      native!.tellState(note)
    } else if siemens != nil {
      siemens!.tellState(note)
    } else {
      socket!.tellState(note)
    }
  }

  private func publish() {
    board.publish { body in
      if native != nil {
        native!.forEachCounter { _, value in body(value) }
      } else if siemens != nil {
        siemens!.forEachCounter { _, value in body(value) }
      } else if socket != nil {
        socket!.forEachCounter { _, value in body(value) }
      }
    }
    if native != nil { board.publishRings { body in native!.forEachRing(body) } }
  }

  private func beginStop() {
    isStopping = true
    if native != nil {
      native!.beginStop()
    } else if siemens != nil {
      siemens!.beginStop()
    } else {
      socket!.beginStop()
    }
  }

  private func sleep() {
    if native != nil {
      native!.sleep()
    } else if siemens != nil {
      siemens!.sleep()
    } else {
      socket!.sleep()
    }
  }

  private func peekOnce() {
    if native != nil {
      native!.peek()
    } else if siemens != nil {
      siemens!.peek()
    } else {
      socket!.peek()
    }
  }

  private func followOrders() {
    if board.isAskedToStop, !isStopping { beginStop() }
    if let question = board.question {
      publish()
      board.answer(question)
      if event >= 0 { _ = cl_event_signal(event) }
    }
  }

  /// One turn, after the service's orders; ends the link when it serves no more.
  private func advance() -> LinkTurn {
    followOrders()
    let turn = turnOnce()
    noteState()
    if turn == .ended { finish() }
    return turn
  }

  /// Closes everything that was opened; the numbers stay.
  private func finish() {
    publish()
    isUp = false
    deadline = nil
    if watcher >= 0 { removeWaits() }
    board.hideMemory()
    native = nil
    siemens = nil
    socket = nil
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
    begin()
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
    case .peek: peekOnce()
    case .sleep:
      idle.restart()
      sleep()
    }
  }

  /// Ends the sleep of the link's thread, so that it sees its orders.
  func wakeUp() {
    if thread != nil { _ = cl_event_signal(wake) }
  }

  /// Waits for the end of the thread; only when ``LinkBoard/hasEnded``.
  func join() {
    if let number = thread { cl_thread_join(number) }
    thread = nil
  }

  // MARK: Turned by the one thread

  /// Begins to serve on this thread, which waits with `epoll`.
  func start(watching epoll: Int32, tag: UInt64) throws(SystemError) {
    if native != nil {
      try native!.addWaits(to: epoll, tag: tag)
    } else if siemens != nil {
      try siemens!.addWaits(to: epoll, tag: tag)
    } else {
      try socket!.addWaits(to: epoll, tag: tag)
    }
    watcher = epoll
    begin()
  }

  private func removeWaits() {
    if native != nil { native!.removeWaits(from: watcher) }
    if siemens != nil { siemens!.removeWaits(from: watcher) }
    if socket != nil { socket!.removeWaits(from: watcher) }
    watcher = -1
  }

  /// One turn; `.ended` once and for all.
  func turn() -> LinkTurn {
    guard !board.hasEnded else { return .ended }
    let turn = advance()
    if turn == .ended { board.noteEnd() }
    return turn
  }

  /// Whether this link may sleep now; see ``Backend/prepareToSleep()``.
  func prepareToSleep() -> Bool {
    guard !board.hasEnded else { return true }
    defer { noteState() }
    if native != nil { return native!.prepareToSleep() }
    return siemens != nil ? siemens!.prepareToSleep() : socket!.prepareToSleep()
  }

  func stayAwake() {
    guard !board.hasEnded else { return }
    if native != nil {
      native!.stayAwake()
    } else if siemens != nil {
      siemens!.stayAwake()
    } else {
      socket!.stayAwake()
    }
  }

  func endSleep() {
    guard !board.hasEnded else { return }
    if native != nil {
      native!.endSleep()
    } else if siemens != nil {
      siemens!.endSleep()
    } else {
      socket!.endSleep()
    }
  }

  func peek() {
    if !board.hasEnded { peekOnce() }
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
