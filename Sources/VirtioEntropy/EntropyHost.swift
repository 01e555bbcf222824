/// Where random bytes come from: the kernel, a hardware generator, a file of a test.
///
/// It never blocks. All calls come from one thread.
public protocol EntropyHost: ~Copyable {
  /// Fills the front of `bytes` and returns how many bytes are random now: all of them, a part,
  /// or 0 when none can be had at present. In that case the host wakes the device's thread later,
  /// through the wake-up it was made with.
  mutating func fill(_ bytes: inout MutableSpan<UInt8>) -> Int
}
