public import CCellmate
import CLinux
import DeviceRuntime
import IVShmem
import SharedMemory
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

/// A block front-end behind a handle.
@safe
struct BlockObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .block }
  let memory: ObjectMemory
  var front: BlockFrontend<LibraryPlatform>
  let wakeDescriptor: Int32

  static func make(
    _ link: consuming NativeLink<LibraryPlatform>, slot: Int, depth: UInt32
  ) throws(FaceError) -> OpaquePointer {
    let plan = link.plan
    let stride = MemoryLayout<BlockObject>.stride
    let memory = try ObjectMemory(
      stride + SharedPools.privateBytes(plan, blockSize: 512) + (4 << 20))
    var arena = memory.arena(behind: stride)
    let wake = link.platform.wakeDescriptor
    do throws(BlockFrontendError) {
      var front = try BlockFrontend(
        frontend: Frontend(link: link), slot: slot, depth: depth, arena: &arena)
      front.frontend.start()
      return unsafe try Self.open(memory, front, wake)
    } catch {
      memory.free()
      throw FaceError(Code.memory)
    }
  }

  private static func open(
    _ memory: ObjectMemory, _ front: consuming BlockFrontend<LibraryPlatform>, _ wake: Int32
  ) throws(BlockFrontendError) -> OpaquePointer {
    do throws(FaceError) {
      return unsafe try open(BlockObject(memory: memory, front: front, wakeDescriptor: wake))
    } catch { throw .noPrivateMemory }
  }

  consuming func takeDown() { front.frontend.leave() }
}

extension FaceError {
  init(_ error: BlockFrontendError) {
    switch error {
    case .full: self.init(Code.full)
    case .poolTooSmall, .noPrivateMemory: self.init(Code.memory)
    case .frontend(let cause): self.init(cause)
    case .queue: self.init(Code.peer)
    case .badRequest: self.init(Code.argument)
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_create(
  _ link: OpaquePointer?, _ slot: UInt32, _ depth: UInt32,
  _ block: UnsafeMutablePointer<OpaquePointer?>?,
  _ error: UnsafeMutablePointer<cellmate_error>?
) -> cellmate_result {
  guard let block = unsafe block, slot < UInt32(BlockLayout.slotCount), depth >= 1, depth <= 256
  else { return Code.argument }
  return unsafe LinkObject.useUp(link, .frontEnd, error) { link throws(FaceError) in
    unsafe block.pointee = try BlockObject.make(link, slot: Int(slot), depth: depth)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_connect(_ block: OpaquePointer?, _ deadline: UInt64) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    do throws(BlockFrontendError) {
      try object.front.connect(until: Instant(nanoseconds: deadline))
      return Code.ok
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_info(
  _ block: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_block_facts>?
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    let size = MemoryLayout<cellmate_block_facts>.size
    let result = unsafe ch_can_output(facts, size)
    try require(result == Code.ok, result)
    guard let facts = unsafe facts else { throw FaceError(Code.argument) }
    try require(object.front.isConnected, Code.link)
    var values = cellmate_block_facts()
    values.capacity = object.front.configuration.capacity
    values.features = object.front.features.rawValue
    values.block_size = object.front.configuration.blockSize
    values.is_read_only = object.front.features.contains(.blockReadOnly) ? 1 : 0
    unsafe ch_output(facts, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_allocate(
  _ block: OpaquePointer?, _ direction: Int32, _ length: UInt64,
  _ buffer: UnsafeMutablePointer<cellmate_buffer>?
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    guard let buffer = unsafe buffer, length > 0, direction == 0 || direction == 1 else {
      throw FaceError(Code.argument)
    }
    guard let count = Int(exactly: length),
      let segment = direction == 1
        ? object.front.allocateForReading(count)
        : object.front.allocateForWriting(count)
    else { throw FaceError(Code.memory) }
    let region = object.front.frontend.link.region
    unsafe buffer.pointee = SharedPools.buffer(segment, region)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_free(
  _ block: OpaquePointer?, _ direction: Int32, _ buffer: UnsafePointer<cellmate_buffer>?
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    let plan = object.front.frontend.link.plan
    guard let buffer = unsafe buffer, direction == 0 || direction == 1,
      let segment = unsafe SharedPools.segment(buffer.pointee, plan),
      object.front.isAllocated(segment, forReading: direction == 1)
    else { throw FaceError(Code.argument) }
    if direction == 1 {
      object.front.freeForReading(segment)
    } else {
      object.front.freeForWriting(segment)
    }
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_submit(
  _ block: OpaquePointer?, _ requests: UnsafePointer<cellmate_block_request>?, _ count: UInt32
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    guard let requests = unsafe requests, count <= 1024 else { throw FaceError(Code.argument) }
    var taken: cellmate_result = 0
    for index in 0..<Int(count) {
      do throws(FaceError) {
        unsafe try object.submit(requests[index])
        taken += 1
      } catch {
        // Those before it are shown; the caller meets the error at the next call.
        if taken == 0 && error.code != Code.full { throw error }
        break
      }
    }
    object.front.publish()
    return taken
  }
}

extension BlockObject {
  fileprivate mutating func submit(_ request: cellmate_block_request) throws(FaceError) {
    let (type, sector, token) = unsafe (request.type, request.sector, request.token)
    guard type == 0 || type == 1 || type == 4, let kind = BlockRequestType(rawValue: type) else {
      throw FaceError(Code.argument)
    }
    var data = BufferSegment.empty
    if kind != .flush {
      let plan = front.frontend.link.plan
      guard let segment = unsafe SharedPools.segment(request.data, plan) else {
        throw FaceError(Code.argument)
      }
      data = segment
    }
    do throws(BlockFrontendError) {
      try front.submit(kind, sector: sector, data: data, token: token)
    } catch { throw FaceError(error) }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_take(
  _ block: OpaquePointer?, _ completions: UnsafeMutablePointer<cellmate_block_completion>?,
  _ count: UInt32
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    guard let completions = unsafe completions else { throw FaceError(Code.argument) }
    let region = object.front.frontend.link.region
    var taken = 0
    do throws(BlockFrontendError) {
      while taken < min(Int(count), 1024),
        let done = try object.front.nextCompletion()
      {
        let isEmpty = done.data.count == 0
        let data = unsafe isEmpty ? unsafe cellmate_buffer() : SharedPools.buffer(done.data, region)
        unsafe completions[taken] = cellmate_block_completion(
          token: done.token, status: done.status.map { Int32($0.rawValue) } ?? -1, data: data)
        taken += 1
      }
    } catch {
      if taken == 0 { throw FaceError(error) }
    }
    if taken == 0, object.front.step() { throw FaceError(Code.link) }
    return cellmate_result(taken)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_sleep(_ block: OpaquePointer?, _ deadline: UInt64) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    code(object.front.sleep(until: instant(deadline)))
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_wake(_ block: OpaquePointer?) -> cellmate_result {
  unsafe BlockObject.peek(block) { object in
    _ = cl_event_signal(object.wakeDescriptor)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_link_counters(
  _ block: OpaquePointer?, _ counters: UnsafeMutablePointer<cellmate_link_counters>?
) -> cellmate_result {
  unsafe BlockObject.with(block) { object throws(FaceError) in
    unsafe try fill(counters, object.front.frontend.link.counters)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_adopt(_ block: OpaquePointer?) -> cellmate_result {
  unsafe ch_adopt(UnsafeRawPointer(block), HandleKind.block.rawValue)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_close(_ block: OpaquePointer?) -> cellmate_result {
  unsafe BlockObject.close(block) { object in object.takeDown() }
}
