import CCellmate
import CLinux
import CommandOptions
import IVShmem
import LinuxRuntime
import LinuxSupport
import SharedMemory
import SiemensDialect
import VirtioTransport

/// A back-end behind a handle: of a link in one of the two dialects, or of a socket.
///
/// One of the three is there; in the Siemens dialect and on a socket it is there from the moment
/// its one device is added.
@safe
struct BackendObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .backend }

  /// The numbers of `cellmate.h`.
  enum Face: UInt32 {
    case native = 0
    case siemens
    case vhostUser
  }

  let memory: ObjectMemory
  let face: Face
  let name: String
  let voice: LinkVoice
  /// What never changes of the link; `nil` for a socket.
  let facts: LinkFacts?
  private let isAdopted: Bool
  var native = Slot<NativeServedLink>()
  var siemens = Slot<SiemensServedLink>()
  var socket = Slot<VhostUserLink>()
  /// In the Siemens dialect, until the device is there.
  private var platform: Slot<LibraryPlatform>
  /// What the caller's devices have open, by slot; `nil` for other slots. Beside the back-end, so
  /// that callbacks reach it while the back-end is at work.
  var pending = InlineArray<8, PendingRequests?>(repeating: nil)
  /// The devices' memory, by slot.
  private var deviceMemory = InlineArray<8, ObjectMemory?>(repeating: nil)
  private var socketMemory: ObjectMemory?
  /// Ends a sleep; written by any thread.
  let wakeDescriptor: Int32
  /// The event behind it, where no platform has it.
  private let wake: Descriptor?
  /// Not 0 when ``BackendObject/run(spin:)`` shall end; written by any thread.
  var stopWord: UInt32 = 0
  private(set) var isStarted = false
  /// Whether the link was left, or its platform is gone.
  private var hasEnded = false

  /// Of a native link; the plan is its own.
  static func make(
    native link: consuming LinkObject, _ plan: LinkPlan
  ) throws(FaceError) -> OpaquePointer {
    let stride = MemoryLayout<BackendObject>.stride
    let memory = try ObjectMemory(stride + (1 << 20))
    var arena = memory.arena(behind: stride)
    let (voice, name, facts) = (link.voice, link.name, link.facts)
    let platform = link.takePlatform()
    let wake = platform.wakeDescriptor
    guard
      let native = NativeServedLink(
        NativeLink(platform: platform, plan: plan), voice, arena: &arena)
    else {
      memory.free()
      throw FaceError(Code.memory)
    }
    return unsafe try open(
      memory, .native, name, voice, facts, native: Slot(native), wakeDescriptor: wake)
  }

  /// Of a link in the Siemens dialect.
  static func make(siemens link: consuming LinkObject) throws(FaceError) -> OpaquePointer {
    let memory = try ObjectMemory(
      MemoryLayout<BackendObject>.stride + SiemensServedLink.arenaBytes + 64)
    let (voice, name, facts, isAdopted) = (link.voice, link.name, link.facts, link.isAdopted)
    let platform = link.takePlatform()
    let wake = platform.wakeDescriptor
    return unsafe try open(
      memory, .siemens, name, voice, facts, isAdopted: isAdopted, platform: Slot(platform),
      wakeDescriptor: wake)
  }

  /// Of a socket.
  static func make(socket link: consuming LinkObject) throws(FaceError) -> OpaquePointer {
    let memory = try ObjectMemory(MemoryLayout<BackendObject>.stride)
    let number = cl_eventfd()
    guard number >= 0 else {
      memory.free()
      throw FaceError(Code.memory)
    }
    return unsafe try open(
      memory, .vhostUser, link.name, link.voice, nil,
      wakeDescriptor: Int32(truncatingIfNeeded: number),
      wake: Descriptor(owning: Int32(truncatingIfNeeded: number)))
  }

  @inline(never)
  private static func open(
    _ memory: ObjectMemory, _ face: Face, _ name: String, _ voice: LinkVoice, _ facts: LinkFacts?,
    isAdopted: Bool = false, native: consuming Slot<NativeServedLink> = Slot(),
    platform: consuming Slot<LibraryPlatform> = Slot(), wakeDescriptor: Int32,
    wake: consuming Descriptor? = nil
  ) throws(FaceError) -> OpaquePointer {
    unsafe try open(
      BackendObject(
        memory: memory, face: face, name: name, voice: voice, facts: facts, isAdopted: isAdopted,
        native: native, platform: platform, wakeDescriptor: wakeDescriptor, wake: wake))
  }

  private init(
    memory: ObjectMemory, face: Face, name: String, voice: LinkVoice, facts: LinkFacts?,
    isAdopted: Bool, native: consuming Slot<NativeServedLink>,
    platform: consuming Slot<LibraryPlatform>, wakeDescriptor: Int32, wake: consuming Descriptor?
  ) {
    self.memory = memory
    self.face = face
    self.name = name
    self.voice = voice
    self.facts = facts
    self.isAdopted = isAdopted
    self.native = native
    self.platform = platform
    self.wakeDescriptor = wakeDescriptor
    self.wake = wake
  }

  // MARK: Devices

  /// Devices it can serve.
  var deviceLimit: Int { face == .native ? BlockLayout.slotCount : 1 }

  /// Whether a device is in `slot`.
  func hasDevice(_ slot: Int) -> Bool { slot < 8 && deviceMemory[slot] != nil }

  /// Puts a device into a free slot; `make` builds it in the memory it is given, and `error` gets
  /// the words of what does not fit.
  @inline(never)
  mutating func add(
    slot: UInt32, size: Int, _ error: UnsafeMutablePointer<cellmate_error>? = nil,
    _ make: (inout PrivateArena) throws(FaceError) -> LibraryDevice
  ) throws(FaceError) {
    guard slot < UInt32(BlockLayout.slotCount) else { throw FaceError(Code.argument) }
    let index = Int(slot)
    guard !isStarted, !hasEnded, !hasDevice(index) else { throw FaceError(Code.order) }
    guard index < deviceLimit else { throw FaceError(Code.device) }
    let memory = try ObjectMemory(size)
    var arena = memory.arena(behind: 0)
    do throws(FaceError) {
      unsafe try put(make(&arena), index, &arena, error)
      deviceMemory[index] = memory
    } catch {
      memory.free()
      throw error
    }
  }

  private mutating func put(
    _ device: consuming LibraryDevice, _ index: Int, _ arena: inout PrivateArena,
    _ error: UnsafeMutablePointer<cellmate_error>?
  ) throws(FaceError) {
    switch face {
    case .native:
      guard native.value.add(device, at: index, arena: &arena) else { throw FaceError(Code.memory) }
    case .siemens:
      guard let facts else { throw FaceError(Code.order) }
      let plan: SiemensPlan
      do throws(UsageError) {
        plan = try SiemensServedLink.plan(facts, device, path: name)
      } catch let usage { throw FaceError(unsafe report(usage, error)) }
      guard let platform = platform.take() else { throw FaceError(Code.order) }
      var books = memory.arena(behind: MemoryLayout<BackendObject>.stride)
      siemens = Slot(
        SiemensServedLink.open(
          platform, device, plan, path: name, voice, arena: &books, isAdopted: isAdopted))
    case .vhostUser:
      let books = try ObjectMemory(VhostUserLink.memorySize(device) + 64)
      var room = books.arena(behind: 0)
      do throws(UsageError) {
        socket = Slot(
          try VhostUserLink.open(path: name, device, wake: wakeDescriptor, voice, arena: &room))
        socketMemory = books
      } catch let usage {
        books.free()
        throw FaceError(unsafe report(usage, error))
      }
    }
  }

  // MARK: Whichever it is

  var isThere: Bool { face == .native || deviceMemory[0] != nil }

  /// Fails unless the back-end is at work.
  func requireStart() throws(FaceError) { try require(isStarted, Code.order) }

  mutating func start() throws(FaceError) {
    try require(isThere && !hasEnded, Code.order)
    guard !isStarted else { return }
    isStarted = true
    switch face {
    case .native: native.value.begin()
    case .siemens: siemens.value.begin()
    case .vhostUser: socket.value.begin()
    }
  }

  /// Looks once at everything; bounded.
  @inline(never)
  mutating func turn() -> LinkTurn {
    let turn =
      switch face {
      case .native: native.value.turn()
      case .siemens: siemens.value.turn()
      case .vhostUser: socket.value.turn()
      }
    if turn == .left {
      isStarted = false
      hasEnded = true
    }
    return turn
  }

  /// Takes no new requests.
  @inline(never)
  mutating func beginStop(hasSuccessor: Bool) {
    switch face {
    case .native: native.value.beginStop()
    case .siemens: siemens.value.beginStop(hasSuccessor: hasSuccessor)
    case .vhostUser: socket.value.beginStop()
    }
  }

  /// Whether the caller has answered since the last step: nobody signals that, and the front-end
  /// waits for it.
  private var hasAnswer: Bool {
    for slot in 0..<BlockLayout.slotCount {
      if let requests = pending[slot], requests.hasAnswer { return true }
    }
    return false
  }

  /// Sleeps on the link's own events.
  @inline(never)
  mutating func sleep(until deadline: Instant?) -> WaitOutcome {
    if hasAnswer { return .event }
    return switch face {
    case .native: native.value.sleep(until: deadline)
    case .siemens: siemens.value.sleep(until: deadline)
    case .vhostUser: socket.value.sleep(until: deadline)
    }
  }

  mutating func prepareToSleep() -> Bool {
    if hasAnswer { return false }
    return switch face {
    case .native: native.value.prepareToSleep()
    case .siemens: siemens.value.prepareToSleep()
    case .vhostUser: socket.value.prepareToSleep()
    }
  }

  mutating func stayAwake() {
    switch face {
    case .native: native.value.stayAwake()
    case .siemens: siemens.value.stayAwake()
    case .vhostUser: socket.value.stayAwake()
    }
  }

  mutating func endSleep() -> WaitOutcome {
    switch face {
    case .native: return native.value.endSleep()
    case .siemens: return siemens.value.endSleep()
    case .vhostUser:
      socket.value.endSleep()
      return .event
    }
  }

  /// Looks whether the platform is still there, without sleeping.
  mutating func peek() -> WaitOutcome {
    switch face {
    case .native: return native.value.peek()
    case .siemens: return siemens.value.peek()
    case .vhostUser:
      socket.value.peek()
      return .event
    }
  }

  var isUp: Bool {
    mutating get {
      guard isStarted else { return false }
      return switch face {
      case .native: native.value.isUp
      case .siemens: siemens.value.isUp
      case .vhostUser: socket.value.isUp
      }
    }
  }

  /// When it has to be turned even if nothing wakes it, on the monotonic clock.
  var deadline: UInt64? {
    mutating get {
      switch face {
      case .native: native.value.deadline
      case .siemens: siemens.value.deadline
      case .vhostUser: socket.value.deadline
      }
    }
  }

  mutating func addWaits(to epoll: Int32, tag: UInt64) throws(SystemError) {
    switch face {
    case .native: try native.value.addWaits(to: epoll, tag: tag)
    case .siemens: try siemens.value.addWaits(to: epoll, tag: tag)
    case .vhostUser: try socket.value.addWaits(to: epoll, tag: tag)
    }
  }

  mutating func removeWaits(from epoll: Int32) {
    switch face {
    case .native: native.value.removeWaits(from: epoll)
    case .siemens: siemens.value.removeWaits(from: epoll)
    case .vhostUser: socket.value.removeWaits(from: epoll)
    }
  }

  /// Gives every number with its meaning; nothing before the one device of a link is there.
  @inline(never)
  mutating func giveCounters(_ walk: inout CounterWalk) {
    guard isThere else { return }
    switch face {
    case .native: native.value.giveCounters(&walk)
    case .siemens: siemens.value.giveCounters(&walk)
    case .vhostUser: socket.value.giveCounters(&walk)
    }
  }

  /// A number by its name; 0 where this kind of link does not count it.
  @inline(never)
  mutating func counter(_ scope: CounterScope, _ slot: Int, _ name: StaticString) -> UInt64 {
    var walk = CounterWalk(scope.rawValue, slot, name)
    giveCounters(&walk)
    return walk.found?.value ?? 0
  }

  /// Number and kind of a device that is there.
  mutating func kind(_ slot: Int) -> (id: UInt32, name: String) {
    switch face {
    case .native: native.value.kind(slot)
    case .siemens: siemens.value.kind
    case .vhostUser: socket.value.kind
    }
  }

  // MARK: The loop

  var mustStop: Bool {
    // Another thread writes the word: it is looked at with an atomic load.
    mutating get { unsafe cl_word_load(&stopWord) != 0 }
  }

  /// Serves until it is asked to stop.
  mutating func run(spin: UInt64) throws(FaceError) {
    try start()
    var idleSince: UInt64 = 0
    var isStopping = false
    while true {
      if mustStop, !isStopping {
        isStopping = true
        beginStop(hasSuccessor: false)
      }
      switch turn() {
      case .left: return
      case .gone: throw FaceError(Code.gone)
      case .busy:
        idleSince = 0
        continue
      case .idle: break
      }
      if spin > 0, !isStopping {
        let now = cl_monotonic_ns()
        if idleSince == 0 { idleSince = now }
        if now - idleSince < spin {
          Ordering.spinHint()
          continue
        }
      }
      idleSince = 0
      if sleep(until: nil) == .gone { throw FaceError(Code.gone) }
    }
  }

  @inline(never)
  mutating func leave() {
    guard isStarted else { return }
    isStarted = false
    hasEnded = true
    switch face {
    case .native: native.value.leave()
    case .siemens: siemens.value.leave()
    case .vhostUser: break
    }
  }

  /// Leaves and takes the devices down, before the memory they work on is unmapped.
  consuming func takeDown() {
    leave()
    if face == .native { native.value.removeDevices() }
    native = Slot()
    siemens = Slot()
    socket = Slot()
    platform = Slot()
    for slot in 0..<BlockLayout.slotCount {
      if let memory = deviceMemory[slot] { memory.free() }
    }
    if let socketMemory { socketMemory.free() }
  }
}
