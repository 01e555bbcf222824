public import CCellmate
import CLinux
import DeviceRuntime
import SharedMemory
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A slot of the caller's.
func checkedSlot(_ number: UInt32) throws(FaceError) -> Int {
  guard number < UInt32(BlockLayout.slotCount) else { throw FaceError(Code.argument) }
  return Int(number)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_create(
  _ link: OpaquePointer?, _ frontend: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let frontend = unsafe frontend else { return Code.argument }
  return unsafe LinkObject.useUp(link, .frontEnd, error) { link throws(FaceError) in
    unsafe frontend.pointee = try FrontendObject.make(link)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_wait_link(
  _ frontend: OpaquePointer?, _ deadline: UInt64
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    try object.waitForLink(deadline)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_step(_ frontend: OpaquePointer?) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    object.look()
    return object.isValid && object.frontend.link.isUp ? 1 : 0
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_negotiate(
  _ frontend: OpaquePointer?, _ slot: UInt32, _ device_id: UInt32, _ wanted: UInt64,
  _ agreed: UnsafeMutablePointer<UInt64>?
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    let slot = try checkedSlot(slot)
    guard let agreed = unsafe agreed else { throw FaceError(Code.argument) }
    try object.requireLink()
    let features = FeatureSet(rawValue: wanted).subtracting(.indirectDescriptors)
    do throws(FrontendError) {
      let found = try object.frontend.negotiate(
        slot: slot, deviceID: device_id, wanted: features)
      object.agreed[slot] = found
      unsafe agreed.pointee = found.rawValue
      return Code.ok
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_open_queue(
  _ frontend: OpaquePointer?, _ slot: UInt32, _ index: UInt32, _ size: UInt32,
  _ chain_length_max: UInt32
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    guard index < UInt32(DeviceLimits.queues) else { throw FaceError(Code.argument) }
    return cellmate_result(
      try object.openQueue(
        slot: checkedSlot(slot), index: Int(index), size: size, chainLimit: chain_length_max))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_start_device(
  _ frontend: OpaquePointer?, _ slot: UInt32
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    let slot = try checkedSlot(slot)
    try object.requireLink()
    do throws(FrontendError) {
      try object.frontend.startDevice(slot: slot)
      return Code.ok
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_read_configuration(
  _ frontend: OpaquePointer?, _ slot: UInt32, _ offset: UInt32,
  _ bytes: UnsafeMutableRawPointer?, _ length: Int
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    let slot = try checkedSlot(slot)
    let limit = MMIORegister.configurationLimit
    guard let bytes = unsafe bytes, length >= 0, offset <= UInt32(limit),
      length <= limit - Int(offset)
    else { throw FaceError(Code.argument) }
    try object.requireLink()
    var copy = InlineArray<256, UInt8>(repeating: 0)
    var span = copy.mutableSpan
    do throws(FrontendError) {
      try object.frontend.configuration(slot: slot, into: &span)
    } catch { throw FaceError(error) }
    for position in 0..<length {
      unsafe bytes.storeBytes(
        of: copy[Int(offset) + position], toByteOffset: position, as: UInt8.self)
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_read_register(
  _ frontend: OpaquePointer?, _ slot: UInt32, _ offset: UInt32, _ width: UInt32,
  _ value: UnsafeMutablePointer<UInt64>?
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    guard let value = unsafe value, let width = UInt8(exactly: width) else {
      throw FaceError(Code.argument)
    }
    let slot = try checkedSlot(slot)
    try object.requireLink()
    do throws(FrontendError) {
      unsafe value.pointee = try object.frontend.read(
        slot: slot, offset: Int(offset), width: width)
      return Code.ok
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_write_register(
  _ frontend: OpaquePointer?, _ slot: UInt32, _ offset: UInt32, _ width: UInt32,
  _ value: UInt64
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    guard let width = UInt8(exactly: width) else { throw FaceError(Code.argument) }
    let slot = try checkedSlot(slot)
    try object.requireLink()
    do throws(FrontendError) {
      try object.frontend.write(
        slot: slot, offset: Int(offset), width: width, value)
      return Code.ok
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_allocate(
  _ frontend: OpaquePointer?, _ direction: Int32, _ length: UInt64,
  _ buffer: UnsafeMutablePointer<cellmate_buffer>?
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    guard let buffer = unsafe buffer else { throw FaceError(Code.argument) }
    let region = object.frontend.link.region
    unsafe buffer.pointee = try object.pools.allocate(
      length, direction: direction, region)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_free(
  _ frontend: OpaquePointer?, _ direction: Int32, _ buffer: UnsafePointer<cellmate_buffer>?
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    guard let buffer = unsafe buffer else { throw FaceError(Code.argument) }
    unsafe try object.pools.free(buffer.pointee, direction: direction)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_submit(
  _ frontend: OpaquePointer?, _ queue: UInt32, _ chains: UnsafePointer<cellmate_chain>?,
  _ count: UInt32
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    let number = try object.checked(queue)
    guard let chains = unsafe chains, count <= 1024 else { throw FaceError(Code.argument) }
    var added: cellmate_result = 0
    for index in 0..<Int(count) {
      let isAdded = unsafe try object.add(chains[index], to: number, isFirst: index == 0)
      if !isAdded { break }
      added += 1
    }
    if object.queues[number].publish() {
      let place = object.places[number]
      object.frontend.notify(slot: place.slot, queue: place.index)
    }
    return added
  }
}

extension FrontendObject {
  /// Adds one chain; `false` when there is no room, or when a chain behind the first one is wrong:
  /// those before it are shown, the caller meets the error at the next call.
  fileprivate mutating func add(
    _ chain: cellmate_chain, to number: Int, isFirst: Bool
  ) throws(FaceError) -> Bool {
    let total = unsafe chain.readable_count.addingReportingOverflow(chain.writable_count)
    let isSensible = !total.overflow && total.partialValue > 0 && total.partialValue <= 64
    guard isSensible, let buffers = unsafe chain.buffers else {
      if isFirst { throw FaceError(Code.argument) }
      return false
    }
    var segments = InlineArray<64, BufferSegment>(repeating: .empty)
    for index in 0..<Int(total.partialValue) {
      guard let segment = unsafe pools.segment(buffers[index]) else {
        if isFirst { throw FaceError(Code.argument) }
        return false
      }
      segments[index] = segment
    }
    let readable = unsafe Int(chain.readable_count)
    do throws(AddError) {
      let all = segments.span
      try queues[number].add(
        readable: all.extracting(0..<readable),
        writable: all.extracting(readable..<Int(total.partialValue)),
        token: unsafe chain.token)
      return true
    } catch {
      switch error {
      case .full: return false
      case .poisoned: throw FaceError(Code.peer)
      case .chainLength:
        if isFirst { throw FaceError(Code.argument) }
        return false
      }
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_take(
  _ frontend: OpaquePointer?, _ queue: UInt32,
  _ completions: UnsafeMutablePointer<cellmate_completion>?, _ count: UInt32
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    let number = try object.checked(queue)
    guard let completions = unsafe completions else { throw FaceError(Code.argument) }
    var taken = 0
    do throws(QueueError) {
      while taken < min(Int(count), 1024),
        let used = try object.queues[number].takeUsed()
      {
        unsafe completions[taken] = cellmate_completion(token: used.token, written: used.written)
        taken += 1
      }
    } catch {
      // What was taken before the device broke the rule is handed over first.
      if taken == 0 { throw FaceError(Code.peer) }
    }
    return cellmate_result(taken)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_sleep(
  _ frontend: OpaquePointer?, _ deadline: UInt64
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    code(object.sleep(deadline))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_wake(_ frontend: OpaquePointer?) -> cellmate_result {
  unsafe FrontendObject.peek(frontend) { object in
    _ = cl_event_signal(object.wakeDescriptor)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_link_counters(
  _ frontend: OpaquePointer?, _ counters: UnsafeMutablePointer<cellmate_link_counters>?
) -> cellmate_result {
  unsafe FrontendObject.with(frontend) { object throws(FaceError) in
    unsafe try fill(counters, object.frontend.link.counters)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_adopt(_ frontend: OpaquePointer?) -> cellmate_result {
  unsafe ch_adopt(UnsafeRawPointer(frontend), HandleKind.frontend.rawValue)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_frontend_close(_ frontend: OpaquePointer?) -> cellmate_result {
  unsafe FrontendObject.close(frontend) { object in object.takeDown() }
}

extension FrontendObject {
  consuming func takeDown() { frontend.leave() }
}
