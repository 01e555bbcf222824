public import Virtqueue

extension QueueError: CustomStringConvertible {
  /// What the other side did, for the end of a sentence (VIRTIO 1.4, 2.7).
  public var description: String {
    switch self {
    case .poisoned: "the ring was broken before"
    case .ringOutside(let address, let isWritable):
      "a ring at \(address) lies outside its memory" + (isWritable ? " for writing" : "")
    case .noPrivateMemory: "no private memory for the ring"
    case .tooManyAvailable(let pending, let size):
      "\(pending) new entries in an available ring of \(size)"
    case .headOutOfRange(let index, let size), .nextOutOfRange(let index, let size):
      "descriptor \(index) of \(size)"
    case .headInFlight(let index): "descriptor \(index) is in use already"
    case .chainTooLong(let limit): "a chain of more than \(limit) descriptors"
    case .readableAfterWritable: "a readable buffer behind a writable one"
    case .bufferOutside(let address, let count, _):
      "a buffer of \(count) bytes at \(address) lies outside its memory"
    case .chainByteCount(let count): "a chain of \(count) bytes"
    case .badIndirect(let length, let flags):
      "an indirect table of \(length) bytes, flags \(flags)"
    case .tooManyUsed(let pending, let inFlight):
      "\(pending) used entries, \(inFlight) are in flight"
    case .usedUnknown(let index): "used entry \(index) was not in flight"
    case .writtenTooMuch(let count, let limit): "\(count) bytes written of at most \(limit)"
    }
  }
}
