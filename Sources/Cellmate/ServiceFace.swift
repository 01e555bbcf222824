public import CCellmate
import CommandOptions
import HostResources
import IVShmem
import LinuxRuntime
import LinuxSupport
import VirtioNet

// What a service with a loop of its own asks of a back-end.

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_quiesce(
  _ backend: OpaquePointer?, _ for_successor: Int32
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    object.beginStop(hasSuccessor: for_successor != 0)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_watch(
  _ backend: OpaquePointer?, _ epoll: Int32, _ tag: UInt64
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try require(object.isThere, Code.order)
    do throws(SystemError) {
      try object.addWaits(to: epoll, tag: tag)
    } catch {
      throw FaceError(error.code == SystemError.notSupported ? Code.refused : Code.argument)
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_unwatch(
  _ backend: OpaquePointer?, _ epoll: Int32
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try require(object.isThere, Code.order)
    object.removeWaits(from: epoll)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_prepare_sleep(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    return object.prepareToSleep() ? 1 : 0
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_stay_awake(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    object.stayAwake()
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_end_sleep(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    return code(object.endSleep())
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_poll(_ backend: OpaquePointer?) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    try object.requireStart()
    return code(object.peek())
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_deadline(
  _ backend: OpaquePointer?, _ deadline: UnsafeMutablePointer<UInt64>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    guard let deadline = unsafe deadline else { throw FaceError(Code.argument) }
    try object.requireStart()
    unsafe deadline.pointee = object.deadline ?? .max
    return Code.ok
  }
}

// MARK: Facts and numbers

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_info(
  _ backend: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_backend_facts>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_backend_facts>.size
    let result = unsafe ch_can_output(facts, size)
    try require(result == Code.ok, result)
    guard let facts = unsafe facts else { throw FaceError(Code.argument) }
    var values = cellmate_backend_facts()
    values.kind = object.face.rawValue
    values.device_limit = UInt32(object.deviceLimit)
    if let seen = object.facts {
      values.peer_id = UInt32(seen.peerID.rawValue)
      values.max_peers = seen.geometry.maxPeers
      values.vector_count = UInt32(seen.vectorCount)
      values.device_class = seen.deviceClass
      values.state_table_size = UInt64(seen.geometry.stateTableSize)
      values.read_write_size = UInt64(seen.geometry.readWriteSize)
      values.output_size = UInt64(seen.geometry.outputSize)
    }
    unsafe ch_output(facts, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_device(
  _ backend: OpaquePointer?, _ slot: UInt32,
  _ facts: UnsafeMutablePointer<cellmate_device_facts>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_device_facts>.size
    let result = unsafe ch_can_output(facts, size)
    try require(result == Code.ok, result)
    guard let facts = unsafe facts else { throw FaceError(Code.argument) }
    try require(object.hasDevice(Int(slot)), Code.device)
    let kind = object.kind(Int(slot))
    var values = cellmate_device_facts()
    values.device_id = kind.id
    setText(&values.kind, kind.name)
    unsafe ch_output(facts, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_counter(
  _ backend: OpaquePointer?, _ index: UInt32,
  _ counter: UnsafeMutablePointer<cellmate_counter>?
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_counter>.size
    let result = unsafe ch_can_output(counter, size)
    try require(result == Code.ok, result)
    guard let counter = unsafe counter else { throw FaceError(Code.argument) }
    var walk = CounterWalk(place: Int(index))
    object.giveCounters(&walk)
    guard let found = walk.found else { throw FaceError(Code.argument) }
    var values = cellmate_counter()
    values.scope = found.scope
    values.slot = Int32(truncatingIfNeeded: found.slot)
    setText(&values.name, "\(found.name)")
    if values.scope == CounterScope.kind.rawValue {
      setText(&values.kind, object.kind(Int(values.slot)).name)
    }
    unsafe ch_output(counter, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_counters(
  _ backend: OpaquePointer?, _ values: UnsafeMutablePointer<UInt64>?, _ count: UInt32
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    let room = unsafe values == nil ? 0 : Int(count)
    var walk = unsafe CounterWalk(values: values, room: room)
    object.giveCounters(&walk)
    return cellmate_result(truncatingIfNeeded: walk.count)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_rings(
  _ backend: OpaquePointer?, _ rings: UnsafeMutablePointer<cellmate_ring>?, _ count: UInt32
) -> cellmate_result {
  unsafe BackendObject.with(backend) { object throws(FaceError) in
    guard object.face == .native else { return 0 }
    let room = unsafe rings == nil ? 0 : Int(count)
    var place = 0
    object.native.value.forEachRing { ring in
      if place < room, let rings = unsafe rings {
        unsafe rings[place] = cellmate_ring(
          slot: UInt32(ring.slot), queue: UInt32(ring.queue), queue_size: ring.size, reserved: 0,
          descriptors: ring.descriptors, available: ring.available, used: ring.used)
      }
      place += 1
    }
    return cellmate_result(truncatingIfNeeded: place)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_backend_look(
  _ backend: OpaquePointer?, _ offset: UInt64, _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> cellmate_result {
  guard let bytes = unsafe bytes else { return Code.argument }
  var isInside = false
  // What is looked at never changes while the handle is open: any thread may.
  let result = unsafe BackendObject.peek(backend) { object in
    guard let facts = unsafe object.pointee.facts else { return }
    isInside = facts.look(offset, length) { place, word in
      unsafe bytes.storeBytes(of: word.littleEndian, toByteOffset: place, as: UInt32.self)
    }
  }
  guard result == Code.ok else { return result }
  return isInside ? Code.ok : Code.argument
}

// MARK: Devices before they are opened

private func parsed(
  _ text: UnsafePointer<CChar>, _ error: UnsafeMutablePointer<cellmate_error>?
) throws(FaceError) -> DeviceSpecification {
  do throws(UsageError) {
    return try DeviceSpecification(unsafe String(cString: text))
  } catch let usage { throw FaceError(unsafe report(usage, error)) }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_device_check(
  _ specification: UnsafePointer<CChar>?, _ examine: Int32,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let specification = unsafe specification else { return Code.argument }
  do throws(FaceError) {
    let wanted = unsafe try parsed(specification, error)
    guard examine != 0 else { return Code.ok }
    do throws(UsageError) {
      try ServedDevice.examine(wanted)
      return Code.ok
    } catch let usage { throw FaceError(unsafe report(usage, error)) }
  } catch { return error.code }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_device_compare(
  _ one: UnsafePointer<CChar>?, _ other: UnsafePointer<CChar>?
) -> cellmate_result {
  guard let one = unsafe one, let other = unsafe other else { return Code.argument }
  do throws(FaceError) {
    let (first, second) = unsafe (try parsed(one, nil), try parsed(other, nil))
    return (first == second ? 1 : 0) | (first.excludes(second) ? 2 : 0)
  } catch { return error.code }
}

// MARK: The process

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_watch_hangups(_ event_descriptor: Int32, _ on: Int32) -> cellmate_result {
  guard on == 0 || on == 1 else { return Code.argument }
  guard on == 1 else {
    HangupSignal.unwatch(event_descriptor)
    return Code.ok
  }
  do throws(SystemError) {
    try HangupSignal.watch(event_descriptor)
    return Code.ok
  } catch { return error.code == SystemError.notOpen ? Code.argument : Code.full }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_hangups() -> UInt32 { HangupSignal.count }

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_set_carrier(
  _ address: UnsafePointer<UInt8>?, _ up: Int32
) -> cellmate_result {
  guard let address = unsafe address else { return Code.argument }
  var value: UInt64 = 0
  for place in (0..<6).reversed() { value = value << 8 | UInt64(unsafe address[place]) }
  return SwitchRegistry.shared.setLink(of: MACAddress(rawValue: value), isUp: up != 0) ? 1 : 0
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_tap(
  _ index: UInt32, _ counters: UnsafeMutablePointer<cellmate_tap_counters>?
) -> cellmate_result {
  let size = MemoryLayout<cellmate_tap_counters>.size
  let result = unsafe ch_can_output(counters, size)
  guard result == Code.ok, let counters = unsafe counters else { return result }
  var place: UInt32 = 0
  var isThere = false
  // Filled where it lies: a structure with texts in it is copied character by character.
  var values = cellmate_tap_counters()
  SwitchRegistry.shared.forEachTap { owner, tap, seen in
    if place == index {
      isThere = true
      setText(&values.owner, owner)
      setText(&values.tap, tap)
      values.frames_in = seen.framesIn
      values.frames_out = seen.framesOut
      values.spoofed = seen.spoofed
      values.malformed = seen.malformed
      values.overflows = seen.overflows
    }
    place += 1
  }
  guard isThere else { return Code.argument }
  unsafe ch_output(counters, &values, size)
  return Code.ok
}
