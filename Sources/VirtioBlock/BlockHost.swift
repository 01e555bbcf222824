public import SharedMemory
public import Virtqueue

/// The medium behind a block device: a file, a block device, memory.
///
/// It never blocks in these calls: what cannot be done at once becomes pending. It copies the
/// segments it needs later. All calls come from one thread.
public protocol BlockHost: ~Copyable {
  /// Length of the medium in bytes, a multiple of 512; may change.
  var byteCount: UInt64 { get }
  /// Bytes of a logical block, a power of two from 512; constant.
  var blockSize: UInt32 { get }
  /// Whether writes are refused; constant.
  var isReadOnly: Bool { get }
  /// Whether discard and write zeroes are worth offering; constant.
  var canDiscard: Bool { get }
  /// The grain of the medium; constant.
  var limits: BlockLimits { get }
  /// Byte `index` (0 ..< 20) of the device's name; 0 behind its end.
  func identifierByte(at index: Int) -> UInt8

  /// Starts a request. `slot` names it and is not in use. Read data goes to, and write data comes
  /// from, the chain's data segments (`data` bytes `skip` into its readable or writable part).
  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission

  /// The next finished pending request, or `nil`.
  mutating func nextCompletion() -> BlockHostCompletion?

  /// The driver is gone or has reset the device: what has not begun may end at once with an I/O
  /// error. Every pending request still comes out of ``nextCompletion()``, and after it has the
  /// host no longer touches the region for it.
  mutating func cancel()
}

extension BlockHost where Self: ~Copyable {
  /// A medium that does not care.
  public var limits: BlockLimits { BlockLimits() }

  /// Nothing is cut short.
  public mutating func cancel() {}
}
