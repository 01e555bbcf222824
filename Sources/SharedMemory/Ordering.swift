public import CVolatile

/// The orderings that are not part of a load or store.
///
/// A fence is written only beside a sentence that names its partner on the other side. The models
/// in `Models/` hold one deletion case for each of them.
public enum Ordering {
  /// Everything before is visible to all peers before anything after is performed; the only
  /// ordering that keeps a later load behind an earlier store.
  @inlinable @inline(__always)
  public static func fullFence() { cv_fence_full() }

  /// Earlier loads are performed before later loads and stores.
  @inlinable @inline(__always)
  public static func acquireFence() { cv_fence_acquire() }

  /// Earlier loads and stores are performed before later stores.
  @inlinable @inline(__always)
  public static func releaseFence() { cv_fence_release() }

  /// Tells the processor that the caller spins.
  @inlinable @inline(__always)
  public static func spinHint() { cv_relax() }
}
