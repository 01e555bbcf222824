import IVShmem
import SharedMemory
import Simulator
import VirtioBlock
import VirtioDevice
import Virtqueue

@testable import SiemensDialect

/// A disk that outlives the back-ends in front of it; requests end at once, or when the test says.
final class Medium {
  var bytes: [UInt8]
  var isDeferring = false
  /// What another processor does while a request is handed over.
  var onSubmit: () -> Void = {}
  var waiting: [() -> BlockHostCompletion] = []
  var finished: [BlockHostCompletion] = []
  /// Requests carried out, and those that were cut short.
  var carriedOut = 0
  var cancelled = 0
  init(sectors: Int) { bytes = [UInt8](repeating: 0, count: sectors * 512) }

  /// Carries out the oldest request that waits.
  func finishOne() {
    guard !waiting.isEmpty else { return }
    finished.append(waiting.removeFirst()())
  }
}

struct MediumHost: BlockHost, ~Copyable {
  let medium: Medium
  var byteCount: UInt64 { UInt64(medium.bytes.count) }
  var blockSize: UInt32 { 512 }
  var isReadOnly: Bool { false }
  var canDiscard: Bool { true }
  func identifierByte(at index: Int) -> UInt8 { index < 4 ? 0x6d : 0 }

  /// What a request does, when it is done; late requests move bytes then, not before.
  private static func carryOut(
    _ request: BlockRequest, _ readable: [ReadableRange], _ writable: [WritableRange],
    _ medium: Medium, _ region: SharedRegion
  ) {
    medium.carriedOut += 1
    var position = Int(request.position)
    switch request.type {
    case .read:
      for range in writable {
        region.copy(medium.bytes[position..<position + range.count].span, into: range)
        position += range.count
      }
    case .write:
      for range in readable {
        var part = [UInt8](repeating: 0, count: range.count)
        var span = part.mutableSpan
        region.copy(range, into: &span)
        medium.bytes.replaceSubrange(position..<position + range.count, with: part)
        position += range.count
      }
    case .flush, .getID, .discard, .writeZeroes: break
    }
  }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    // The model's driver puts the header into a descriptor of its own and the status into the last.
    var readable: [ReadableRange] = []
    for index in 1..<max(1, segments.readableCount) { readable.append(segments.readable(index)) }
    var writable: [WritableRange] = []
    for index in 0..<max(0, segments.writableCount - 1) {
      writable.append(segments.writable(index))
    }
    let medium = medium
    medium.onSubmit()
    guard medium.isDeferring else {
      Self.carryOut(request, readable, writable, medium, region)
      return .done(.ok)
    }
    medium.waiting.append {
      Self.carryOut(request, readable, writable, medium, region)
      return BlockHostCompletion(slot: slot, status: .ok)
    }
    return .pending
  }

  mutating func nextCompletion() -> BlockHostCompletion? {
    medium.finished.isEmpty ? nil : medium.finished.removeFirst()
  }
}

typealias BlockBackend = SiemensBackend<ScheduledPeer, BlockDevice<MediumHost>>

/// A link with a back-end that can be killed and a driver, in one thread, by one seed.
final class SiemensRig {
  let link: ScheduledLink
  let medium = Medium(sectors: 64)
  let driver: LinuxDriver
  var backend: BlockBackend?
  let bookMemory: SharedRegion
  var vectors: Int
  let queueCount: Int
  /// One step of the back-end in so many accesses of the driver; 0: none.
  var pace: UInt64 = 2

  init(
    seed: UInt64 = 1, vectors: Int = 1, queues: Int = 1, readWriteSize: UInt64 = 0x4_0000,
    garbage: Bool = true, keepsBook: Bool = false, backendPeer: Int = 0
  ) throws {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: readWriteSize, outputSize: 0)
    link = ScheduledLink(geometry: geometry, seed: seed, garbage: garbage)
    link.recordsVectors = true
    // The hypervisor's table is clean at the start of a cell; a stale one has its own tests.
    link.region.store64(0, at: 0)
    self.vectors = vectors
    queueCount = queues
    driver = LinuxDriver(
      link, vectors: vectors, callbacks: [Bool](repeating: true, count: queues),
      peerID: 1 - backendPeer)
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0xa5, count: 1 << 20)
    bookMemory = unsafe SharedRegion(unsafeBase: base, count: 1 << 20)
    self.keepsBook = keepsBook
    self.backendPeer = backendPeer
    driver.interleave = { [unowned self] in
      if pace > 0, link.next() % pace == 0 { step() }
    }
  }

  let keepsBook: Bool
  let backendPeer: Int

  /// A test lives as long as its process.
  private func arena() -> PrivateArena {
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    return unsafe PrivateArena(unsafeBase: base, count: 1 << 20)
  }

  func makeBackend() throws -> BlockBackend {
    var own = arena()
    guard let size = QueueSize(8),
      let device = BlockDevice(
        host: MediumHost(medium: medium), queueCount: queueCount, maximumQueueSize: size, slots: 8,
        arena: &own)
    else { preconditionFailure("1 MiB holds a device") }
    let platform = ScheduledPeer(
      link: link, peerID: PeerID(UInt16(backendPeer)), vectorCount: UInt16(vectors))
    let plan = try SiemensPlan(
      own: platform.peerID, geometry: link.geometry, configurationSize: device.configurationSize)
    guard var made = BlockBackend(platform: platform, plan: plan, device: device, arena: &own)
    else { preconditionFailure("1 MiB holds a back-end") }
    if keepsBook { precondition(made.keepBook(in: bookMemory)) }
    return made
  }

  func startBackend() throws {
    var made = try makeBackend()
    made.start()
    backend = consume made
    settle()
  }

  /// SIGKILL: nothing is told to anybody; what the host had begun may or may not happen.
  func kill() {
    backend = nil
    medium.waiting = []
    medium.finished = []
  }

  @discardableResult
  func step() -> Bool {
    guard backend != nil else { return false }
    return backend!.step()
  }

  /// Steps until nothing moves; bounded.
  func settle() {
    for _ in 0..<1000 where !step() { return }
  }

  /// Lets both sides run until the driver has so many finished requests on ring 0, with sleeps of
  /// the back-end in between.
  func run(until count: Int, ring: Int = 0, patience: Int = 5000) -> Bool {
    for _ in 0..<patience {
      if driver.rings[ring].finished.count >= count { return true }
      if medium.isDeferring { medium.finishOne() }
      if !step() { sleep() }
      driver.handleInterrupts()
    }
    return false
  }

  var counters: SiemensCounters { backend!.counters }
  var registers: RegisterFile { backend!.registers }
  var phase: SiemensPhase { backend!.phase }
  var waitsForFrontEndToLeave: Bool { with { $0.waitsForFrontEndToLeave } }

  func with<Result>(_ body: (inout BlockBackend) throws -> Result) rethrows -> Result {
    try body(&backend!)
  }

  func sleep() {
    guard backend != nil else { return }
    _ = backend!.sleep(until: nil)
  }
}
