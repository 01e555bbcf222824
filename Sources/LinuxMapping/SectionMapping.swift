import CDevice
import CLinux
public import IVShmem
public import LinuxSupport
public import SharedMemory

/// The shared memory of a link in one range of addresses, each section where the geometry has it
/// and with the rights of its owner, between two pages that fault.
///
/// A device that vanishes makes its memory fault as well: the faulting page is then replaced by
/// zeroes, and ``hasVanished`` tells.
@safe
public struct SectionMapping: ~Copyable {
  /// Where the sections lie.
  public let geometry: LinkGeometry
  private let reservation: UnsafeMutableRawPointer
  private let size: Int
  private let edge: Int
  private let guardNumber: Int

  /// Bytes of a page of this kernel.
  public static var pageSize: UInt64 { cd_page_size() }

  /// Reserves the addresses; nothing can be read before ``map(_:isWritable:descriptor:offset:)``.
  public init(_ geometry: LinkGeometry) throws(SystemError) {
    let edge = Int(Self.pageSize)
    let size = geometry.totalSize + 2 * edge
    var error: Int32 = 0
    guard let reservation = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    self.geometry = geometry
    self.size = size
    self.edge = edge
    unsafe self.reservation = reservation
    guardNumber = unsafe cl_guard_add(reservation + edge, size - 2 * edge)
  }

  @inline(never)
  deinit {
    if guardNumber >= 0 { cl_guard_remove(guardNumber) }
    // SAFETY: nothing uses the region after its platform.
    unsafe cl_unmap(reservation, size)
  }

  /// Maps a part of the shared memory, which is our own range, over what was there.
  ///
  /// - Parameters:
  ///   - isWritable: otherwise a store faults.
  ///   - offset: where the part begins in `descriptor`; a multiple of the page size.
  @inline(never)
  public mutating func map(
    _ part: Range<Int>, isWritable: Bool, descriptor: Int32, offset: UInt64
  ) throws(SystemError) {
    precondition(part.lowerBound >= 0 && part.upperBound <= geometry.totalSize)
    guard !part.isEmpty else { return }
    // SAFETY: the part lies inside the reservation.
    let result = unsafe cd_map_at(
      reservation + edge + part.lowerBound, part.count, isWritable ? 1 : 0, descriptor, offset)
    _ = try SystemError.check(result)
  }

  /// The memory; valid as long as this value.
  public func region(isUnalignedSafe: Bool) -> SharedRegion {
    // SAFETY: the reservation spans both edges and every section.
    unsafe SharedRegion(
      unsafeBase: reservation + edge, count: geometry.totalSize, isUnalignedSafe: isUnalignedSafe)
  }

  /// Whether an access found that the device is no longer there.
  public var hasVanished: Bool { guardNumber >= 0 && cl_guard_faults(guardNumber) != 0 }
}

/// A mapped register page. It is reached by the accessors of `RegisterRegion` alone.
@safe
public struct RegisterMapping: ~Copyable {
  /// The registers; valid as long as this value.
  public let registers: DeviceRegisters
  private let base: UnsafeMutableRawPointer
  private let size: Int
  private let guardNumber: Int

  /// Maps a page of registers.
  ///
  /// - Parameter offset: where it begins in `descriptor`; a multiple of the page size.
  @inline(never)
  public init(descriptor: Int32, offset: UInt64) throws(SystemError) {
    let size = Int(SectionMapping.pageSize)
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    let result = unsafe cd_map_at(base, size, 1, descriptor, offset)
    guard result >= 0 else {
      unsafe cl_unmap(base, size)
      throw SystemError(Int32(truncatingIfNeeded: -result))
    }
    unsafe self.base = base
    self.size = size
    // SAFETY: a page was mapped.
    registers = unsafe DeviceRegisters(page: RegisterRegion(unsafeBase: base, count: size))
    guardNumber = unsafe cl_guard_add(base, size)
  }

  @inline(never)
  deinit {
    if guardNumber >= 0 { cl_guard_remove(guardNumber) }
    unsafe cl_unmap(base, size)
  }
}
