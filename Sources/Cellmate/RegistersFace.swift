public import CCellmate
import VirtioDevice
import Virtqueue

/// A register file behind a handle.
@safe
struct RegistersObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .registers }
  let memory: ObjectMemory
  var registers: RegisterFile
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_create(
  _ identity: UnsafePointer<cellmate_identity>?, _ registers: UnsafeMutablePointer<OpaquePointer?>?
) -> cellmate_result {
  var given = cellmate_identity()
  let size = MemoryLayout<cellmate_identity>.size
  let result = unsafe ch_input(identity, &given, size, size)
  guard result == Code.ok else { return result }
  guard let registers = unsafe registers, given.queue_count >= 1,
    given.queue_count <= UInt32(DeviceLimits.queues), let size = QueueSize(given.queue_size_max),
    given.chain_length_max >= 1, given.chain_length_max <= 32768,
    given.configuration_size <= UInt32(MMIORegister.configurationLimit)
  else { return Code.argument }
  let known = RegisterFile.Identity(
    deviceID: given.device_id, vendorID: given.vendor_id, queueCount: Int(given.queue_count),
    maximumQueueSize: size, maximumChainLength: Int(given.chain_length_max),
    configurationSize: Int(given.configuration_size))
  do throws(FaceError) {
    let memory = try ObjectMemory(MemoryLayout<RegistersObject>.stride)
    unsafe registers.pointee = try unsafe RegistersObject.open(
      RegistersObject(
        memory: memory,
        registers: RegisterFile(
          identity: known, offered: FeatureSet(rawValue: given.features), required: .version1)))
    return Code.ok
  } catch { return error.code }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_read(
  _ registers: OpaquePointer?, _ offset: UInt32, _ value: UnsafeMutablePointer<UInt32>?
) -> cellmate_result {
  unsafe RegistersObject.with(registers) { object throws(FaceError) in
    guard let value = unsafe value, offset < 0x100 else { throw FaceError(Code.argument) }
    unsafe value.pointee = object.registers.read(Int(offset)) ?? 0
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_write(
  _ registers: OpaquePointer?, _ offset: UInt32, _ value: UInt32,
  _ action: UnsafeMutablePointer<cellmate_action>?
) -> cellmate_result {
  unsafe RegistersObject.with(registers) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_action>.size
    let result = unsafe ch_can_output(action, size)
    try require(result == Code.ok, result)
    guard let action = unsafe action, offset < 0x100 else { throw FaceError(Code.argument) }
    var out = cellmate_action()
    switch object.registers.write(Int(offset), value) {
    case .none: out.kind = 0
    case .enableQueue(let queue, let ring):
      out.kind = 1
      out.queue = UInt32(queue)
      out.queue_size = UInt32(ring.size.rawValue)
      out.descriptor_table = ring.descriptorTable
      out.available_ring = ring.availableRing
      out.used_ring = ring.usedRing
    case .stopQueue(let queue):
      out.kind = 2
      out.queue = UInt32(queue)
    case .start(let features):
      out.kind = 3
      out.features = features.rawValue
    case .stop: out.kind = 4
    case .reset: out.kind = 5
    case .notify(let queue):
      out.kind = 6
      out.queue = UInt32(queue)
    case .refuse(let refusal):
      out.kind = 7
      out.refusal = refusal.rawValue
    }
    unsafe ch_output(action, &out, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_confirm(
  _ registers: OpaquePointer?, _ kind: UInt32, _ queue: UInt32
) -> cellmate_result {
  unsafe RegistersObject.with(registers) { object throws(FaceError) in
    let count = object.registers.identity.queueCount
    switch kind {
    case 5:
      object.registers.resetCompleted()
    case 1, 2:
      guard queue < UInt32(count) else { throw FaceError(Code.argument) }
      if kind == 1 {
        object.registers.queueEnabled(Int(queue))
      } else {
        object.registers.queueStopped(Int(queue))
      }
    default: throw FaceError(Code.argument)
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_raise(
  _ registers: OpaquePointer?, _ bits: UInt32
) -> cellmate_result {
  unsafe RegistersObject.with(registers) { object throws(FaceError) in
    guard bits & ~3 == 0 else { throw FaceError(Code.argument) }
    object.registers.raise(interrupt: bits)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_demand_reset(_ registers: OpaquePointer?) -> cellmate_result {
  unsafe RegistersObject.with(registers) { object throws(FaceError) in
    object.registers.demandReset()
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_registers_close(_ registers: OpaquePointer?) -> cellmate_result {
  unsafe RegistersObject.close(registers) { _ in }
}
