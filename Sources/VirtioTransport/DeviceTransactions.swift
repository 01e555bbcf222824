public import IVShmem
import SharedMemory

/// One register access the front-end asks for: read once, checked, private.
public struct Transaction: Sendable {
  /// Names it; goes into the acknowledgement.
  public let word: TransactionWord
  /// Read or write; `nil` when the peer stored something else.
  public let operation: TransactionOperation?
  /// virtio-mmio offset.
  public let offset: UInt32
  /// Bytes: 1, 2, 4 or 8 when the access is well formed.
  public let width: UInt8
  /// The value to write.
  public let value: UInt64
}

/// The device's end of the transaction slots (docs/protocol.md, "Transactions").
///
/// One value serves all slots of a link; it holds the last request word of each, nothing else.
public struct DeviceTransactions: Sendable {
  private var lastWords: InlineArray<8, UInt64> = InlineArray(repeating: 0)

  /// No transaction was seen yet.
  public init() {}

  /// A new pairing: no request of an earlier one is to be answered.
  public mutating func begin() { lastWords = InlineArray(repeating: 0) }

  /// The request that waits in `slot`, or `nil`. A word of another pairing is not executed.
  ///
  /// After this the transaction has to be acknowledged before the next one is looked for.
  public mutating func next<P: Platform & ~Copyable>(
    slot: Int, on link: inout NativeLink<P>
  ) -> Transaction? {
    guard link.isUp, let driver = link.peerEpoch else { return nil }
    let base = link.plan.peerBlock + BlockLayout.driverSlot(slot)
    // Pairs with the front-end's release store of the request word: the fields below are whole.
    let word = TransactionWord(
      rawValue: link.region.load64Acquiring(base + BlockLayout.DriverSlot.request.rawValue))
    guard word.rawValue != lastWords[slot] else { return nil }
    lastWords[slot] = word.rawValue
    guard word.rawValue != 0 else { return nil }
    guard word.belongs(toDriver: driver, device: link.epoch) else {
      link.report(.foreignRequest)
      return nil
    }
    let operation = link.region.load32(base + BlockLayout.DriverSlot.operation.rawValue)
    return Transaction(
      word: word,
      operation: TransactionOperation(rawValue: UInt8(truncatingIfNeeded: operation)),
      offset: link.region.load32(base + BlockLayout.DriverSlot.offset.rawValue),
      width: UInt8(truncatingIfNeeded: operation >> 8),
      value: link.region.load64(base + BlockLayout.DriverSlot.value.rawValue))
  }

  /// Answers a transaction: result and value, then the word, then the doorbell if needed.
  @inline(never)
  public func acknowledge<P: Platform & ~Copyable>(
    _ word: TransactionWord, slot: Int, result: UInt32, value: UInt64,
    on link: inout NativeLink<P>
  ) {
    let base = link.plan.ownBlock + BlockLayout.deviceSlot(slot)
    link.region.store32(result, at: base + BlockLayout.DeviceSlot.result.rawValue)
    link.region.store64(value, at: base + BlockLayout.DeviceSlot.value.rawValue)
    // Pairs with the front-end's acquiring load of the acknowledgement word.
    link.region.store64Releasing(
      word.rawValue, at: base + BlockLayout.DeviceSlot.acknowledgement.rawValue)
    link.wakePeer()
  }
}
