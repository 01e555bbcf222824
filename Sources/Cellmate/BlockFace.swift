public import CCellmate
import CLinux
import IVShmem
import SharedMemory
import VirtioBlock
import VirtioDevice
import VirtioTransport
import Virtqueue

extension DriverObject {
  /// Fails unless this is the driver of a disk.
  func requireBlock() throws(FaceError) {
    guard unit.block.isThere else { throw FaceError(Code.handle) }
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
  return unsafe DriverObject.create(link, slot, .block(depth: Int(depth)), block, error)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_connect(_ block: OpaquePointer?, _ deadline: UInt64) -> cellmate_result {
  unsafe cellmate_driver_connect(block, deadline)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_info(
  _ block: OpaquePointer?, _ facts: UnsafeMutablePointer<cellmate_block_facts>?
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
    let size = MemoryLayout<cellmate_block_facts>.size
    let result = unsafe ch_can_output(facts, Int(CH_LEAST_BLOCK_FACTS))
    try require(result == Code.ok, result)
    guard let facts = unsafe facts else { throw FaceError(Code.argument) }
    try object.requireRunning()
    let disk = object.unit.block.value.driver.configuration
    var values = cellmate_block_facts()
    values.capacity = disk.capacity
    values.features = object.features.rawValue
    values.block_size = disk.blockSize
    values.is_read_only = object.features.contains(.blockReadOnly) ? 1 : 0
    values.size_max = disk.sizeMax
    values.segment_max = disk.segmentMax
    values.queue_count = UInt32(disk.queueCount)
    values.is_writeback = disk.isWriteback ? 1 : 0
    values.discard_max = disk.maximumDiscardSectors
    values.discard_alignment = disk.discardSectorAlignment
    values.write_zeroes_max = disk.maximumWriteZeroesSectors
    let hasZeroes = object.features.contains(.blockWriteZeroes)
    values.write_zeroes_may_unmap = hasZeroes && disk.writeZeroesMayUnmap ? 1 : 0
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
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
    guard let buffer = unsafe buffer else { throw FaceError(Code.argument) }
    let region = object.way.region
    unsafe buffer.pointee = try object.way.pools.allocate(length, direction: direction, region)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_free(
  _ block: OpaquePointer?, _ direction: Int32, _ buffer: UnsafePointer<cellmate_buffer>?
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
    guard let buffer = unsafe buffer else { throw FaceError(Code.argument) }
    unsafe try object.way.pools.free(buffer.pointee, direction: direction)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_submit(
  _ block: OpaquePointer?, _ requests: UnsafePointer<cellmate_block_request>?, _ count: UInt32
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
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
    object.publish()
    return taken
  }
}

extension DriverObject {
  fileprivate mutating func submit(_ request: cellmate_block_request) throws(FaceError) {
    let (sector, token) = unsafe (request.sector, request.token)
    do throws(BlockDriverError) {
      switch unsafe request.type {
      case BlockRequestType.flush.rawValue: try unit.block.value.driver.flush(token: token)
      case BlockRequestType.read.rawValue:
        let data = try unsafe segment(request.data)
        try unit.block.value.driver.read(sector: sector, into: data, token: token)
      case BlockRequestType.write.rawValue:
        let data = try unsafe segment(request.data)
        try unit.block.value.driver.write(sector: sector, from: data, token: token)
      case BlockRequestType.discard.rawValue:
        let count = try unsafe Self.sectors(request.data)
        try unit.block.value.driver.discard(sector: sector, sectors: count, token: token)
      case BlockRequestType.writeZeroes.rawValue, BlockRequestType.writeZeroes.rawValue | mayUnmap:
        let count = try unsafe Self.sectors(request.data)
        try unit.block.value.driver.writeZeroes(
          sector: sector, sectors: count,
          unmapping: unsafe request.type & mayUnmap == 0 ? .keep : .allow, token: token)
      default: throw .badLength(0, limit: 0)
      }
    } catch { throw explain(error) }
  }

  /// `CELLMATE_BLOCK_MAY_UNMAP`.
  private var mayUnmap: UInt32 { 0x8000_0000 }

  /// How much a request without data of its own is about.
  private static func sectors(
    _ data: cellmate_buffer
  ) throws(BlockDriverError) -> UInt32 {
    let length = unsafe data.length
    let size = UInt64(BlockFormat.sectorSize)
    guard length > 0, length % size == 0, let count = UInt32(exactly: length / size) else {
      throw .badLength(0, limit: 0)
    }
    return count
  }

  /// A buffer of the caller's.
  private func segment(_ buffer: cellmate_buffer) throws(BlockDriverError) -> BufferSegment {
    guard let segment = unsafe way.pools.segment(buffer) else {
      throw .badLength(0, limit: 0)
    }
    return segment
  }

  private func explain(_ error: BlockDriverError) -> FaceError {
    switch error {
    case .full: return FaceError(Code.full)
    case .badLength(let count, let limit):
      guard count > limit, limit > 0 else { return FaceError(Code.argument) }
      return .explained(
        Code.argument, "a request has at most \(limit) bytes here; give --size \(limit)")
    case .readOnly, .notOffered:
      return .explained(Code.refused, "submitting a request: \(error)")
    case .outOfRange, .tooManySectors, .queueTooSmall:
      return .explained(Code.argument, "submitting a request: \(error)")
    }
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_take(
  _ block: OpaquePointer?, _ completions: UnsafeMutablePointer<cellmate_block_completion>?,
  _ count: UInt32
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
    guard let completions = unsafe completions else { throw FaceError(Code.argument) }
    let region = object.way.region
    var taken = 0
    do throws(QueueError) {
      while taken < min(Int(count), 1024),
        let done = try object.unit.block.value.driver.nextCompletion()
      {
        let isEmpty = done.data.count == 0
        let data = unsafe isEmpty ? unsafe cellmate_buffer() : SharedPools.buffer(done.data, region)
        unsafe completions[taken] = cellmate_block_completion(
          token: done.token, status: done.status.map { Int32($0.rawValue) } ?? -1, data: data)
        taken += 1
      }
    } catch {
      if taken == 0 { throw DriverObject.broken(error) }
    }
    if taken == 0 { try require(object.lookCheaply(), Code.link) }
    return cellmate_result(taken)
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_time_access(
  _ block: OpaquePointer?, _ nanoseconds: UnsafeMutablePointer<UInt64>?
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    try object.requireBlock()
    guard let nanoseconds = unsafe nanoseconds else { throw FaceError(Code.argument) }
    try object.requireRunning()
    let start = object.way.now
    do throws(WayError) {
      try object.way.touch()
    } catch {
      switch error {
      case .lost: throw .explained(Code.link, "the back-end went away")
      case .failed(let problem): throw problem
      }
    }
    unsafe nanoseconds.pointee = object.way.now - start
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_sleep(_ block: OpaquePointer?, _ deadline: UInt64) -> cellmate_result {
  unsafe cellmate_driver_sleep(block, deadline, 0)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_wake(_ block: OpaquePointer?) -> cellmate_result {
  unsafe cellmate_driver_wake(block)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_link_counters(
  _ block: OpaquePointer?, _ counters: UnsafeMutablePointer<cellmate_link_counters>?
) -> cellmate_result {
  unsafe DriverObject.run(block) { object throws(FaceError) in
    if let seen = object.way.counters {
      unsafe try fill(counters, seen)
      return Code.ok
    }
    let size = MemoryLayout<cellmate_link_counters>.size
    let result = unsafe ch_can_output(counters, size)
    try require(result == Code.ok, result)
    guard let counters = unsafe counters else { throw FaceError(Code.argument) }
    var values = cellmate_link_counters()
    values.doorbells = object.way.notificationCount
    unsafe ch_output(counters, &values, size)
    return Code.ok
  }
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_adopt(_ block: OpaquePointer?) -> cellmate_result {
  unsafe cellmate_driver_adopt(block)
}

/// Stated in `cellmate.h`.
@c @implementation
public func cellmate_block_close(_ block: OpaquePointer?) -> cellmate_result {
  unsafe cellmate_driver_close(block)
}
