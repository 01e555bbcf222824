import CLinux
import LinuxSupport
import SharedMemory

/// Memory that a descriptor stands for: a sealed memfd, or a file that virtual machines map by its
/// name. The server keeps it mapped.
@safe
final class SectionBacking {
  let descriptor: Descriptor
  let base: UnsafeMutableRawPointer
  let size: Int
  private let path: String?
  private var guardNumber = -1

  /// Makes `size` bytes, zeroed.
  init(name: String, size: Int) throws(SystemError) {
    descriptor = try Descriptor(unsafe cl_memfd("cellmate-" + name))
    path = nil
    _ = try SystemError.check(cl_truncate(descriptor.number, Int64(size)))
    // Nobody but root opens the file again for writing by its number.
    _ = try SystemError.check(cl_chmod(descriptor.number, 0o400))
    unsafe base = try Self.map(descriptor.number, size)
    self.size = size
  }

  /// Makes a file of `size` bytes, zeroed; it must not be there yet, and goes away with this.
  init(path: String, size: Int) throws(SystemError) {
    let flags: Int32 = 0o302  // O_RDWR | O_CREAT | O_EXCL
    descriptor = try Descriptor(unsafe cl_open(path, flags, 0o600))
    self.path = path
    do throws(SystemError) {
      _ = try SystemError.check(cl_truncate(descriptor.number, Int64(size)))
      unsafe base = try Self.map(descriptor.number, size)
    } catch {
      _ = unsafe cl_unlink(path)
      throw error
    }
    self.size = size
    // Who may write a file may truncate it: its pages become zeroes here, and nothing worse.
    guardNumber = unsafe cl_guard_add(base, size)
  }

  private static func map(_ number: Int32, _ size: Int) throws(SystemError)
    -> UnsafeMutableRawPointer
  {
    var error: Int32 = 0
    guard let base = unsafe cl_reserve(size, &error) else { throw SystemError(error) }
    _ = try SystemError.check(unsafe cl_map_at(base, size, 1, number))
    return unsafe base
  }

  deinit {
    if guardNumber >= 0 { cl_guard_remove(guardNumber) }
    unsafe cl_unmap(base, size)
    if let path { _ = unsafe cl_unlink(path) }
  }
}

/// One section of simulated shared memory: a memfd of its own, or a part of the one that a virtual
/// machine maps whole.
@safe
final class Section {
  private let backing: SectionBacking
  private let base: UnsafeMutableRawPointer
  private let size: Int

  /// Makes a section of `size` bytes, zeroed, with a descriptor of its own.
  init(name: String, size: Int) throws(SystemError) {
    backing = try SectionBacking(name: name, size: size)
    unsafe base = backing.base
    self.size = size
  }

  /// A part of `backing`, whose descriptor it shares.
  init(part: Range<Int>, of backing: SectionBacking) {
    precondition(part.lowerBound >= 0 && part.upperBound <= backing.size)
    self.backing = backing
    unsafe base = backing.base + part.lowerBound
    size = part.count
  }

  deinit { withExtendedLifetime(backing) {} }

  /// The descriptor that may be mapped for writing.
  var number: Int32 { backing.descriptor.number }

  /// Fixes the size; with `forbidsWriters` nobody maps the section for writing any more.
  func seal(forbidsWriters: Bool) throws(SystemError) {
    _ = try SystemError.check(
      forbidsWriters ? cl_seal_size_and_writers(number) : cl_seal_size(number))
  }

  /// A new descriptor that can only be read; negative when the system refuses.
  func openReadOnly() -> Int32 {
    Int32(truncatingIfNeeded: unsafe cl_open("/proc/self/fd/\(number)", 0, 0))
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
