public import SharedMemory

/// The one block of private memory a link's books come from; allocated before activation.
public enum PrivateMemory {
  /// An arena of `count` bytes that is never given back: for what lives as long as its process.
  public static func arena(_ count: Int) -> PrivateArena {
    let base = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    // SAFETY: fresh, aligned, and never deallocated.
    return unsafe PrivateArena(unsafeBase: base, count: count)
  }
}
