/// How a file or block device is used as a medium.
public struct FileBlockOptions: Sendable {
  /// Whether requests go past the page cache (O_DIRECT).
  public enum DirectIO: Equatable, Sendable {
    /// Through the page cache.
    case off
    /// Past it wherever alignment allows; opening fails where the file system cannot do it.
    case on
    /// Past it for block devices that can do it, through it for files.
    case automatic
  }

  /// When a write counts as done.
  public enum Cache: Equatable, Sendable {
    /// When the driver's cache mode says so.
    case writeback
    /// Always only when it is stable, whatever the driver chose.
    case writethrough
  }

  /// What the kernel can do with the link's memory; what the platform says of itself.
  public enum RegionMemory: Equatable, Sendable {
    /// Ordinary pages: direct I/O may go straight to and from them.
    case pinnable
    /// A device map (UIO, VFIO): direct I/O fails with EFAULT there and goes through a private
    /// buffer instead.
    case unpinnable
  }

  /// Whether writes are refused and the file is opened for reading alone.
  public var isReadOnly = false
  /// Whether requests go past the page cache.
  public var direct = DirectIO.off
  /// When a write counts as done.
  public var cache = Cache.writeback
  /// What the kernel can do with the link's memory.
  public var memory = RegionMemory.unpinnable
  /// The name the device gives, at most 20 bytes; the file's own name when `nil`.
  public var identifier: String?
  /// Requests the device may have in flight, from 1.
  public var slots = 256
  /// The most data segments of a request.
  public var segmentLimit = 128
  /// Threads for what cannot be answered at once, 1 ... 64.
  public var workers = 4
  /// An eventfd that is signalled when a pending request has finished; -1 for none.
  public var wakeDescriptor: Int32 = -1

  /// A writable file through the page cache.
  public init() {}
}
