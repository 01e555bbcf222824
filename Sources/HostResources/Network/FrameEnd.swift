import CHostNetwork
import CLinux
public import LinuxSupport
public import VirtioNet

/// What a front-end's device is connected with: a tap of this machine, or a stream of frames, each
/// behind its length in four bytes, most significant first, as QEMU and passt have it.
///
/// Nothing here blocks; all calls come from one thread.
@safe
public final class FrameEnd {
  /// What to open.
  public enum Kind: Equatable, Sendable {
    /// The tap of that name, which is made when there is none.
    case tap(String)
    /// The Unix stream socket somebody listens on at that path.
    case socket(String)
    /// Standard input and output.
    case stdio
  }

  /// Frames that were dropped because they are none.
  public private(set) var malformed: UInt64 = 0
  /// Why nothing more will come or go; `nil` while the end is there.
  public private(set) var failure: SystemError?
  /// Whether the input has ended as it should.
  public private(set) var hasInputEnded = false

  private let owned: Descriptor
  private let input: Int32
  private let output: Int32
  private let isTap: Bool
  private let watcher: ReadinessWatcher
  private let buffer: UnsafeMutablePointer<UInt8>
  private var start = 0
  private var end = 0
  /// What of a frame that was taken is still to be written.
  private let rest: UnsafeMutablePointer<UInt8>
  private var restStart = 0
  private var restEnd = 0
  private var isBlocked = false

  private static var prefix: Int { 4 }
  private static var bufferSize: Int { 4 * (prefix + TapFrames.limit) }
  private static var restSize: Int { prefix + NetFormat.frameLimit }

  /// Opens an end; `wakeDescriptor` is signalled when something can be done after ``arm()``.
  ///
  /// - Throws: why it cannot be opened. Not `init` itself: a class that fails to begin is not given
  ///   back in Embedded Swift.
  @inline(never)
  public static func open(
    _ kind: Kind, wakeDescriptor: Int32
  ) throws(SystemError) -> FrameEnd {
    let watcher = try ReadinessWatcher(wakeDescriptor: wakeDescriptor)
    let end: FrameEnd
    switch kind {
    case .tap(let name):
      end = FrameEnd(try Descriptor(unsafe chn_tap(name)), watcher, isTap: true)
    case .socket(let path):
      end = FrameEnd(try Descriptor(unsafe cl_connect_stream(path)), watcher, isTap: false)
    case .stdio: end = FrameEnd(try Descriptor(cl_eventfd()), watcher, isStdio: true)
    }
    try watcher.start()
    return end
  }

  private init(
    _ owned: consuming Descriptor, _ watcher: ReadinessWatcher, isTap: Bool = false,
    isStdio: Bool = false
  ) {
    input = isStdio ? 0 : owned.number
    output = isStdio ? 1 : owned.number
    self.owned = owned
    self.isTap = isTap
    self.watcher = watcher
    unsafe buffer = .allocate(capacity: Self.bufferSize)
    unsafe buffer.initialize(repeating: 0, count: Self.bufferSize)
    unsafe rest = .allocate(capacity: Self.restSize)
    unsafe rest.initialize(repeating: 0, count: Self.restSize)
  }

  deinit {
    watcher.finish()
    unsafe buffer.deallocate()
    unsafe rest.deallocate()
  }

  /// Whether frames may come and go with checksums and cuts left undone.
  public var takesOffloads: Bool { isTap }
  /// Whether everything that was taken has left.
  public var isFlushed: Bool { restStart == restEnd }

  /// Gives a tap the device's address and MTU, where that is allowed; whether it was.
  public func adopt(_ address: MACAddress, mtu: Int) -> Bool {
    guard isTap else { return true }
    var bytes = InlineArray<6, UInt8>(repeating: 0)
    for index in 0..<6 { bytes[index] = address.byte(at: index) }
    return unsafe bytes.span.withUnsafeBufferPointer { bytes in
      guard let base = bytes.baseAddress else { return false }
      return unsafe chn_tap_set(input, base, Int32(mtu)) >= 0
    }
  }

  /// Shows the kernel of a tap whether there is a link.
  public func setLink(isUp: Bool) {
    if isTap { _ = chn_tap_carrier(input, isUp ? 1 : 0) }
  }

  /// Asks for a signal when a frame comes, and when there is room for one again after `.full`.
  public func arm() {
    guard failure == nil else { return }
    if isBlocked, input == output {
      return watcher.arm(output, hasInputEnded ? .room : .both)
    }
    if isBlocked { watcher.arm(output, .room) }
    if !hasInputEnded { watcher.arm(input, .input) }
  }

  // MARK: From the end

  /// Reads the next frame and what is undone in it; its length, 0 when there is none now. `bytes`
  /// has room for ``NetFormat/frameLimit``.
  public func receive(into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload) -> Int {
    guard failure == nil else { return 0 }
    return isTap ? receiveFromTap(&bytes, &offload) : receiveFromStream(&bytes)
  }

  private func receiveFromTap(
    _ bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload
  ) -> Int {
    // Bounded: malformed frames come from the kernel itself, if at all.
    for _ in 0..<64 {
      let count = unsafe chn_read(input, buffer, TapFrames.limit)
      if count == Int(CHN_AGAIN) { return 0 }
      guard count > 0 else {
        fail(count)
        return 0
      }
      let found = unsafe Span(_unsafeStart: UnsafePointer(buffer), count: count)
      guard let checked = TapFrames.check(found) else {
        malformed &+= 1
        continue
      }
      offload = checked
      return copy(from: NetFormat.headerSize, count - NetFormat.headerSize, into: &bytes)
    }
    return 0
  }

  private func copy(
    from position: Int, _ count: Int, into bytes: inout MutableSpan<UInt8>
  ) -> Int {
    precondition(count <= bytes.count && position + count <= Self.bufferSize)
    unsafe bytes.withUnsafeMutableBufferPointer { target in
      // SAFETY: both ranges were compared above.
      unsafe target.baseAddress?.update(from: buffer + position, count: count)
    }
    return count
  }

  private func receiveFromStream(_ bytes: inout MutableSpan<UInt8>) -> Int {
    while true {
      let length = waitingLength
      if length > NetFormat.frameLimit {
        // EMSGSIZE: whoever writes this is not speaking of frames.
        failure = SystemError(90)
        return 0
      }
      if length >= 0, end - start >= Self.prefix + length {
        let position = start + Self.prefix
        start = position + length
        guard length >= NetFormat.etherSize else {
          malformed &+= 1
          continue
        }
        return copy(from: position, length, into: &bytes)
      }
      guard !hasInputEnded, readMore() else { return 0 }
    }
  }

  /// Bytes of the frame whose start is in the buffer; -1 when its length is not yet there.
  private var waitingLength: Int {
    guard end - start >= Self.prefix else { return -1 }
    var length = 0
    for index in 0..<Self.prefix { length = unsafe length << 8 | Int(buffer[start + index]) }
    return length
  }

  private func readMore() -> Bool {
    if start == end {
      start = 0
      end = 0
    } else if Self.bufferSize - start < Self.prefix + NetFormat.frameLimit {
      // SAFETY: both ranges lie in the buffer; update allows them to overlap.
      unsafe buffer.update(from: buffer + start, count: end - start)
      end -= start
      start = 0
    }
    let count = unsafe chn_stream_read(input, buffer + end, Self.bufferSize - end)
    if count == Int(CHN_AGAIN) { return false }
    if count == 0 { hasInputEnded = true }
    guard count > 0 else {
      if count < 0 { fail(count) }
      return false
    }
    end += count
    return true
  }

  private func fail(_ count: Int) {
    // EPIPE for an end that is simply gone.
    failure = SystemError(count < 0 ? Int32(truncatingIfNeeded: -count) : 32)
  }

  // MARK: To the end

  /// Writes a frame. A tap drops what its kernel has no room for; a stream is waited for.
  public func send(_ frame: Span<UInt8>, _ offload: FrameOffload) -> NetSend {
    guard failure == nil else { return .dropped }
    if isTap {
      let result = TapFrames.write(output, frame, offload)
      return result.put == result.whole ? .taken : .dropped
    }
    guard flush() else { return .full }
    let count = frame.count
    for index in 0..<Self.prefix {
      unsafe rest[index] = UInt8(truncatingIfNeeded: count >> (8 * (Self.prefix - 1 - index)))
    }
    unsafe frame.withUnsafeBufferPointer { source in
      guard let base = source.baseAddress else { return }
      // SAFETY: a frame has at most `frameLimit` bytes, as all that come from a device.
      precondition(count <= NetFormat.frameLimit)
      unsafe (rest + Self.prefix).update(from: base, count: count)
    }
    restStart = 0
    restEnd = Self.prefix + count
    _ = flush()
    return .taken
  }

  /// Writes what is left of a frame; whether nothing is.
  @discardableResult
  public func flush() -> Bool {
    while restStart < restEnd, failure == nil {
      let put = unsafe chn_stream_write(output, rest + restStart, restEnd - restStart)
      if put == Int(CHN_AGAIN) { break }
      guard put > 0 else {
        fail(put)
        break
      }
      restStart += put
    }
    isBlocked = restStart < restEnd
    return !isBlocked
  }
}
