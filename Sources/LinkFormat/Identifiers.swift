/// The number of a peer on an ivshmem link (ivshmem-v2: register ID; 0 ..< Maximum Peers).
public struct PeerID: Equatable, Hashable, Sendable {
  /// The number as the register shows it.
  public let rawValue: UInt16

  /// Wraps a number; ``LinkGeometry`` decides whether the link has such a peer.
  @inlinable
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }
}

/// The number of an interrupt vector (ivshmem-v2: doorbell bits 15:0). With INTx only vector 0
/// exists, and a doorbell for any other vanishes.
public struct Vector: Equatable, Hashable, Sendable {
  /// The number as it goes into the doorbell register.
  public let rawValue: UInt16

  /// Wraps a number.
  @inlinable
  public init(_ rawValue: UInt16) { self.rawValue = rawValue }

  /// The vector that every kind of interrupt delivery has.
  public static let zero = Vector(0)
}

/// A point on the platform's monotonic clock, in nanoseconds from an arbitrary start.
public struct Instant: Equatable, Comparable, Sendable {
  /// Nanoseconds since the clock's start.
  public let nanoseconds: UInt64

  /// Wraps a clock value.
  @inlinable
  public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// The point `duration` nanoseconds later (saturating).
  public func advanced(byNanoseconds duration: UInt64) -> Instant {
    let (sum, overflow) = nanoseconds.addingReportingOverflow(duration)
    return Instant(nanoseconds: overflow ? .max : sum)
  }

  /// Whether `left` comes before `right`.
  public static func < (left: Instant, right: Instant) -> Bool {
    left.nanoseconds < right.nanoseconds
  }
}
