public import SharedMemory

/// A private copy of one descriptor (VIRTIO 1.4, 2.7.5): a claim of the driver.
@usableFromInline
struct RingDescriptor {
  @usableFromInline let address: UInt64
  /// Length, flags and next, as they stand behind the address.
  @usableFromInline let rest: UInt64

  @inlinable @inline(__always)
  init(address: UInt64, rest: UInt64) {
    self.address = address
    self.rest = rest
  }

  /// Reads the descriptor once, as two 64-bit words: the table is aligned to 16 bytes.
  @inlinable @inline(__always)
  init(_ table: SharedTable<16>, _ index: UInt16) {
    address = table.load64(Int(index), field: 0)
    rest = table.load64(Int(index), field: 8)
  }

  @inlinable var count: UInt32 {
    @inline(__always) get { UInt32(truncatingIfNeeded: rest) }
  }
  @inlinable var flags: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: rest &>> 32) }
  }
  @inlinable var next: UInt16 {
    @inline(__always) get { UInt16(truncatingIfNeeded: rest &>> 48) }
  }
  @inlinable var hasNext: Bool {
    @inline(__always) get { flags & Flag.next != 0 }
  }
  @inlinable var claim: ClaimedRange {
    @inline(__always) get { ClaimedRange(address: address, count: count) }
  }

  @inlinable @inline(__always)
  func outside(writable: Bool) -> QueueError {
    .bufferOutside(address: address, count: count, writable: writable)
  }
}

/// What was found of a chain so far; in registers while the chain is walked.
@usableFromInline
struct OpenChain {
  /// Segments and bytes so far, readable and writable ones together.
  @usableFromInline var count = 0
  @usableFromInline var bytes: UInt64 = 0
  /// The readable part of them, once it has ended.
  @usableFromInline var readables = 0
  @usableFromInline var readableBytes: UInt64 = 0

  @inlinable @inline(__always)
  init() {}

  @inlinable @inline(__always)
  mutating func add(_ byteCount: UInt32) {
    count &+= 1
    // At most 2^16 descriptors of less than 2^32 bytes: the sum cannot wrap.
    bytes &+= UInt64(byteCount)
  }

  @inlinable @inline(__always)
  mutating func endReadable() {
    readables = count
    readableBytes = bytes
  }

  @inlinable var hasWritable: Bool { count != readables }
}
