import ToolSupport

/// Writes a range so that all of it is on the disk at the end, whatever the back-end's machine does
/// meanwhile.
///
/// A write that was acknowledged may still be lost until a flush has succeeded; the flush of a
/// back-end that came back says nothing of writes that died with the one before. So a window is
/// written, flushed, and written again when the back-end was gone at any time since its start.
struct FlushedRange {
  /// Bytes between two flushes.
  static var window: UInt64 { 64 << 20 }
  /// Times one window is written before that is given up.
  static var attempts: Int { 100 }

  /// What is to be written.
  let range: Range<UInt64>
  /// Bytes that were written again.
  private(set) var rewritten: UInt64 = 0

  /// States the range.
  init(_ range: Range<UInt64>) { self.range = range }

  /// Writes all of the range, or throws what `write` and `flush` throw.
  ///
  /// - Parameters:
  ///   - window: bytes between two flushes.
  ///   - losses: how often a back-end has gone away so far.
  ///   - write: writes a part, again when it is asked to: the same bytes to the same place.
  ///   - flush: makes everything that was written to the present back-end stable.
  mutating func write<Disk: ~Copyable>(
    to disk: inout Disk, window: UInt64 = Self.window, losses: (borrowing Disk) -> Int,
    write: (inout Disk, Range<UInt64>) throws(ClientError) -> Void,
    flush: (inout Disk) throws(ClientError) -> Void
  ) throws(ClientError) {
    var start = range.lowerBound
    repeat {
      let part = start..<min(range.upperBound, start + window)
      var isSafe = false
      for attempt in 0..<Self.attempts where !isSafe {
        let before = losses(disk)
        if attempt > 0 { rewritten += part.upperBound - part.lowerBound }
        try write(&disk, part)
        try flush(&disk)
        isSafe = losses(disk) == before
      }
      guard isSafe else {
        throw .failed(
          "the back-end went away \(Self.attempts) times before bytes \(part.lowerBound) to"
            + " \(part.upperBound) were safe; see its log")
      }
      start = part.upperBound
    } while start < range.upperBound
  }
}
