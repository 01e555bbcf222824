import CCellmate
import CLinux
import IVShmem
import SharedMemory
import VirtioConsole
import VirtioDevice
import VirtioNet
import VirtioTransport
import Virtqueue

/// A driver behind a handle, with the way to its device; it takes the device up again when the
/// back-end was restarted.
@safe
struct DriverObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .driver }
  let memory: ObjectMemory
  var way: DeviceWay
  var unit: DriverUnit
  /// What a network device's frames are carried to and from; `nil` where the caller does it.
  var bridge = Slot<FrameBridge>()
  /// The address the device was asked to have; `nil` for its own.
  var address: MACAddress?
  /// The address that the network device's open command asks for.
  var openAddress: MACAddress?
  /// What the network device was told last, in words.
  var openCommand: StaticString = "a command"
  /// What was agreed.
  private(set) var features = FeatureSet()
  /// The start of the configuration space.
  private(set) var configuration = InlineArray<64, UInt8>(repeating: 0)
  /// Whether the device was set up, and had not gone at the last look.
  private(set) var isRunning = false
  /// Times the device was set up.
  private(set) var connections: UInt64 = 0
  /// From the sight of a back-end that came back to the running device, the longest, in
  /// nanoseconds.
  private(set) var slowestSetUp: UInt64 = 0
  /// Why the last call failed.
  var lastError = FaceError(Code.ok)
  /// Ends a sleep; written by any thread.
  let wakeDescriptor: Int32
  /// Looks since the last one that cost a call of the kernel.
  private var idleLooks: UInt32 = 0

  init(_ memory: ObjectMemory, _ way: consuming DeviceWay, _ unit: consuming DriverUnit) {
    self.memory = memory
    wakeDescriptor = way.wakeDescriptor
    self.way = way
    self.unit = unit
  }

  // MARK: Set-up

  /// Waits for the back-end and sets the device up, until it works or `deadline` passes. May be
  /// called in any state.
  mutating func connect(until deadline: UInt64) throws(FaceError) {
    isRunning = false
    unit.end()
    if connections > 0 { try way.waitForBackend(until: deadline) }
    let seen = way.now
    while true {
      do throws(WayError) {
        try setUp(until: deadline)
        break
      } catch {
        unit.end()
        switch error {
        case .lost:
          guard way.now < deadline else {
            throw .explained(Code.link, "the back-end goes away again and again")
          }
          try way.waitForBackend(until: deadline)
        case .failed(let error): throw error
        }
      }
    }
    if connections > 0 { slowestSetUp = max(slowestSetUp, way.now - seen) }
    connections += 1
    isRunning = true
  }

  private mutating func setUp(until deadline: UInt64) throws(WayError) {
    features = try way.negotiate(unit.kind, wanted: unit.wanted(way), until: deadline)
    try readConfiguration()
    var queues: UInt32
    do throws(FaceError) {
      queues = try unit.queues(features, configuration)
    } catch { throw .failed(error) }
    let size = unit.queueSize
    while queues != 0 {
      let index = queues.trailingZeroBitCount
      let queue = try way.makeQueue(index, size: size)
      unit.take(queue, at: index, features, configuration)
      queues &= queues &- 1
    }
    try way.start()
    unit.begin(features)
    publish()
  }

  @inline(never)
  private mutating func readConfiguration() throws(WayError) {
    var bytes = configuration
    var span = bytes.mutableSpan
    // A vhost-user back-end of another make answers for the bytes that its device has, or not at
    // all.
    var part = span._mutatingExtracting(0..<unit.configurationSize)
    try way.configuration(into: &part)
    configuration = bytes
    unit.update(features, bytes)
  }

  /// Fails unless the device is set up.
  func requireRunning() throws(FaceError) {
    guard isRunning else { throw FaceError(Code.link) }
  }

  /// Writes into a console's emergency register, in any state; how many bytes.
  mutating func writeEmergency(
    _ bytes: Span<UInt8>, until deadline: UInt64
  ) throws(FaceError) -> Int {
    var count = 0
    do throws(WayError) {
      let offered = try way.offered(unit.kind, isRunning: isRunning, until: deadline)
      defer { if !isRunning { way.hangUp() } }
      guard offered.contains(.consoleEmergencyWrite) else {
        throw .failed(.explained(Code.refused, "the console has no emergency register"))
      }
      while count < bytes.count, count == 0 || way.now < deadline {
        try way.writeConfiguration(UInt32(bytes[count]), at: ConsoleFormat.emergencyRegister)
        count += 1
      }
    } catch {
      switch error {
      case .failed(let problem): throw problem
      case .lost:
        isRunning = false
        throw FaceError(Code.link)
      }
    }
    return count
  }

  // MARK: At work

  /// Shows the device what is new and notifies it if it asked for that.
  mutating func publish() {
    var wanted = unit.publish()
    while wanted != 0 {
      way.notify(queue: wanted.trailingZeroBitCount)
      wanted &= wanted &- 1
    }
  }

  /// Looks at the back-end: whether the device still runs. What it has delivered can still be
  /// taken.
  @inline(never)
  mutating func look() -> Bool {
    guard isRunning else { return false }
    switch way.look() {
    case .nothing: break
    case .lost: isRunning = false
    case .configuration: readChange()
    }
    return isRunning
  }

  private mutating func readChange() {
    do throws(WayError) {
      try readConfiguration()
    } catch {
      // It is changing right now, or the back-end has gone: the next look tells.
    }
  }

  /// Looks at the back-end, but not each time where a look costs a call of the kernel.
  mutating func lookCheaply() -> Bool {
    guard way.hasCostlyLook else { return look() }
    idleLooks &+= 1
    return idleLooks & 63 == 0 ? look() : isRunning
  }

  /// Looks for `spin` nanoseconds, then sleeps until the device, the wake-up or `deadline`, unless
  /// something has come already.
  @inline(never)
  mutating func sleep(until deadline: UInt64, spin: UInt64) -> WaitOutcome {
    guard isRunning else { return .event }
    if spin > 0, spins(for: spin) { return .event }
    unit.arm()
    way.prepareToSleep()
    let isAwaited = unit.hasCompletion ? true : hasNews()
    if isAwaited {
      way.stayAwake()
      unit.suppress()
      return .event
    }
    let outcome = way.sleep(until: deadline)
    unit.suppress()
    return outcome
  }

  /// Whether something came while it was looked for.
  private mutating func spins(for time: UInt64) -> Bool {
    let start = way.now
    while true {
      for _ in 0..<32 {
        if unit.hasCompletion { return true }
        Ordering.spinHint()
      }
      if way.now - start >= time { return false }
    }
  }

  private mutating func hasNews() -> Bool {
    switch way.look() {
    case .nothing: return false
    case .lost: isRunning = false
    case .configuration: readChange()
    }
    return true
  }

  /// Leaves on purpose.
  consuming func takeDown() {
    unit.end()
    way.leave()
  }
}

extension DriverObject {
  /// Calls `body` with the driver of a handle, and notes why it failed.
  @inline(__always)
  static func run(
    _ handle: OpaquePointer?, _ body: (inout Self) throws(FaceError) -> cellmate_result
  ) -> cellmate_result {
    unsafe with(handle) { object throws(FaceError) in
      do throws(FaceError) {
        return try body(&object)
      } catch {
        object.lastError = error
        throw error
      }
    }
  }

  /// What a device did wrong on a queue.
  @inline(never)
  static func broken(_ error: QueueError) -> FaceError {
    .explained(Code.peer, "the back-end broke a rule of the queue: \(error)")
  }
}
