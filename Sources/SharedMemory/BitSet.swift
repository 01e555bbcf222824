/// A set of bits with names: what `OptionSet` is, without the array literals, which need a heap
/// that the core does not have.
public protocol BitSet: Equatable, Sendable {
  /// The integer the bits live in.
  associatedtype RawValue: FixedWidthInteger & Sendable
  /// The bits.
  var rawValue: RawValue { get }
  /// Wraps bits.
  init(rawValue: RawValue)
}

extension BitSet {
  /// No bits.
  @inlinable
  public init() { self.init(rawValue: 0) }
  /// Whether no bit is set.
  @inlinable
  public var isEmpty: Bool { rawValue == 0 }
  /// Whether all bits of `other` are set here.
  @inlinable
  public func contains(_ other: Self) -> Bool { rawValue & other.rawValue == other.rawValue }
  /// Whether all bits set here are set in `other`.
  @inlinable
  public func isSubset(of other: Self) -> Bool { other.contains(self) }
  /// Whether no bit is set in both.
  @inlinable
  public func isDisjoint(with other: Self) -> Bool { rawValue & other.rawValue == 0 }
  /// The bits set in either.
  @inlinable
  public func union(_ other: Self) -> Self { Self(rawValue: rawValue | other.rawValue) }
  /// The bits set in both.
  @inlinable
  public func intersection(_ other: Self) -> Self { Self(rawValue: rawValue & other.rawValue) }
  /// The bits set here and not in `other`.
  @inlinable
  public func subtracting(_ other: Self) -> Self { Self(rawValue: rawValue & ~other.rawValue) }
  /// Sets the bits of `other`.
  @inlinable
  public mutating func insert(_ other: Self) { self = union(other) }
  /// The bits set in either.
  @inlinable
  public static func | (left: Self, right: Self) -> Self { left.union(right) }
}
