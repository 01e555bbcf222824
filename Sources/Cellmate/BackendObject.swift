import CCellmate
import CLinux
import DeviceRuntime
import IVShmem
import SharedMemory
import VirtioTransport

/// A back-end behind a handle.
@safe
struct BackendObject: HandleObject, ~Copyable {
  static var kind: HandleKind { .backend }
  let memory: ObjectMemory
  var backend: Backend<LibraryPlatform, LibraryDevice>
  /// What the caller's devices have open, by slot; `nil` for other slots. Beside the back-end, so
  /// that callbacks reach it while the back-end is at work.
  var pending: InlineArray<8, PendingRequests?>
  /// The devices' memory, by slot.
  var deviceMemory: InlineArray<8, ObjectMemory?>
  /// Ends a sleep; written by any thread.
  let wakeDescriptor: Int32
  /// Not 0 when ``BackendObject/run(spin:)`` shall end; written by any thread.
  var stopWord: UInt32 = 0
  var isStarted = false

  static func make(_ link: consuming NativeLink<LibraryPlatform>) throws(FaceError) -> OpaquePointer
  {
    let memory = try ObjectMemory(MemoryLayout<BackendObject>.stride + (1 << 20))
    var arena = memory.arena(behind: MemoryLayout<BackendObject>.stride)
    let wake = link.platform.wakeDescriptor
    guard let backend = Backend<LibraryPlatform, LibraryDevice>(link: link, arena: &arena) else {
      memory.free()
      throw FaceError(Code.memory)
    }
    return unsafe try open(
      BackendObject(
        memory: memory, backend: backend, pending: InlineArray(repeating: nil),
        deviceMemory: InlineArray(repeating: nil), wakeDescriptor: wake))
  }

  /// Puts a device into a free slot; `make` builds it in the memory it is given.
  mutating func add(
    slot: UInt32, size: Int,
    _ make: (inout PrivateArena) throws(FaceError) -> LibraryDevice
  ) throws(FaceError) {
    guard slot < UInt32(BlockLayout.slotCount) else { throw FaceError(Code.argument) }
    let index = Int(slot)
    guard !isStarted, !backend.slots.isOccupied(index) else { throw FaceError(Code.order) }
    let memory = try ObjectMemory(size)
    var arena = memory.arena(behind: 0)
    do throws(FaceError) {
      let device = try make(&arena)
      guard backend.add(device, at: index, arena: &arena) else { throw FaceError(Code.memory) }
      deviceMemory[index] = memory
    } catch {
      memory.free()
      throw error
    }
  }

  mutating func start() {
    guard !isStarted else { return }
    isStarted = true
    backend.start()
  }

  var mustStop: Bool {
    // Another thread writes the word: it is looked at with an atomic load.
    mutating get { unsafe cl_word_load(&stopWord) != 0 }
  }

  /// Serves until it is asked to stop.
  mutating func run(spin: UInt64) throws(FaceError) {
    start()
    var idleSince: UInt64 = 0
    while !mustStop {
      if backend.step() == .busy {
        idleSince = 0
        continue
      }
      if spin > 0 {
        let now = backend.link.platform.now().nanoseconds
        if idleSince == 0 { idleSince = now }
        if now - idleSince < spin {
          Ordering.spinHint()
          continue
        }
      }
      idleSince = 0
      if backend.sleep(until: nil) == .gone { throw FaceError(Code.gone) }
    }
    drain()
  }

  /// Lets requests end, at most five seconds, and tells the front-end.
  private mutating func drain() {
    backend.quiesce()
    let end = backend.link.platform.now().advanced(byNanoseconds: 5_000_000_000)
    while !backend.isQuiet, backend.link.platform.now() < end {
      if backend.step() == .idle { _ = backend.sleep(until: end) }
    }
    leave()
  }

  mutating func leave() {
    guard isStarted else { return }
    isStarted = false
    backend.leave()
  }

  /// Leaves and takes the devices down, before the memory they work on is unmapped.
  consuming func takeDown() {
    leave()
    backend.removeDevices()
    for slot in 0..<BlockLayout.slotCount {
      if let memory = deviceMemory[slot] { memory.free() }
    }
  }
}
