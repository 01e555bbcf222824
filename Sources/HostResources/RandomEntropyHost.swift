import CHostConsole
public import LinuxSupport
public import VirtioEntropy

/// The kernel's random number generator (getrandom) behind an entropy device.
public struct RandomEntropyHost: EntropyHost, ~Copyable {
  /// Waits until the kernel's generator is seeded, which it is except in the first moments after
  /// boot; from then on it never blocks.
  ///
  /// - Throws: that the kernel has no such call.
  public init() throws(SystemError) {
    var byte: UInt8 = 0
    _ = try SystemError.check(unsafe chc_random(&byte, 1))
  }

  /// Fills all of `bytes`.
  public mutating func fill(_ bytes: inout MutableSpan<UInt8>) -> Int {
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_random(base, buffer.count)
    }
    return max(got, 0)
  }
}
