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

/// The private memory of one link, given back together when the link is gone.
@safe
public final class PrivateBlocks {
  private var blocks: [UnsafeMutableRawPointer]

  /// Nothing yet.
  public init() { unsafe blocks = [] }

  /// An arena of `count` bytes; everything made of it has to be gone before these blocks are.
  public func arena(_ count: Int) -> PrivateArena {
    let base = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
    unsafe blocks.append(base)
    // SAFETY: fresh and aligned; the owner of the link keeps this object until the link is gone.
    return unsafe PrivateArena(unsafeBase: base, count: count)
  }

  deinit { unsafe blocks.forEach { unsafe $0.deallocate() } }
}
