/// An Ethernet address.
public struct MACAddress: Equatable, Hashable, Sendable, BitwiseCopyable {
  /// The six bytes, the first one on the wire in the lowest eight bits.
  public let rawValue: UInt64

  /// Takes the lower 48 bits.
  public init(rawValue: UInt64) { self.rawValue = rawValue & 0xffff_ffff_ffff }

  /// The six bytes at `start` of `bytes`, which have to be there.
  public init(_ bytes: Span<UInt8>, at start: Int) {
    var value: UInt64 = 0
    for index in (0..<6).reversed() { value = value << 8 | UInt64(bytes[start + index]) }
    rawValue = value
  }

  /// No address: what a table is initialised with.
  public static var none: MACAddress { MACAddress(rawValue: 0) }
  /// All stations.
  public static var broadcast: MACAddress { MACAddress(rawValue: 0xffff_ffff_ffff) }

  /// Whether more than one station is meant; true of ``broadcast`` too.
  public var isMulticast: Bool { rawValue & 1 != 0 }

  /// Whether a station may have this address.
  public var isStation: Bool { !isMulticast && rawValue != 0 }

  /// Byte `index` (0 ..< 6), as on the wire.
  public func byte(at index: Int) -> UInt8 {
    UInt8(truncatingIfNeeded: rawValue >> UInt64(8 * index))
  }
}
