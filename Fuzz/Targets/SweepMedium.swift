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
  /// How often the front-end has begun to set the device up, and of these what has ended.
  var session = 0
  var connectedSession = 0
  /// Requests that moved their bytes when the device had been reset and set up anew.
  var lateMoves = 0
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

/// What one life of a back-end has of that disk. Some requests take a while, and their bytes move
/// at the end of it, as a worker thread moves them: a reset has to wait for that.
struct SweepHost: BlockHost, ~Copyable {
  private struct Work {
    let slot: Int
    let request: BlockRequest
    let region: SharedRegion
    /// Where its bytes lie in the shared memory.
    let pieces: [Range<Int>]
    let session: Int
    /// At which look of the device it is done.
    let due: Int
  }

  let medium: SweepMedium
  private var count = 0
  private var waiting: [Work] = []
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
    count += 1
    // Some take so long that the other side may die, come back and reset the device meanwhile.
    let work = Work(
      slot: slot, request: request, region: region,
      pieces: Self.pieces(segments, request, skip), session: medium.session,
      due: looks + (count % 12 == 0 ? 1800 : 2))
    guard count % 3 == 0 else {
      move(work)
      return .done(.ok)
    }
    waiting.append(work)
    return .pending
  }

  mutating func nextCompletion() -> BlockHostCompletion? {
    guard !waiting.isEmpty else { return nil }
    looks += 1
    guard let index = waiting.lastIndex(where: { looks >= $0.due }) else { return nil }
    let work = waiting.remove(at: index)
    if work.session < medium.connectedSession { medium.lateMoves += 1 }
    move(work)
    return BlockHostCompletion(slot: work.slot, status: .ok)
  }

  /// The request's part of the chain, without its header.
  private static func pieces(
    _ segments: borrowing ChainSegments, _ request: BlockRequest, _ skip: Int
  ) -> [Range<Int>] {
    var ranges: [Range<Int>] = []
    switch request.type {
    case .read:
      for index in 0..<segments.writableCount {
        let range = segments.writable(index)
        ranges.append(range.offset..<range.offset + range.count)
      }
    case .write:
      for index in 0..<segments.readableCount {
        let range = segments.readable(index)
        ranges.append(range.offset..<range.offset + range.count)
      }
    case .flush, .discard, .writeZeroes, .getID: return []
    }
    var skip = skip
    var rest = Int(request.count)
    return ranges.compactMap { range in
      let start = range.lowerBound + min(skip, range.count)
      skip -= start - range.lowerBound
      let end = min(range.upperBound, start + rest)
      rest -= end - start
      return start < end ? start..<end : nil
    }
  }

  /// Does what the request asks for; the dead do nothing.
  private func move(_ work: Work) {
    guard cw_is_dead(0) == 0 else { return }
    var place = Int(work.request.position)
    switch work.request.type {
    case .read:
      for piece in work.pieces {
        let part = Array(medium.bytes[place..<place + piece.count])
        _ = work.region.copy(part.span, into: work.region.ownRange(piece))
        place += piece.count
      }
    case .write where medium.forgets: break
    case .write:
      for piece in work.pieces {
        var part = [UInt8](repeating: 0, count: piece.count)
        var span = part.mutableSpan
        _ = work.region.copy(work.region.readRange(piece), into: &span)
        medium.bytes.replaceSubrange(place..<place + piece.count, with: part)
        place += piece.count
      }
    case .flush: medium.durable = medium.bytes
    case .discard, .writeZeroes, .getID: break
    }
  }
}
