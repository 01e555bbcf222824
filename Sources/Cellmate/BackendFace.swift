public import CCellmate
import CLinux
import CommandOptions
import DeviceRuntime
import IVShmem
import LinuxRuntime
import SharedMemory
import VirtioTransport

/// The result of a sleep.
func code(_ outcome: WaitOutcome) -> cellmate_result {
  switch outcome {
  case .event: 0
  case .deadline: 1
  case .interrupted: 2
  case .gone: 3
  }
}

/// A deadline of the interface.
func instant(_ deadline: UInt64) -> Instant? {
  deadline == .max ? nil : Instant(nanoseconds: deadline)
}

/// Fills the caller's counters of a link.
func fill(
  _ out: UnsafeMutablePointer<cellmate_link_counters>?, _ counters: LinkCounters
) throws(FaceError) {
  let size = MemoryLayout<cellmate_link_counters>.size
  let result = unsafe ch_can_output(out, size)
  try require(result == Code.ok, result)
  guard let out = unsafe out else { return }
  var values = cellmate_link_counters()
  values.pairings = counters.pairings
  values.losses = counters.losses
  values.doorbells = counters.doorbells
  values.sleeps = counters.sleeps
  values.wake_ups = counters.wakeUps
  values.peer_errors = counters.peerErrors
  unsafe ch_output(out, &values, size)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_create(
  _ link: OpaquePointer?, _ backend: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let backend = unsafe backend else { return Code.argument }
  var face = BackendObject.Face.vhostUser
  var plan: LinkPlan?
  let seen = unsafe LinkObject.with(link) { object throws(FaceError) in
    try require(object.side == .backEnd, Code.order)
    if case .vhostUser = object.wish { return Code.ok }
    do throws(UsageError) {
      face = try object.chooseDialect() == .siemens ? .siemens : .native
      if face == .native { plan = try object.nativePlan() }
    } catch let usage { throw FaceError(unsafe report(usage, error)) }
    return Code.ok
  }
  guard seen == Code.ok else { return seen }
  return unsafe LinkObject.close(link) { object throws(FaceError) in
    switch face {
    case .native:
      guard let plan else { throw FaceError(Code.order) }
      unsafe backend.pointee = try BackendObject.make(native: object, plan)
    case .siemens: unsafe backend.pointee = try BackendObject.make(siemens: object)
    case .vhostUser: unsafe backend.pointee = try BackendObject.make(socket: object)
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_add(
  _ backend: OpaquePointer?, _ slot: UInt32, _ specification: UnsafePointer<CChar>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let specification = unsafe specification else { return Code.argument }
  return unsafe BackendObject.with(backend) { object throws(FaceError) in
    let wake = object.wakeDescriptor
    let voice = object.voice
    unsafe try object.add(slot: slot, size: 4 << 20, error) { arena throws(FaceError) in
      do throws(UsageError) {
        let wanted = try DeviceSpecification(unsafe String(cString: specification))
        let device = try ServedDevice.make(
          wanted, wakeDescriptor: wake, arena: &arena, log: voice.resource)
        do throws(FaceError) {
          return try LibraryDevice.make(device, arena: &arena)
        } catch { preconditionFailure("4 MiB hold a device") }
      } catch let usage { throw FaceError(unsafe report(usage, error)) }
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_add_device(
  _ backend: OpaquePointer?, _ slot: UInt32, _ device: UnsafePointer<cellmate_device>?
) -> cellmate_result {
  var given = unsafe cellmate_device()
  let result = unsafe ch_input(
    device, &given, Int(CH_LEAST_DEVICE), MemoryLayout<cellmate_device>.size)
  guard result == Code.ok else { return result }
  let size = unsafe CallbackDevice.memorySize(given) + (2 << 20)
  return unsafe BackendObject.with(backend) { object throws(FaceError) in
    var pending: PendingRequests?
    unsafe try object.add(slot: slot, size: size) { arena throws(FaceError) in
      let made = try unsafe CallbackDevice(given, arena: &arena)
      pending = made.requests
      return try LibraryDevice.make(made, arena: &arena)
    }
    object.pending[Int(slot)] = pending
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_complete(
  _ backend: OpaquePointer?, _ slot: UInt32, _ ticket: UInt64, _ written: UInt32
) -> cellmate_result {
  guard slot < UInt32(BlockLayout.slotCount) else { return Code.argument }
  var isKnown = false
  var isOwner = true
  let result = unsafe BackendObject.peek(backend) { object in
    isOwner = unsafe ch_is_owner(UnsafeRawPointer(backend)!) != 0
    guard isOwner else { return }
    // Field by field: a callback calls this while the back-end is at work.
    isKnown = unsafe object.pointee.pending[Int(slot)]?.complete(ticket, written: written) ?? false
  }
  guard result == Code.ok else { return result }
  guard isOwner else { return -5 }
  return isKnown ? Code.ok : Code.argument
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_start(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try require(!object.isStarted, Code.order)
    try object.start()
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_step(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    switch object.turn() {
    case .busy: return 1
    case .idle: return 0
    case .left: return 2
    case .gone: throw FaceError(Code.gone)
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_sleep(
  _ backend: OpaquePointer?, _ deadline: UInt64
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    return code(object.sleep(until: instant(deadline)))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_run(_ backend: OpaquePointer?, _ spin: UInt64) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.run(spin: spin)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_stop(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.peek(backend) { object in
    _ = unsafe cl_word_exchange(&object.pointee.stopWord, 1)
    _ = unsafe cl_event_signal(object.pointee.wakeDescriptor)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_wake(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.peek(backend) { object in
    _ = unsafe cl_event_signal(object.pointee.wakeDescriptor)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_is_up(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    object.isUp ? 1 : 0
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_link_counters(
  _ backend: OpaquePointer?, _ counters: UnsafeMutablePointer<cellmate_link_counters>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_link_counters>.size
    let result = unsafe ch_can_output(counters, size)
    try require(result == Code.ok, result)
    guard let counters = unsafe counters else { throw FaceError(Code.argument) }
    var values = cellmate_link_counters()
    values.pairings = object.counter(.link, -1, "pairings")
    values.losses = object.counter(.link, -1, "losses")
    values.doorbells = object.counter(.link, -1, "doorbells")
    values.sleeps = object.counter(.link, -1, "sleeps")
    values.wake_ups = object.counter(.link, -1, "wakeUps")
    values.peer_errors = object.counter(.link, -1, "peerErrors")
    unsafe ch_output(counters, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_device_counters(
  _ backend: OpaquePointer?, _ slot: UInt32,
  _ counters: UnsafeMutablePointer<cellmate_device_counters>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_device_counters>.size
    let result = unsafe ch_can_output(counters, size)
    try require(result == Code.ok, result)
    guard object.hasDevice(Int(slot)), let counters = unsafe counters else {
      throw FaceError(Code.device)
    }
    var values = cellmate_device_counters()
    values.chains = object.counter(.device, Int(slot), "chains")
    values.notifications_seen = object.counter(.device, Int(slot), "notificationsSeen")
    values.notifications_sent = object.counter(.device, Int(slot), "notificationsSent")
    values.transactions = object.counter(.device, Int(slot), "transactions")
    values.refusals = object.counter(.device, Int(slot), "refusals")
    values.queue_errors = object.counter(.device, Int(slot), "queueErrors")
    values.resets = object.counter(.device, Int(slot), "resets")
    unsafe ch_output(counters, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_adopt(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe ch_adopt(UnsafeRawPointer(backend), HandleKind.backend.rawValue)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_close(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.close(backend) { object in object.takeDown() }
}
