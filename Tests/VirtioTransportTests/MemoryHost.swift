import SharedMemory
import VirtioBlock
import Virtqueue

/// Memory as a medium; finishes at once, or when the test says so, in the order it says.
final class MemoryMedium {
  var bytes: [UInt8]
  var isDeferring = false
  var waiting: [(slot: Int, status: BlockStatus)] = []
  var finished: [(slot: Int, status: BlockStatus)] = []
  init(byteCount: Int) { bytes = [UInt8](repeating: 0, count: byteCount) }
}

struct MemoryHost: BlockHost, ~Copyable {
  let medium: MemoryMedium
  var byteCount: UInt64 { UInt64(medium.bytes.count) }
  var blockSize: UInt32 { 512 }
  var isReadOnly: Bool { false }
  var canDiscard: Bool { true }
  func identifierByte(at index: Int) -> UInt8 { index < 4 ? 0x6d : 0 }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    let start = Int(request.position)
    let count = Int(request.count)
    // The device promises checked positions: a wrong one is found here.
    precondition(start + count <= medium.bytes.count)
    switch request.type {
    case .read:
      let part = Array(medium.bytes[start..<start + count])
      let wrote = segments.copyWritable(
        from: part.span, at: 0, in: region)
      precondition(wrote == count)
    case .write:
      var bytes = [UInt8](repeating: 0, count: count)
      var span = bytes.mutableSpan
      let got = segments.copyReadable(from: skip, into: &span, in: region)
      precondition(got == count)
      medium.bytes.replaceSubrange(start..<start + count, with: bytes)
    case .discard, .writeZeroes:
      for index in start..<start + count { medium.bytes[index] = 0 }
    case .flush, .getID: break
    }
    guard medium.isDeferring else { return .done(.ok) }
    medium.waiting.append((slot, .ok))
    return .pending
  }

  mutating func nextCompletion() -> BlockHostCompletion? {
    guard !medium.finished.isEmpty else { return nil }
    let done = medium.finished.removeFirst()
    return BlockHostCompletion(slot: done.slot, status: done.status)
  }
}
