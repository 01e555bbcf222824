import VirtioNet

/// Frames that wait for a front-end: a ring of bytes and one of lengths, made before the first
/// frame comes.
@safe
final class FrameQueue {
  private let bytes: UnsafeMutablePointer<UInt8>
  private let capacity: Int
  private var lengths: [Int]
  private var offloads: [FrameOffload]
  private var first = 0
  /// Frames that wait.
  private(set) var count = 0
  private var start = 0
  private var used = 0

  init(bytes capacity: Int, frames: Int) {
    self.capacity = capacity
    // Not initialised: what nobody writes needs no memory, and a byte is written before it is read.
    unsafe bytes = .allocate(capacity: capacity)
    lengths = Array(repeating: 0, count: frames)
    offloads = Array(repeating: FrameOffload(), count: frames)
  }

  deinit { unsafe bytes.deallocate() }

  /// Appends a frame; whether there was room.
  func push(_ frame: Span<UInt8>, _ offload: FrameOffload) -> Bool {
    guard count < lengths.count, frame.count <= capacity - used else { return false }
    let slot = (first + count) % lengths.count
    lengths[slot] = frame.count
    offloads[slot] = offload
    let end = (start + used) % capacity
    let head = min(frame.count, capacity - end)
    unsafe frame.withUnsafeBufferPointer { source in
      guard let base = source.baseAddress else { return }
      // SAFETY: `head` bytes fit before the end of the ring, the rest at its start: it has room.
      unsafe (bytes + end).update(from: base, count: head)
      unsafe bytes.update(from: base + head, count: source.count - head)
    }
    used += frame.count
    count += 1
    return true
  }

  /// Takes the oldest frame into the front of `result`, which has room for the largest; 0 when
  /// there is none.
  func pop(into result: inout MutableSpan<UInt8>, _ offload: inout FrameOffload) -> Int {
    guard count > 0 else { return 0 }
    let length = lengths[first]
    offload = offloads[first]
    let head = min(length, capacity - start)
    precondition(length <= result.count)
    unsafe result.withUnsafeMutableBufferPointer { target in
      guard let base = target.baseAddress else { return }
      // SAFETY: as in `push`, and `result` was compared above.
      unsafe base.update(from: bytes + start, count: head)
      unsafe (base + head).update(from: bytes, count: length - head)
    }
    start = (start + length) % capacity
    used -= length
    first = (first + 1) % lengths.count
    count -= 1
    return length
  }

  /// Forgets all frames; returns how many.
  func removeAll() -> Int {
    defer {
      count = 0
      used = 0
    }
    return count
  }
}
