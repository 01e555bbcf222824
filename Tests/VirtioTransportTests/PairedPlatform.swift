import IVShmem
import SharedMemory

/// Two peers over one block of memory in one thread: doorbells and state follow ivshmem-v2, a wait
/// never blocks. The smallest platform that can hold the transport's own tests.
@safe
final class PairedMemory {
  private let base: UnsafeMutableRawPointer
  let region: SharedRegion
  let geometry: LinkGeometry
  var armed = [false, false]
  var events = [0, 0]
  var states: [UInt32] = [0, 0]
  var random: UInt64
  var time: UInt64 = 0

  init(geometry: LinkGeometry, seed: UInt64, garbage: Bool) {
    let base = UnsafeMutableRawPointer.allocate(byteCount: geometry.totalSize, alignment: 4096)
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: geometry.totalSize)
    region = unsafe SharedRegion(unsafeBase: base, count: geometry.totalSize)
    unsafe self.base = base
    self.geometry = geometry
    random = seed
    if garbage {
      for offset in stride(from: 0, to: geometry.totalSize, by: 8) {
        region.store64(next(), at: offset)
      }
    }
  }

  deinit { unsafe base.deallocate() }

  func next() -> UInt64 {
    random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return random ^ random >> 29
  }

  func raise(_ peer: Int) {
    guard armed[peer] else { return }
    armed[peer] = false
    events[peer] += 1
  }
}

struct PairedPlatform: Platform, ~Copyable {
  let memory: PairedMemory
  let peerID: PeerID
  var vectors: UInt16 = 1

  var capabilities: PlatformCapabilities { .unalignedSafe | .oneShotInterrupts | .pinnable }
  var geometry: LinkGeometry { memory.geometry }
  var vectorCount: UInt16 { vectors }
  var region: SharedRegion { memory.region }

  mutating func writeState(_ value: UInt32) {
    let own = Int(peerID.rawValue)
    memory.region.store32(value, at: memory.geometry.stateWord(of: peerID))
    guard memory.states[own] != value else { return }
    memory.states[own] = value
    memory.raise(1 - own)
  }

  mutating func readState() -> UInt32 { memory.states[Int(peerID.rawValue)] }
  mutating func setInterruptsEnabled(_ isEnabled: Bool) {
    memory.armed[Int(peerID.rawValue)] = isEnabled
  }
  mutating func interruptsEnabled() -> Bool { memory.armed[Int(peerID.rawValue)] }
  mutating func ringDoorbell(_ vector: Vector, at peer: PeerID) {
    guard vector.rawValue < vectors else { return }
    memory.raise(Int(peer.rawValue))
  }

  mutating func wait(until deadline: Instant?) -> WaitOutcome {
    let own = Int(peerID.rawValue)
    guard memory.events[own] > 0 else { return .deadline }
    memory.events[own] = 0
    return .event
  }

  func now() -> Instant { Instant(nanoseconds: memory.time) }
  mutating func randomNumber() -> UInt64 { memory.next() }
}
