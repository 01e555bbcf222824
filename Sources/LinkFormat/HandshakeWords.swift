/// A start of one side: 24 bits, globally fresh at each start, never 0.
public struct Epoch: Equatable, Sendable {
  /// The 24-bit number.
  public let rawValue: UInt32

  /// Takes the low 24 bits of a random number; `nil` for 0, which means "no epoch".
  public init?(truncating random: UInt64) {
    let bits = UInt32(truncatingIfNeeded: random) & 0xff_ffff
    guard bits != 0 else { return nil }
    rawValue = bits
  }
}

/// {own epoch, echo of the peer's}, in one word because two could be torn (docs/protocol.md,
/// "Start").
public struct Hello: Equatable, Sendable {
  /// Bits 47:24 own epoch, 23:0 echo, the rest 0.
  public let rawValue: UInt64

  /// Wraps a word as loaded.
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The word a side stores: its epoch and the epoch of the peer it has seen, if any.
  public init(own: Epoch, echo: Epoch?) {
    rawValue = UInt64(own.rawValue) << 24 | UInt64(echo?.rawValue ?? 0)
  }

  /// The epoch of the side that stored the word; `nil` when it has none.
  public var own: Epoch? { Epoch(truncating: rawValue >> 24) }
  /// The epoch the side has seen of its peer; `nil` when none.
  public var echo: Epoch? { Epoch(truncating: rawValue) }
}

/// {driver epoch, device epoch, sequence}: names a transaction for good.
public struct TransactionWord: Equatable, Sendable {
  /// Bits 63:40 driver epoch, 39:16 device epoch, 15:0 sequence; 0 means "none".
  public let rawValue: UInt64

  /// Wraps a word as loaded.
  @inlinable
  public init(rawValue: UInt64) { self.rawValue = rawValue }

  /// The word of transaction `sequence` (1 ... 65535) of one pairing.
  public init(driver: Epoch, device: Epoch, sequence: UInt16) {
    rawValue = UInt64(driver.rawValue) << 40 | UInt64(device.rawValue) << 16 | UInt64(sequence)
  }

  /// No transaction.
  public static let none = TransactionWord(rawValue: 0)

  /// Whether the word belongs to this pairing and names a transaction.
  public func belongs(toDriver driver: Epoch, device: Epoch) -> Bool {
    rawValue >> 16 == UInt64(driver.rawValue) << 24 | UInt64(device.rawValue)
      && rawValue & 0xffff != 0
  }
}
