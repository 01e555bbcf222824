import IVShmem
import SharedMemory
import Simulator

/// What the model stumbled over.
enum DriverError: Error, Equatable {
  /// The real driver would spin for ever on a processor of the guest.
  case lockUp(at: Int)
  /// "backend not ready": no second attempt.
  case notReady
  /// The header has revision 0.
  case badRevision(UInt32)
  /// A register write was given up: "backend failed!".
  case backendFailed
  /// `-ENOENT` of the set-up of a queue.
  case noQueue(Int)
  /// The bounce pool is full.
  case poolFull(Int)
}

/// One register write as the driver makes it.
struct RegisterWrite: Equatable, CustomStringConvertible {
  let offset: Int
  let value: UInt64
  init(_ offset: Int, _ value: UInt64) {
    self.offset = offset
    self.value = value
  }
  var description: String { String(offset, radix: 16) + "=" + String(value, radix: 16) }
}

/// A front-end that behaves like the Linux driver `virtio_ivshmem`, defects included, written from
/// what that driver does: posted writes, status read back from the word it wrote, a 32-bit store
/// over queue_enable, spins without limit, State 0 before it unregisters.
///
/// Other processors run between any two of its accesses: `interleave` lets the back-end take steps
/// there.
final class LinuxDriver {
  let link: ScheduledLink
  let region: SharedRegion
  let base: Int
  let peerID: Int
  var platform: ScheduledPeer
  let vectorCount: Int
  /// What runs between two accesses.
  var interleave: () -> Void = {}
  /// Steps of other processors after which a spin counts as for ever.
  var patience = 20_000
  var writes: [RegisterWrite] = []
  var complaints = 0
  var isBroken = false
  var configurationChanges = 0
  var spurious = 0
  var rings: [ModelRing] = []
  var wantedLow: UInt64
  let callbacks: [Bool]
  var isPerQueue = false
  var vectorsInUse = 1
  var chunk = 64
  var chunks: [Bool] = []
  var isInHandler = false

  init(
    _ link: ScheduledLink, vectors: Int = 1, wantedLow: UInt64 = 0x206, callbacks: [Bool] = [true],
    peerID: Int = 1
  ) {
    self.link = link
    region = link.region
    base = link.geometry.readWrite.lowerBound
    self.peerID = peerID
    platform = ScheduledPeer(
      link: link, peerID: PeerID(UInt16(peerID)), vectorCount: UInt16(vectors))
    vectorCount = vectors
    self.wantedLow = wantedLow
    self.callbacks = callbacks
  }

  // MARK: Accesses, one at a time

  func turn() {
    interleave()
    handleInterrupts()
  }

  func load(_ offset: Int, _ width: Int) -> UInt64 {
    turn()
    switch width {
    case 1: return UInt64(region.load8(base + offset))
    case 2: return UInt64(region.load16(base + offset))
    case 4: return UInt64(region.load32(base + offset))
    default:
      return UInt64(region.load32(base + offset)) | UInt64(region.load32(base + offset + 4)) << 32
    }
  }

  /// An access as the processor makes it, aligned or not.
  func store(_ offset: Int, _ value: UInt64, _ width: Int) {
    turn()
    if width == 8, offset & 7 == 0 {
      region.store64(value, at: base + offset)
    } else if width == 4, offset & 3 == 0 {
      region.store32(UInt32(truncatingIfNeeded: value), at: base + offset)
    } else if width == 2 {
      region.store16(UInt16(truncatingIfNeeded: value), at: base + offset)
    } else {
      for byte in 0..<width {
        region.store8(UInt8(value >> UInt64(8 * byte) & 0xff), at: base + offset + byte)
      }
    }
  }

  var backendState: UInt32 {
    region.load32(link.geometry.stateWord(of: PeerID(UInt16(1 - peerID))))
  }

  func ring(_ vector: Int) {
    turn()
    platform.ringDoorbell(Vector(UInt16(vector)), at: PeerID(UInt16(1 - peerID)))
  }

  // MARK: Transactions

  func synchronize() throws(DriverError) {
    var spins = 0
    while load(8, 4) != 0 {
      if backendState != 1 {
        complaints += 1
        throw .backendFailed
      }
      spins += 1
      if spins > patience { throw .lockUp(at: Int(region.load32(base + 8))) }
    }
  }

  func write(_ offset: Int, _ value: UInt64, _ width: Int) throws(DriverError) {
    try synchronize()
    writes.append(RegisterWrite(offset, value))
    store(offset, value, width)
    store(8, UInt64(offset), 4)
    ring(0)
  }

  /// Register writes of tear-down: their failure is ignored.
  func writeAnyway(_ offset: Int, _ value: UInt64, _ width: Int) throws(DriverError) {
    do throws(DriverError) {
      try write(offset, value, width)
    } catch { if error != .backendFailed { throw error } }
  }

  var status: UInt64 { load(0x44, 4) & 0xff }

  func addStatus(_ bits: UInt64) throws(DriverError) { try write(0x44, status | bits, 4) }

  // MARK: Life

  /// The probe of the PCI driver, without the registration of the device.
  func attach() throws(DriverError) {
    turn()
    guard backendState == 1 else { throw .notReady }
    let revision = UInt32(load(0, 4))
    guard revision >= 1 else { throw .badRevision(revision) }
    let size = link.geometry.readWriteSize
    chunk = 64
    while chunk < min(4096, max(64, size / 4096)) { chunk *= 2 }
    chunks = [Bool](repeating: false, count: size / chunk)
    for index in 0..<(1 << order(Int(load(4, 4)))) { chunks[index] = true }
    link.isOneShot[peerID] = false
    rings = []
    isBroken = false
    turn()
    platform.writeState(1)
  }

  func negotiate() throws(DriverError) -> UInt64 {
    try write(0x44, 0, 4)
    try addStatus(1)
    try addStatus(2)
    try write(0x10, 1, 4)
    try synchronize()
    var offered = load(0xc, 4) << 32
    try write(0x10, 0, 4)
    try synchronize()
    offered |= load(0xc, 4)
    // What the ring code keeps, and what this driver wants.
    let accepted = offered & (wantedLow | 0x17_3000_0000)
    try write(0x18, 1, 4)
    try write(0x14, accepted >> 32, 4)
    try write(0x18, 0, 4)
    try write(0x14, accepted & 0xffff_ffff, 4)
    try addStatus(8)
    return accepted
  }

  /// Everything from probe to DRIVER_OK.
  @discardableResult
  func probe() throws(DriverError) -> UInt64 {
    try attach()
    let features = try negotiate()
    // The core looks whether the device took the features, at once.
    guard status & 8 != 0 else { throw .backendFailed }
    try findQueues()
    try addStatus(4)
    return features
  }

  func findQueues() throws(DriverError) {
    let desired = 1 + callbacks.filter { $0 }.count
    vectorsInUse = vectorCount >= desired ? desired : min(vectorCount, 2)
    isPerQueue = vectorsInUse == desired
    var vector = vectorsInUse == 1 ? 0 : 1
    for index in callbacks.indices {
      try setUpQueue(index, vector)
      if isPerQueue { vector += 1 }
    }
    turn()
    platform.setInterruptsEnabled(true)
  }

  private func setUpQueue(_ index: Int, _ vector: Int) throws(DriverError) {
    try write(0x1c, UInt64(index), 4)
    try synchronize()
    guard load(0x26, 2) == 0 else { throw .noQueue(index) }
    var size = Int(load(0x20, 2))
    guard size != 0 else {
      try writeAnyway(0x26, 0, 4)
      throw .noQueue(index)
    }
    let deviceVector = Int(load(0x22, 2))
    // The ring code halves the size until there is memory.
    var memory: Int?
    while memory == nil, size > 1 {
      memory = allocate(ModelRing.bytes(size))
      if memory == nil { size /= 2 }
    }
    guard let memory else { throw .poolFull(size) }
    let ring = ModelRing(
      index: index, size: size, descriptors: memory, deviceVector: deviceVector,
      driverVector: vector)
    try write(0x20, UInt64(size), 2)
    try write(0x24, UInt64(vector), 2)
    try write(0x28, UInt64(ring.descriptors), 8)
    try write(0x30, UInt64(ring.driver), 8)
    try write(0x38, UInt64(ring.device), 8)
    try write(0x26, 1, 2)
    rings.append(ring)
    if !callbacks[index] { region.store16(1, at: base + ring.driver) }
  }

  func deleteQueues() throws(DriverError) {
    for ring in rings {
      try writeAnyway(0x1c, UInt64(ring.index), 4)
      try writeAnyway(0x26, 0, 4)
      free(ring.descriptors, ModelRing.bytes(ring.size))
    }
    rings = []
  }

  /// `rmmod`, or the unbinding of the device.
  func remove() throws(DriverError) {
    turn()
    platform.writeState(0)
    platform.setInterruptsEnabled(false)
    try writeAnyway(0x44, 0, 4)
    try deleteQueues()
    // The core gives the device back to the bus.
    try writeAnyway(0x44, status | 1, 4)
  }

  // MARK: Interrupts

  func handleInterrupts() {
    guard !isInHandler else { return }
    isInHandler = true
    defer { isInHandler = false }
    while !link.delivered[peerID].isEmpty {
      let vector = Int(link.delivered[peerID].removeFirst())
      if vectorsInUse == 1 {
        let isConfiguration = handleConfiguration()
        let isQueue = handleQueues()
        if !isConfiguration, !isQueue { spurious += 1 }
      } else if vector == 0 {
        if !handleConfiguration() { spurious += 1 }
      } else if !isPerQueue {
        if vector == 1, !handleQueues() { spurious += 1 }
      } else {
        for index in rings.indices
        where rings[index].driverVector == vector && callbacks[rings[index].index] {
          _ = takeUsed(index)
        }
      }
    }
  }

  private func handleConfiguration() -> Bool {
    if backendState != 1 {
      isBroken = true
      complaints += 1
      region.store8(0, at: base + 0x40)
      region.store8(0, at: base + 0x41)
      return true
    }
    guard region.load8(base + 0x40) & 1 != 0 else { return false }
    region.store8(0, at: base + 0x40)
    configurationChanges += 1
    return true
  }

  private func handleQueues() -> Bool {
    guard region.load8(base + 0x41) & 1 != 0 else { return false }
    region.store8(0, at: base + 0x41)
    var found = false
    for index in rings.indices where takeUsed(index) { found = true }
    return found
  }

  // MARK: The bounce pool

  func order(_ bytes: Int) -> Int {
    var order = 0
    while chunk << order < bytes { order += 1 }
    return order
  }

  /// A naturally aligned run of chunks, zeroed; its address, which is an offset.
  func allocate(_ bytes: Int) -> Int? {
    let run = 1 << order(bytes)
    for first in stride(from: 0, through: chunks.count - run, by: run)
    where !chunks[first..<first + run].contains(true) {
      for index in first..<first + run { chunks[index] = true }
      for byte in 0..<bytes { region.store8(0, at: base + first * chunk + byte) }
      return first * chunk
    }
    return nil
  }

  func free(_ address: Int, _ bytes: Int) {
    let first = address / chunk
    for index in first..<first + 1 << order(bytes) { chunks[index] = false }
  }
}
