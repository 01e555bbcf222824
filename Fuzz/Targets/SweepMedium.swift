import CWatch
import SharedMemory
import VirtioBlock
import Virtqueue

/// A disk that outlives its back-ends. A dead back-end writes nothing more.
final class SweepMedium {
  static var sectors: Int { 6 }
  /// Says that it has written and has not: for the test that the sweep notices.
  var forgets = false
  var bytes = [UInt8](repeating: 0, count: SweepMedium.sectors * 512)
  /// What would be left after the power went: what was there at the last flush.
  var durable = [UInt8](repeating: 0, count: SweepMedium.sectors * 512)

  /// The number in the first bytes of a sector, which is in all of it; `nil` when it is not.
  func stamp(_ sector: Int) -> UInt64? { Self.stamp(sector, of: bytes) }

  /// The same of what a flush has made durable.
  func durableStamp(_ sector: Int) -> UInt64? { Self.stamp(sector, of: durable) }

  private static func stamp(_ sector: Int, of bytes: [UInt8]) -> UInt64? {
    let words = (0..<64).map { word in
      (0..<8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[sector * 512 + word * 8 + $1]) }
    }
    return words.allSatisfy { $0 == words[0] } ? words[0] : nil
  }
}

/// What one life of a back-end has of that disk: some requests take a while.
struct SweepHost: BlockHost, ~Copyable {
  let medium: SweepMedium
  private var count = 0
  private var waiting: [Int] = []
  private var looks = 0

  init(_ medium: SweepMedium) { self.medium = medium }

  var byteCount: UInt64 { UInt64(medium.bytes.count) }
  var blockSize: UInt32 { 512 }
  var isReadOnly: Bool { false }
  var canDiscard: Bool { false }
  func identifierByte(at index: Int) -> UInt8 { 0 }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    guard cw_is_dead(0) == 0 else { return .done(.ok) }
    let start = Int(request.position)
    let length = Int(request.count)
    switch request.type {
    case .read:
      let part = Array(medium.bytes[start..<start + length])
      _ = segments.copyWritable(from: part.span, at: skip, in: region)
    case .write where medium.forgets: break
    case .write:
      var part = [UInt8](repeating: 0, count: length)
      var span = part.mutableSpan
      _ = segments.copyReadable(from: skip, into: &span, in: region)
      medium.bytes.replaceSubrange(start..<start + length, with: part)
    case .flush: medium.durable = medium.bytes
    case .discard, .writeZeroes, .getID: break
    }
    count += 1
    guard count % 3 == 0 else { return .done(.ok) }
    waiting.append(slot)
    return .pending
  }

  mutating func nextCompletion() -> BlockHostCompletion? {
    guard !waiting.isEmpty else { return nil }
    looks += 1
    guard looks % 3 == 0 else { return nil }
    return BlockHostCompletion(slot: waiting.removeLast(), status: .ok)
  }
}
