public import IVShmem
import SharedMemory

/// How an acknowledged transaction ended.
public struct TransactionAnswer: Equatable, Sendable {
  /// 0, or the refusal (`RegisterRefusal`).
  public let result: UInt32
  /// The value read; 0 after a write.
  public let value: UInt64
}

/// The front-end's end of the transaction slots (docs/protocol.md, "Transactions").
///
/// One request a slot may be open; whether it is answered is looked up, never waited for, so that
/// one hung device does not block another one's slot.
public struct DriverTransactions: Sendable {
  private var openWords: InlineArray<8, UInt64> = InlineArray(repeating: 0)
  private var sequences: InlineArray<8, UInt16> = InlineArray(repeating: 0)

  /// Nothing is open.
  public init() {}

  /// A new pairing, or none: what was open will never be answered.
  public mutating func begin() {
    openWords = InlineArray(repeating: 0)
    sequences = InlineArray(repeating: 0)
  }

  /// Whether `slot` waits for an acknowledgement; its device's buffers are in quarantine then.
  public func isOpen(slot: Int) -> Bool { openWords[slot] != 0 }

  /// Publishes a request. The link must be up and the slot not open.
  public mutating func request<P: Platform & ~Copyable>(
    _ operation: TransactionOperation, slot: Int, offset: Int, width: UInt8, value: UInt64,
    on link: inout NativeLink<P>
  ) {
    precondition(link.isUp && openWords[slot] == 0, "one request at a time, on a link that is up")
    guard let device = link.peerEpoch else { preconditionFailure("a link that is up has a peer") }
    sequences[slot] = sequences[slot] == .max ? 1 : sequences[slot] + 1
    let word = TransactionWord(
      driver: link.epoch, device: device, sequence: sequences[slot])
    let base = link.plan.ownBlock + BlockLayout.driverSlot(slot)
    link.region.store32(
      UInt32(operation.rawValue) | UInt32(width) << 8,
      at: base + BlockLayout.DriverSlot.operation.rawValue)
    link.region.store32(
      UInt32(truncatingIfNeeded: offset), at: base + BlockLayout.DriverSlot.offset.rawValue)
    link.region.store64(value, at: base + BlockLayout.DriverSlot.value.rawValue)
    // Pairs with the back-end's acquiring load of the request word.
    link.region.store64Releasing(
      word.rawValue, at: base + BlockLayout.DriverSlot.request.rawValue)
    openWords[slot] = word.rawValue
    link.wakePeer()
  }

  /// The answer to the open request of `slot`, or `nil` while there is none.
  public mutating func answer<P: Platform & ~Copyable>(
    slot: Int, on link: inout NativeLink<P>
  ) -> TransactionAnswer? {
    guard openWords[slot] != 0, link.isUp else { return nil }
    let base = link.plan.peerBlock + BlockLayout.deviceSlot(slot)
    // Pairs with the back-end's release store of the acknowledgement word.
    let word = link.region.load64Acquiring(
      base + BlockLayout.DeviceSlot.acknowledgement.rawValue)
    guard word == openWords[slot] else { return nil }
    openWords[slot] = 0
    return TransactionAnswer(
      result: link.region.load32(base + BlockLayout.DeviceSlot.result.rawValue),
      value: link.region.load64(base + BlockLayout.DeviceSlot.value.rawValue))
  }
}
