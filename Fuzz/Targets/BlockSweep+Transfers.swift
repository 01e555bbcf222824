import CWatch
import DeviceRuntime
import IVShmem
import SharedMemory
import Simulator
import VirtioBlock
import VirtioTransport
import Virtqueue

// What the front-end's user does, and what it holds the rest to.
extension BlockSweep {
  /// Two sectors a request, as many at once as the front-end has room for.
  private static var batch: Int { 3 }

  /// Writes every sector anew, flushes, reads everything back.
  func transfer(_ front: inout BlockFrontend<ScheduledPeer>) throws(Stop) {
    try connect(&front)
    for first in stride(from: 0, to: SweepMedium.sectors, by: Self.batch) {
      try write(&front, first..<min(first + Self.batch, SweepMedium.sectors))
    }
    try submit(&front, .flush, 0, .empty)
    try drain(&front) { [self] _, _ in
      for sector in 0..<SweepMedium.sectors {
        check(sector, medium.durableStamp(sector), "durable after a flush")
      }
    }
    try readAll(&front)
  }

  private func write(
    _ front: inout BlockFrontend<ScheduledPeer>, _ sectors: Range<Int>
  ) throws(Stop) {
    var buffers: [BufferSegment] = []
    var tokens: [UInt32: Int] = [:]
    for sector in sectors {
      guard let buffer = front.allocateForWriting(512) else {
        fail("the front-end's pool leaks")
        throw .now
      }
      buffers.append(buffer)
      submitted[sector] += 1
      for word in 0..<64 {
        front.frontend.link.region.store64(submitted[sector], at: buffer.offset + 8 * word)
      }
      tokens[nextToken] = sector
      try submit(&front, .write, sector, buffer)
    }
    try drain(&front) { [self] token, _ in
      guard let sector = tokens[token] else { return fail("token \(token) was never given") }
      acknowledged[sector] = submitted[sector]
      check(sector, medium.stamp(sector), "on the disk after the acknowledgement")
    }
    for buffer in buffers { front.freeForWriting(buffer) }
  }

  /// A sector holds what was acknowledged last or something newer that was submitted.
  private func check(_ sector: Int, _ stamp: UInt64?, _ place: String) {
    guard let stamp, stamp >= acknowledged[sector], stamp <= submitted[sector] else {
      let found = stamp.map { "\($0)" } ?? "a mixture"
      return fail(
        "sector \(sector) is \(found) \(place), acknowledged is \(acknowledged[sector]) of"
          + " \(submitted[sector])")
    }
  }

  /// Reads every sector and compares.
  func readAll(_ front: inout BlockFrontend<ScheduledPeer>) throws(Stop) {
    try connect(&front)
    guard let buffer = front.allocateForReading(512) else {
      fail("the front-end's pool leaks")
      throw .now
    }
    let region = front.frontend.link.region
    for sector in 0..<SweepMedium.sectors {
      try submit(&front, .read, sector, buffer)
      try drain(&front) { [self] _, data in
        let first = region.load64(data.offset)
        let isWhole = (0..<64).allSatisfy { region.load64(data.offset + 8 * $0) == first }
        check(sector, isWhole ? first : nil, "as it was read")
        check(sector, medium.stamp(sector), "on the disk")
      }
    }
    front.freeForReading(buffer)
  }

  // MARK: Requests

  private func connect(_ front: inout BlockFrontend<ScheduledPeer>) throws(Stop) {
    if !front.isConnected { medium.session += 1 }
    // A wait of the scheduled link ends without an event where a real one would go on, so an
    // attempt may fail while the other side comes back, or while its disk takes long.
    for _ in 0..<100 where !front.isConnected {
      do throws(BlockFrontendError) {
        try front.connect(until: Instant(nanoseconds: link.time + 1_000_000))
      } catch {
        try checkAlive()
        pump()
      }
    }
    try checkAlive()
    guard front.isConnected else {
      fail("the front-end does not connect")
      throw .now
    }
    medium.connectedSession = medium.session
  }

  private func submit(
    _ front: inout BlockFrontend<ScheduledPeer>, _ type: BlockRequestType, _ sector: Int,
    _ data: BufferSegment
  ) throws(Stop) {
    try checkAlive()
    do throws(BlockFrontendError) {
      try front.submit(type, sector: UInt64(sector), data: data, token: nextToken)
    } catch {
      fail("a request is refused: \(error)")
      throw .now
    }
    open.insert(nextToken)
    nextToken &+= 1
    front.publish()
  }

  /// Waits for everything that is open; each token comes exactly once, with success.
  private func drain(
    _ front: inout BlockFrontend<ScheduledPeer>, _ each: (UInt32, BufferSegment) -> Void
  ) throws(Stop) {
    for _ in 0..<60 where !open.isEmpty {
      do throws(BlockFrontendError) {
        // Bounded: not more completions than requests.
        while let done = try front.nextCompletion() {
          // What the dead take does not count.
          if failure != nil || cw_is_dead(1) != 0 { break }
          take(done, each)
        }
      } catch {
        try checkAlive()
        fail("an honest back-end breaks the queue: \(error)")
      }
      try checkAlive()
      if open.isEmpty { return }
      if front.step() { try connect(&front) }
      front.publish()
      _ = front.sleep(until: Instant(nanoseconds: link.time))
      try checkAlive()
    }
    guard open.isEmpty else {
      fail("\(open.count) requests are never completed")
      throw .now
    }
  }

  private func take(_ done: BlockCompletion, _ each: (UInt32, BufferSegment) -> Void) {
    guard open.remove(done.token) != nil else {
      return fail("token \(done.token) is completed twice")
    }
    guard done.status == .ok else {
      return fail("token \(done.token) ends with \(String(describing: done.status))")
    }
    each(done.token, done.data)
  }
}
