/// What is counted about a block device since it was made; never reset.
///
/// Requests and bytes are counted when they are handed to the host, errors when they are reported.
public struct BlockCounters: Equatable, Sendable {
  /// Requests that read.
  public var reads: UInt64 = 0
  /// Requests that wrote.
  public var writes: UInt64 = 0
  /// Flushes.
  public var flushes: UInt64 = 0
  /// Discards and write-zeroes requests.
  public var discards: UInt64 = 0
  /// Requests for the device's name.
  public var identifications: UInt64 = 0
  /// Bytes the reads asked for.
  public var bytesRead: UInt64 = 0
  /// Bytes the writes brought.
  public var bytesWritten: UInt64 = 0
  /// Bytes the discards and write-zeroes requests named.
  public var bytesDiscarded: UInt64 = 0
  /// Requests that ended with an I/O error, whatever the reason.
  public var ioErrors: UInt64 = 0
  /// Of those: beyond the medium, no multiple of 512 bytes, or over a stated limit.
  public var outOfRange: UInt64 = 0
  /// Of those: changes of a read-only medium.
  public var readOnlyViolations: UInt64 = 0
  /// Of those: what the host could not do.
  public var hostErrors: UInt64 = 0
  /// Requests of an unknown type, with unknown flags, or of a feature that was not agreed.
  public var unsupported: UInt64 = 0
  /// Chains without room for header or status.
  public var malformed: UInt64 = 0

  /// All zero.
  public init() {}
}
