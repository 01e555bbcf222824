import CLinux
public import LinuxSupport
public import SharedMemory

/// The memory of a front-end: its regions mapped side by side into one reserved range of
/// addresses, so that the one type for shared memory, with its one bounds check, serves it too.
///
/// What lies between the regions cannot be touched, and a claim has to lie within one of them.
@safe
public struct GuestMemory: ~Copyable {
  /// One region of the table.
  struct Region: BitwiseCopyable {
    /// First address in the driver's terms, and in those of the front-end process.
    var guest: UInt64 = 0
    var user: UInt64 = 0
    var size: UInt64 = 0
    /// Where it lies in the reservation; the mapping starts on a page before it.
    var offset = 0
    var mappingStart = 0
    var mappingSize = 0
  }

  /// Regions there can be at a time.
  public static var slotLimit: Int { 32 }
  /// Regions start on a boundary at which every page size fits that memory comes in.
  private static var grain: Int { 2 << 20 }

  /// The reservation.
  public let region: SharedRegion
  private let base: UnsafeMutableRawPointer
  private let guardNumber: Int
  private var regions = InlineArray<32, Region>(repeating: Region())
  /// Regions there are.
  public private(set) var count = 0
  private let windows: PrivateTable<AccessWindow>

  /// Reserves addresses; nothing is mapped.
  @inline(never)
  public static func make(arena: inout PrivateArena) throws(SystemError) -> GuestMemory {
    var error: Int32 = 0
    var size = 256 << 30
    // A 39-bit address space, or a limit on it, has less room.
    while size >= 1 << 30 {
      if let base = unsafe cl_reserve(size, &error) {
        guard
          let windows = arena.table(
            of: slotLimit, initial: AccessWindow(address: 0, count: 0, offset: 0))
        else { preconditionFailure("the arena holds a table of windows") }
        let guardNumber = unsafe cl_guard_add(base, size)
        guard guardNumber >= 0 else {
          unsafe cl_unmap(base, size)
          throw SystemError(Int32(truncatingIfNeeded: -guardNumber))
        }
        return unsafe GuestMemory(base, size, guardNumber, windows)
      }
      size /= 2
    }
    throw SystemError(error)
  }

  private init(
    _ base: UnsafeMutableRawPointer, _ size: Int, _ guardNumber: Int,
    _ windows: PrivateTable<AccessWindow>
  ) {
    unsafe self.base = base
    unsafe region = SharedRegion(unsafeBase: base, count: size)
    self.guardNumber = guardNumber
    self.windows = windows
  }

  deinit {
    cl_guard_remove(guardNumber)
    unsafe cl_unmap(base, region.count)
  }

  /// Pages that the front-end cut off and that were replaced by zeroes.
  public var faults: UInt32 { cl_guard_faults(guardNumber) }

  /// What the driver's addresses mean; `nil` without a region. Dead after the next change.
  public var access: AccessMap? { AccessMap(region: region, windows: windows.prefix(count)) }

  /// Unmaps everything. Nothing may be in flight.
  public mutating func removeAll() {
    while count > 0 { remove(at: count - 1) }
  }

  @inline(never)
  private mutating func remove(at index: Int) {
    let old = regions[index]
    let result = unsafe cl_reserve_at(base + old.mappingStart, old.mappingSize)
    precondition(result >= 0, "reserving what was reserved cannot fail")
    count -= 1
    regions[index] = regions[count]
    publish()
  }

  /// Maps a region of the file behind `descriptor`. Nothing may be in flight.
  public mutating func add(
    guest: UInt64, user: UInt64, size: UInt64, fileOffset: UInt64,
    descriptor: borrowing Descriptor
  ) throws(VhostUserError) {
    guard count < Self.slotLimit else { throw .memory(.slots(limit: Self.slotLimit)) }
    guard size > 0 else { throw .memory(.empty) }
    let end = fileOffset.addingReportingOverflow(size)
    guard !guest.addingReportingOverflow(size).overflow,
      !user.addingReportingOverflow(size).overflow, !end.overflow,
      end.partialValue <= UInt64(Int64.max)
    else { throw .memory(.wraps(address: guest, size: size)) }
    // Rings are aligned by their addresses: a page has to stay a page.
    guard guest & 4095 == fileOffset & 4095 else {
      throw .memory(.misaligned(address: guest, fileOffset: fileOffset))
    }
    for index in 0..<count {
      let other = regions[index]
      guard guest >= other.guest + other.size || other.guest >= guest + size,
        user >= other.user + other.size || other.user >= user + size
      else { throw .memory(.overlap(address: guest)) }
    }
    var facts = cl_file_facts()
    _ = try Self.check(unsafe cl_file_facts_of(descriptor.number, &facts))
    guard facts.size >= end.partialValue else {
      throw .memory(.fileTooSmall(has: facts.size, needed: end.partialValue))
    }
    let skipped = Int(fileOffset & 4095)
    let mappingSize = (Int(size) + skipped + 4095) & ~4095
    guard size < UInt64(region.count), let start = place(mappingSize) else {
      throw .memory(.noRoom(size: size))
    }
    let mapped = unsafe cl_map_file_at(
      base + start, mappingSize, descriptor.number, fileOffset - UInt64(skipped))
    _ = try Self.check(mapped)
    regions[count] = Region(
      guest: guest, user: user, size: size, offset: start + skipped, mappingStart: start,
      mappingSize: mappingSize)
    count += 1
    publish()
  }

  private static func check(_ result: Int) throws(VhostUserError) -> Int {
    do throws(SystemError) {
      return try SystemError.check(result)
    } catch { throw .system(request: VhostUserRequest.setMemoryTable.rawValue, error) }
  }

  /// Unmaps the region that starts at `guest`. Nothing may be in flight.
  public mutating func remove(guest: UInt64, user: UInt64, size: UInt64) throws(VhostUserError) {
    for index in 0..<count where regions[index].guest == guest {
      guard regions[index].user == user, regions[index].size == size else { break }
      return remove(at: index)
    }
    throw .memory(.notThere(address: guest))
  }

  /// The driver's address for one of the front-end process; rings are named by the latter.
  public func guestAddress(ofUser address: UInt64) throws(VhostUserError) -> UInt64 {
    for index in 0..<count {
      let distance = address &- regions[index].user
      if distance < regions[index].size { return regions[index].guest + distance }
    }
    throw .memory(.addressOutside(address))
  }

  /// The first gap that holds `size` bytes.
  private func place(_ size: Int) -> Int? {
    var start = 0
    // At most one round a region: each moves the start behind one of them for good.
    for _ in 0...count {
      var next = start
      for index in 0..<count {
        let other = regions[index]
        if next < other.mappingStart + other.mappingSize, other.mappingStart < next + size {
          next = (other.mappingStart + other.mappingSize + Self.grain - 1) & ~(Self.grain - 1)
        }
      }
      if next == start { break }
      start = next
    }
    return size <= region.count && start <= region.count - size ? start : nil
  }

  /// Writes the windows anew, the largest region first.
  private func publish() {
    var largest = 0
    for index in 0..<count where regions[index].size > regions[largest].size { largest = index }
    var next = 1
    for index in 0..<count {
      let own = regions[index]
      let window = AccessWindow(address: own.guest, count: own.size, offset: own.offset)
      if index == largest {
        windows[0] = window
      } else {
        windows[next] = window
        next += 1
      }
    }
  }
}
