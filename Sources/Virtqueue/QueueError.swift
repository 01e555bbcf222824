/// What the other side did wrong on a queue: what was seen and what was allowed.
///
/// The first error poisons the queue; only a reset, a new queue, mends it.
public enum QueueError: Error, Equatable, Sendable {
  /// An earlier error stopped this queue.
  case poisoned
  /// A ring does not lie where this side may read (`writable` false) or write, or is misaligned.
  case ringOutside(address: UInt64, writable: Bool)
  /// The private memory for this queue is too small (our own set-up).
  case noPrivateMemory
  /// The available index ran ahead of the ring.
  case tooManyAvailable(pending: UInt16, size: UInt16)
  /// A chain starts outside the descriptor table.
  case headOutOfRange(UInt16, size: UInt16)
  /// A chain was made available while the device still has it.
  case headInFlight(UInt16)
  /// A descriptor continues outside its table.
  case nextOutOfRange(UInt16, size: UInt16)
  /// A chain is longer than allowed, or loops.
  case chainTooLong(limit: Int)
  /// A readable descriptor follows a writable one (VIRTIO 1.4, 2.7.4.2).
  case readableAfterWritable
  /// A buffer does not lie where the device may read or write it.
  case bufferOutside(address: UInt64, count: UInt32, writable: Bool)
  /// A chain without descriptors of any length, or of 2^32 bytes and more.
  case chainByteCount(UInt64)
  /// An indirect table that was not agreed, is nested, has NEXT set or a length that is no
  /// positive multiple of 16.
  case badIndirect(length: UInt32, flags: UInt16)
  /// Driver side: the used index ran ahead of what is in flight.
  case tooManyUsed(pending: UInt16, inFlight: UInt16)
  /// Driver side: the device returned what it was not given.
  case usedUnknown(UInt32)
  /// Driver side: the device claims more bytes than it was given.
  case writtenTooMuch(UInt32, limit: UInt32)

  /// A stable number for reason words and logs.
  public var reason: UInt32 {
    switch self {
    case .poisoned: 1
    case .ringOutside: 2
    case .noPrivateMemory: 3
    case .tooManyAvailable: 4
    case .headOutOfRange: 5
    case .headInFlight: 6
    case .nextOutOfRange: 7
    case .chainTooLong: 8
    case .readableAfterWritable: 9
    case .bufferOutside: 10
    case .chainByteCount: 11
    case .badIndirect: 12
    case .tooManyUsed: 13
    case .usedUnknown: 14
    case .writtenTooMuch: 15
    }
  }
}
