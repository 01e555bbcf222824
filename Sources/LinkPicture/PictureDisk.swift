import SharedMemory
import VirtioBlock
import Virtqueue

/// A disk of zeroes that answers at once: what is behind the device of a picture.
struct PictureDisk: BlockHost, ~Copyable {
  var byteCount: UInt64 { 1 << 20 }
  var blockSize: UInt32 { 512 }
  var isReadOnly: Bool { false }
  var canDiscard: Bool { true }
  func identifierByte(at index: Int) -> UInt8 { 0 }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    if request.type == .read {
      let zeroes = [UInt8](repeating: 0, count: Int(request.count))
      guard segments.copyWritable(from: zeroes.span, at: 0, in: region) == zeroes.count else {
        return .done(.ioError)
      }
    }
    return .done(.ok)
  }

  mutating func nextCompletion() -> BlockHostCompletion? { nil }
}
