import CLinux
import LinuxSupport
public import SharedMemory

/// One block of shared memory for rings and buffers, which a back-end may read and write whole. It
/// outlives the connection, so that buffers stay where they are when a back-end is restarted.
@safe
public struct DriverMemory: ~Copyable {
  /// The memory.
  public let region: SharedRegion
  /// The back-end's terms for it.
  public let access: AccessMap
  private let file: Descriptor
  private let base: UnsafeMutableRawPointer

  /// Where the memory lies for the driver, and for this process as the back-end hears it: neither
  /// is an address of anything here, so that mixing them up cannot go unnoticed.
  public static var guestBase: UInt64 { 0x1_0000_0000 }
  /// Where it lies for this process as the back-end hears it; see ``guestBase``.
  public static var userBase: UInt64 { 0x6000_0000_0000 }

  /// Makes `count` bytes, a multiple of a page.
  @inline(never)
  public static func make(
    _ count: Int, arena: inout PrivateArena
  ) throws(VhostUserFrontendError) -> DriverMemory {
    let file = try makeFile(count)
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(count, &error) else { throw .system(SystemError(error)) }
    let mapped = unsafe cl_map_file_at(base, count, file.number, 0)
    guard mapped >= 0 else {
      unsafe cl_unmap(base, count)
      throw .system(SystemError(Int32(truncatingIfNeeded: -mapped)))
    }
    let window = AccessWindow(address: guestBase, count: UInt64(count), offset: 0)
    let region = unsafe SharedRegion(unsafeBase: base, count: count)
    guard let windows = arena.table(of: 1, initial: window),
      let access = AccessMap(region: region, windows: windows)
    else { preconditionFailure("one window fits its own memory") }
    return unsafe DriverMemory(file, base, region, access)
  }

  private static func makeFile(_ count: Int) throws(VhostUserFrontendError) -> Descriptor {
    do throws(SystemError) {
      let file = try Descriptor(unsafe cl_memfd("cellmate-vhost-user"))
      _ = try SystemError.check(cl_truncate(file.number, Int64(count)))
      _ = try SystemError.check(cl_seal_size(file.number))
      return file
    } catch { throw .system(error) }
  }

  private init(
    _ file: consuming Descriptor, _ base: UnsafeMutableRawPointer, _ region: SharedRegion,
    _ access: AccessMap
  ) {
    self.file = file
    unsafe self.base = base
    self.region = region
    self.access = access
  }

  deinit { unsafe cl_unmap(base, region.count) }

  /// The file to hand over.
  public var descriptor: Int32 { file.number }
}
