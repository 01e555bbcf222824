import CLinux
import LinuxSupport
import SharedMemory

/// Memory with a descriptor, so that it can outlive this process.
@safe
final class KeptMemory: @unchecked Sendable {
  /// The memory.
  let region: SharedRegion
  /// Whether an earlier process has made it.
  let isOld: Bool
  private let descriptor: Descriptor
  private let base: UnsafeMutableRawPointer
  private let count: Int

  /// Makes memory of at least `count` bytes, zeroed.
  convenience init(_ count: Int) throws(SystemError) {
    let descriptor = try Descriptor(unsafe cl_memfd("cellmate-book"))
    _ = try SystemError.check(cl_truncate(descriptor.number, Int64(Self.whole(count))))
    _ = try SystemError.check(cl_seal_size(descriptor.number))
    try self.init(descriptor, count, isOld: false)
  }

  /// Takes memory over that an earlier process has made; its size is checked.
  convenience init(adopting descriptor: consuming Descriptor, _ count: Int) throws(SystemError) {
    var facts = cl_file_facts()
    _ = try SystemError.check(unsafe cl_file_facts_of(descriptor.number, &facts))
    // EINVAL: not what was kept.
    guard facts.size >= UInt64(Self.whole(count)) else { throw SystemError(22) }
    try self.init(descriptor, count, isOld: true)
  }

  private init(
    _ descriptor: consuming Descriptor, _ count: Int, isOld: Bool
  ) throws(SystemError) {
    let size = Self.whole(count)
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    let result = unsafe cl_map_at(base, size, 1, descriptor.number)
    if result < 0 { unsafe cl_unmap(base, size) }
    _ = try SystemError.check(result)
    unsafe self.base = base
    self.count = size
    self.isOld = isOld
    self.descriptor = descriptor
    region = unsafe SharedRegion(unsafeBase: base, count: size)
  }

  deinit { unsafe cl_unmap(base, count) }

  /// The descriptor, for whoever keeps it.
  var number: Int32 { descriptor.number }

  private static func whole(_ count: Int) -> Int { (count + 4095) & ~4095 }
}
