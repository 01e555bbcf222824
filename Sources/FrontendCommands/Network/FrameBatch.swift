import CCellmate
import ToolSupport

/// Frames that go to the device, or come from it, in one call.
@safe
final class FrameBatch {
  /// Bytes of the largest frame.
  static var frameLimit: Int { 65553 }

  private let stride: Int
  private let bytes: UnsafeMutablePointer<UInt8>
  private let frames: UnsafeMutablePointer<cellmate_frame>
  private let capacity: Int
  /// The frames in it are those from `start` to `end`.
  private var start = 0
  private var end = 0

  /// Room for `count` frames of `size` bytes each.
  init(count: Int, size: Int = FrameBatch.frameLimit) {
    // Not a power of two: the starts of frames would meet in a few lines of the cache.
    stride = (size + 127) & ~63
    capacity = count
    unsafe bytes = .allocate(capacity: stride * count)
    unsafe bytes.initialize(repeating: 0, count: stride * count)
    unsafe frames = .allocate(capacity: count)
    unsafe frames.initialize(repeating: cellmate_frame(), count: count)
  }

  deinit {
    unsafe bytes.deallocate()
    unsafe frames.deallocate()
  }

  var count: Int { end - start }
  var isEmpty: Bool { start == end }
  var isFull: Bool { end == capacity }

  func clear() {
    start = 0
    end = 0
  }

  private func span(_ index: Int, _ length: Int) -> UnsafeMutableBufferPointer<UInt8> {
    precondition(index < capacity && length <= stride)
    return unsafe UnsafeMutableBufferPointer(start: bytes + index * stride, count: length)
  }

  // MARK: To the device

  /// Adds a frame that `write` fills; there is room.
  func add<Result>(
    _ length: Int, pair: UInt16, _ write: (inout MutableSpan<UInt8>) -> Result
  ) -> Result {
    let place = unsafe span(end, length)
    var frame = unsafe cellmate_frame()
    unsafe frame.data = UnsafeMutableRawPointer(place.baseAddress)
    unsafe frame.length = UInt32(length)
    unsafe frame.pair = pair
    unsafe frames[end] = frame
    end += 1
    var bytes = unsafe place.mutableSpan
    return write(&bytes)
  }

  /// Gives the device what there is room for; how many frames that was.
  func send(_ driver: borrowing LibraryDriver) throws(ClientError) -> Int {
    guard !isEmpty else { return 0 }
    let count = try driver.checked(
      unsafe cellmate_network_send(driver.handle, frames + start, UInt32(count)))
    start += count
    if isEmpty { clear() }
    return count
  }

  // MARK: From the device

  /// Takes what has come; whether there was anything.
  func receive(_ driver: borrowing LibraryDriver) throws(ClientError) -> Bool {
    for index in 0..<capacity {
      var frame = unsafe cellmate_frame()
      unsafe frame.data = UnsafeMutableRawPointer(span(index, stride).baseAddress)
      unsafe frame.length = UInt32(stride)
      unsafe frames[index] = frame
    }
    start = 0
    end = 0
    end = try driver.checked(
      unsafe cellmate_network_receive(driver.handle, frames, UInt32(capacity)))
    return end > 0
  }

  /// Takes the next frame; there is one.
  func takeNext<Result>(_ read: (Span<UInt8>) -> Result) -> Result {
    let place = unsafe span(start, Int(frames[start].length))
    start += 1
    return read(unsafe place.span)
  }
}
