import CVolatile

#if CELLMATE_WATCH
  import CWatch
#endif

extension SharedRegion {
  /// Copies checked shared bytes into private memory, once; returns how many were copied (the
  /// shorter of the two lengths).
  #if CELLMATE_SMALL
    @inline(never) @discardableResult
  #else
    @discardableResult
  #endif
  public func copy(_ range: ReadableRange, into destination: inout MutableSpan<UInt8>) -> Int {
    let length = min(range.count, destination.count)
    precondition(range.offset >= 0 && range.offset <= count &- length)
    unsafe destination.withUnsafeMutableBufferPointer { bytes in
      guard let to = bytes.baseAddress, length > 0 else { return }
      #if CELLMATE_WATCH
        unsafe cw_access(base + range.offset, length)
      #endif
      // SAFETY: both ends were bounded above; private memory never overlaps the mapping.
      unsafe copyBytes(to: to, from: UnsafeRawPointer(base + range.offset), count: length)
    }
    return length
  }

  /// Copies private bytes into checked shared memory; returns how many were copied (the shorter
  /// of the two lengths).
  #if CELLMATE_SMALL
    @inline(never) @discardableResult
  #else
    @discardableResult
  #endif
  public func copy(_ source: Span<UInt8>, into range: WritableRange) -> Int {
    let length = min(range.count, source.count)
    precondition(range.offset >= 0 && range.offset <= count &- length)
    unsafe source.withUnsafeBufferPointer { bytes in
      guard let from = bytes.baseAddress, length > 0 else { return }
      // SAFETY: both ends were bounded above; private memory never overlaps the mapping.
      unsafe copyBytes(
        to: base + range.offset, from: from, count: stored(base + range.offset, length))
    }
    return length
  }

  /// Sets every byte of a checked range to `value`.
  @inline(never)
  public func fill(_ range: WritableRange, with value: UInt8) {
    precondition(range.offset >= 0 && range.offset <= count &- range.count)
    let length = unsafe stored(base + range.offset, range.count)
    // SAFETY: bounded above.
    if isUnalignedSafe {
      unsafe (base + range.offset).initializeMemory(
        as: UInt8.self, repeating: value, count: length)
    } else {
      unsafe cv_fill_strict(base + range.offset, value, length)
    }
  }

  /// How many bytes are stored: all of them, but in test builds that count steps.
  @unsafe @inline(__always)
  private func stored(_ start: UnsafeRawPointer, _ length: Int) -> Int {
    #if CELLMATE_WATCH
      return unsafe cw_store_bytes(start, length)
    #else
      return length
    #endif
  }

  /// The address of checked bytes, for system calls that move data straight between the region
  /// and a file or socket. The kernel, not this program, then touches peer memory.
  @unsafe
  public func unsafeAddress(of range: ReadableRange) -> UnsafeRawPointer {
    precondition(range.offset >= 0 && range.offset <= count &- range.count)
    return unsafe UnsafeRawPointer(base + range.offset)
  }

  /// The address of checked writable bytes, for system calls, as for readable ones.
  @unsafe
  public func unsafeAddress(of range: WritableRange) -> UnsafeMutableRawPointer {
    precondition(range.offset >= 0 && range.offset <= count &- range.count)
    return unsafe base + range.offset
  }

  @unsafe
  private func copyBytes(
    to: UnsafeMutableRawPointer, from: UnsafeRawPointer, count length: Int
  ) {
    if isUnalignedSafe {
      unsafe to.copyMemory(from: from, byteCount: length)
    } else {
      unsafe cv_copy_strict(to, from, length)
    }
  }
}

extension SharedRegion {
  /// The range of our own bookkeeping for reading; a wrong range is our bug and traps.
  public func readRange(_ range: Range<Int>) -> ReadableRange {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return ReadableRange(unchecked: range.lowerBound, count: range.count)
  }

  /// The range of our own block or pool for writing; a wrong range is our bug and traps.
  public func ownRange(_ range: Range<Int>) -> WritableRange {
    precondition(range.lowerBound >= 0 && range.upperBound <= count)
    return WritableRange(unchecked: range.lowerBound, count: range.count)
  }
}
