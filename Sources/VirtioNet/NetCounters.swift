/// What is counted about a network device since it was made; never reset.
public struct NetCounters: Equatable, Sendable {
  /// Frames the driver got, and their bytes without the header.
  public var framesToDriver: UInt64 = 0
  /// Bytes of those.
  public var bytesToDriver: UInt64 = 0
  /// Frames of the driver that the host took.
  public var framesFromDriver: UInt64 = 0
  /// Bytes of those.
  public var bytesFromDriver: UInt64 = 0
  /// Frames of the driver that the host dropped.
  public var droppedByHost: UInt64 = 0
  /// Frames of the driver that are shorter than their headers.
  public var undersized: UInt64 = 0
  /// Frames of the driver that are too long.
  public var oversized: UInt64 = 0
  /// Frames of the driver whose offload header is wrong.
  public var badHeaders: UInt64 = 0
  /// Times the host had no room for a frame.
  public var blockedFrames: UInt64 = 0
  /// Frames of either side that waited for the other when the device was reset.
  public var lostInReset: UInt64 = 0
  /// Frames for the driver that its receive modes do not take.
  public var filtered: UInt64 = 0
  /// Frames for the driver that are longer than the MTU it was told.
  public var beyondMTU: UInt64 = 0
  /// Frames for the driver that its buffers could not hold.
  public var noRoom: UInt64 = 0
  /// Buffers of the driver without room for a header.
  public var shortBuffers: UInt64 = 0
  /// Checksums the device finished because the driver does not.
  public var checksumsFinished: UInt64 = 0
  /// Segments the device cut because the driver takes no large frames.
  public var segmentsCut: UInt64 = 0
  /// Commands of the driver.
  public var commands: UInt64 = 0
  /// Of those, what was refused.
  public var badCommands: UInt64 = 0

  /// All zero.
  public init() {}
}
