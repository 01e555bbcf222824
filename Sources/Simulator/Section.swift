import CLinux
import LinuxSupport
import SharedMemory

/// One section of simulated shared memory: a sealed memfd that the server keeps mapped.
@safe
final class Section {
  private let descriptor: Descriptor
  private let base: UnsafeMutableRawPointer
  private let size: Int

  /// Makes a section of `size` bytes, zeroed.
  init(name: String, size: Int) throws(SystemError) {
    descriptor = try Descriptor(unsafe cl_memfd("cellmate-" + name))
    _ = try SystemError.check(cl_truncate(descriptor.number, Int64(size)))
    // Nobody but root opens the file again for writing by its number.
    _ = try SystemError.check(cl_chmod(descriptor.number, 0o400))
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    _ = try SystemError.check(unsafe cl_map_at(base, size, 1, descriptor.number))
    unsafe self.base = base
    self.size = size
  }

  deinit { unsafe cl_unmap(base, size) }

  /// The descriptor that may be mapped for writing.
  var number: Int32 { descriptor.number }

  /// Fixes the size; with `forbidsWriters` nobody maps the section for writing any more.
  func seal(forbidsWriters: Bool) throws(SystemError) {
    let number = descriptor.number
    _ = try SystemError.check(
      forbidsWriters ? cl_seal_size_and_writers(number) : cl_seal_size(number))
  }

  /// A new descriptor that can only be read; negative when the system refuses.
  func openReadOnly() -> Int32 {
    Int32(truncatingIfNeeded: unsafe cl_open("/proc/self/fd/\(descriptor.number)", 0, 0))
  }

  private func word(_ offset: Int) -> UnsafeMutableRawPointer {
    precondition(offset >= 0 && offset <= size - 8)
    return unsafe base + offset
  }

  func load32(at offset: Int) -> UInt32 { unsafe cl_word_load(word(offset)) }
  func store32(_ value: UInt32, at offset: Int) { _ = exchange32(value, at: offset) }
  func exchange32(_ value: UInt32, at offset: Int) -> UInt32 {
    unsafe cl_word_exchange(word(offset), value)
  }
  func count(at offset: Int) { _ = unsafe cl_count(word(offset)) }
  func count(at offset: Int, read: Bool) -> UInt64 { unsafe cl_count_load(word(offset)) }

  /// Fills the section, or its first `limit` bytes, with pseudo-random words.
  func scramble(_ state: inout UInt64, limit: Int = .max) {
    for offset in stride(from: 0, to: min(size, limit) - 7, by: 8) {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      unsafe (base + offset).storeBytes(of: state ^ state >> 29, as: UInt64.self)
    }
  }
}
