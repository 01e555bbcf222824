import CLinux
import CService
import CommandOptions
import IVShmem
import LinuxRuntime
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioDevice
import Virtqueue

/// One device served over vhost-user on a socket: one front-end at a time, for ever.
///
/// The same process, options and devices as over ivshmem; the front-end is a VMM (QEMU, crosvm) or
/// User-Mode Linux.
struct VhostUserLink: ~Copyable {
  private enum Tag {
    static var listener: UInt64 { 1 }
    static var socket: UInt64 { 2 }
    static var wake: UInt64 { 3 }
  }

  private enum Phase: Equatable {
    case idle
    case connected
    /// The front-end is gone; requests still end.
    case ending
  }

  private let path: String
  private let voice: LinkVoice
  private let listener: ListeningSocket
  private let epoll: Descriptor
  /// The event that ends a sleep.
  let wakeDescriptor: Int32
  private var served: VhostUserDevice<LibraryDevice>
  private var socket: VhostUserSocket?
  private var socketNumber: Int32 = -1
  private var phase = Phase.idle
  private var message = VhostUserMessage()
  private var reply = VhostUserMessage()
  /// A message waits until no request is in flight.
  private var isWaiting = false
  /// The socket was signalled and not yet emptied.
  private var hasInput = false
  /// Whether a descriptor has signalled since the last step: it may have been a finished request,
  /// and there is no sleep before it was looked for.
  private var hasNews = false
  /// Somebody waits to be accepted.
  private var hasKnock = false
  private var tags = [UInt64](repeating: 0, count: 32)
  private var turns = 0
  private var stopDeadline: UInt64?

  /// Messages carried out before the rings are looked at again.
  private static var messageLimit: Int { 64 }
  /// Steps between two looks at the descriptors while there is work.
  private static var stepsPerLook: Int { 16 }

  /// Listens on the socket, for the device; nothing is half-started when this throws.
  ///
  /// - Parameters:
  ///   - wake: the event that ends a sleep; it stays open as long as the link is there.
  ///   - arena: at least ``memorySize(_:)``.
  static func open(
    path: String, _ device: consuming LibraryDevice, wake: Int32, _ voice: LinkVoice,
    arena: inout PrivateArena
  ) throws(UsageError) -> VhostUserLink {
    do throws(SystemError) {
      let epoll = try Descriptor(cl_epoll())
      let served = try VhostUserDevice<LibraryDevice>.make(
        device, epoll: epoll.number, arena: &arena)
      let listener = try ListeningSocket(path)
      for (number, tag) in [(listener.number, Tag.listener), (wake, Tag.wake)] {
        _ = try SystemError.check(cl_epoll_add(epoll.number, number, tag, 1))
      }
      return VhostUserLink(path, voice, listener, epoll, wake, served)
    } catch {
      let holder = error.code == SystemError.addressInUse ? unsafe cs_socket_holder(path) : 0
      throw UsageError(
        "--vhost-user \(path): \(ListeningSocket.explain(error))"
          + (holder > 0 ? ": \(processText(holder))" : ""))
    }
  }

  /// Private memory for the books of a device, in bytes.
  static func memorySize(_ device: borrowing LibraryDevice) -> Int {
    VhostUserDevice<LibraryDevice>.privateBytes(
      queues: device.queueCount, size: Int(device.maximumQueueSize.rawValue))
  }

  private init(
    _ path: String, _ voice: LinkVoice, _ listener: consuming ListeningSocket,
    _ epoll: consuming Descriptor, _ wake: Int32,
    _ served: consuming VhostUserDevice<LibraryDevice>
  ) {
    self.path = path
    self.voice = voice
    self.listener = listener
    self.epoll = epoll
    wakeDescriptor = wake
    self.served = served
  }

  private func say(_ text: String, _ note: LinkNote = .info) { voice.say(text, note) }

  // MARK: The loop

  mutating func begin() { say("waiting for a front-end") }

  /// Looks once at everything; bounded.
  @inline(never)
  mutating func turn() -> LinkTurn {
    if let stopDeadline, phase == .idle || cl_monotonic_ns() >= stopDeadline {
      say("left")
      return .left
    }
    // The look comes first: what it takes from a descriptor is not signalled again, and the step
    // behind it is what answers.
    turns &+= 1
    if turns % Self.stepsPerLook == 0 { look(timeout: 0) }
    hasNews = false
    let isBusy = advance()
    return isBusy || hasInput ? .busy : .idle
  }

  /// Ends the connection; ``turn()`` ends the link when nothing is in flight.
  mutating func beginStop() {
    guard stopDeadline == nil else { return }
    if phase == .connected { end(.closed(inMessage: false)) }
    stopDeadline = cl_monotonic_ns() + NativeServedLink.drainNanoseconds
  }

  /// Whether a front-end is there.
  var isUp: Bool { mutating get { phase == .connected } }
  /// When the link has to be turned even if nothing wakes it.
  var deadline: UInt64? { mutating get { stopDeadline } }

  /// Sleeps on the link's own events.
  mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    guard prepareToSleep() else { return .event }
    var timeout: Int64 = -1
    let end = min(deadline?.nanoseconds ?? .max, stopDeadline ?? .max)
    if end != .max {
      let now = cl_monotonic_ns()
      timeout = end > now ? Int64(clamping: end - now) : 0
    }
    look(timeout: timeout)
    served.wake()
    return end != .max && cl_monotonic_ns() >= end ? .deadline : .event
  }

  mutating func prepareToSleep() -> Bool {
    guard !hasNews else { return false }
    guard served.prepareToSleep() else {
      served.wake()
      return false
    }
    return true
  }

  mutating func stayAwake() { served.wake() }

  /// Is awake again after others have waited; takes what came.
  mutating func endSleep() {
    look(timeout: 0)
    served.wake()
  }

  /// Looks at the descriptors without sleeping.
  mutating func peek() { look(timeout: 0) }

  /// Lets another `epoll` watch everything that wakes this link.
  mutating func addWaits(to other: Int32, tag: UInt64) throws(SystemError) {
    _ = try SystemError.check(cl_epoll_add(other, epoll.number, tag, 0))
  }

  mutating func removeWaits(from other: Int32) { cl_epoll_remove(other, epoll.number) }

  /// One step of everything; whether something moved.
  private mutating func advance() -> Bool {
    switch phase {
    case .idle: return false
    case .connected:
      do throws(VhostUserError) {
        let moved = try served.step(isDraining: isWaiting)
        if let broken = served.takeBrokenRing() {
          say(broken.text + "; the ring has stopped", .warning)
        }
        return try isWaiting || hasInput ? carryOutMessages() || moved : moved
      } catch {
        end(error)
        return true
      }
    case .ending:
      let moved = stepOnce()
      guard served.isQuiet else { return moved }
      served.end()
      phase = .idle
      if hasKnock { acceptAll() }
      return true
    }
  }

  private mutating func stepOnce() -> Bool {
    do throws(VhostUserError) {
      return try served.step(isDraining: true)
    } catch { return true }
  }

  private mutating func end(_ error: VhostUserError) {
    if case .closed(inMessage: false) = error {
      say("the front-end left")
    } else {
      served.noteViolation()
      say("the connection is ended: \(error.text)", .warning)
    }
    if let open = socket.take() { cl_epoll_remove(epoll.number, open.descriptor.number) }
    message.clear()
    isWaiting = false
    hasInput = false
    served.abort()
    phase = .ending
  }

  // MARK: Messages

  private mutating func carryOutMessages() throws(VhostUserError) -> Bool {
    var moved = false
    for _ in 0..<Self.messageLimit {
      if !isWaiting {
        guard try receive() else {
          hasInput = false
          return moved
        }
      }
      let handling = try served.handle(&message, reply: &reply)
      isWaiting = handling == .wait
      if isWaiting { return moved }
      moved = true
      if case .reply(let descriptor) = handling { try send(descriptor) }
    }
    return moved
  }

  private mutating func receive() throws(VhostUserError) -> Bool {
    guard socket != nil else { return false }
    return try socket!.receive(&message)
  }

  private mutating func send(_ descriptor: Int32) throws(VhostUserError) {
    guard socket != nil else { return }
    try socket!.send(reply, descriptor: descriptor)
  }

  // MARK: Descriptors

  private mutating func look(timeout: Int64) {
    let number = epoll.number
    let count = unsafe tags.withUnsafeMutableBufferPointer { tags in
      guard let base = tags.baseAddress else { return 0 }
      return unsafe cl_epoll_wait(number, base, UInt32(tags.count), timeout)
    }
    if count > 0 { hasNews = true }
    // Every descriptor signals once: kicks and finished requests need no answer but the next look
    // at the rings.
    for index in 0..<max(0, count) {
      switch tags[index] {
      case Tag.listener: acceptAll()
      case Tag.socket: hasInput = true
      default: break
      }
    }
  }

  /// Whether the front-end has closed its side, although its last words may not be read yet.
  private func isFrontEndLeaving() -> Bool {
    var entry = cl_poll_entry(fd: socketNumber, events: 0, revents: 0)
    return unsafe cl_poll_ns(&entry, 1, 0) > 0 && Int(entry.revents) & Int(CL_POLL_HANGUP) != 0
  }

  private mutating func acceptAll() {
    hasKnock = false
    // Bounded by the backlog of the socket.
    for _ in 0..<8 {
      // A front-end that starts again at once comes before its predecessor's end was seen.
      if phase == .ending || phase == .connected && isFrontEndLeaving() {
        hasKnock = true
        return
      }
      let result = cl_accept(listener.number)
      guard result >= 0 else { return }
      let connection = Descriptor(owning: Int32(truncatingIfNeeded: result))
      let pid = cl_peer_pid(connection.number)
      guard phase == .idle, stopDeadline == nil else {
        say("\(processText(pid)) was turned away: a front-end is connected already", .warning)
        continue
      }
      guard cl_epoll_add(epoll.number, connection.number, Tag.socket, 1) >= 0 else { continue }
      socketNumber = connection.number
      socket = VhostUserSocket(owning: connection)
      phase = .connected
      hasInput = true
      served.begin()
      say("front-end connected (pid \(pid))")
    }
  }

  // MARK: Numbers

  /// Gives every number with its meaning, always in the same order.
  mutating func giveCounters(_ walk: inout CounterWalk) {
    let count = served.counters
    walk.begin(.vhostUser, -1)
    walk.take("up", phase == .connected ? 1 : 0)
    walk.take("connections", count.connections)
    walk.take("messages", count.messages)
    walk.take("violations", count.violations)
    walk.take("calls", count.calls)
    walk.begin(.device, 0)
    walk.take("chains", count.chains)
    walk.take("resumed", count.resumed)
    walk.take("queueErrors", count.queueErrors)
    walk.begin(.kind, 0)
    served.device.giveCounters(&walk)
  }

  /// Number and kind of the device.
  var kind: (id: UInt32, name: String) {
    mutating get { (served.device.deviceID, served.device.kindName) }
  }
}
