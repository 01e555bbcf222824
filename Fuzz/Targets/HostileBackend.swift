import DeviceRuntime
import HostResources
import IVShmem
import SharedMemory
import Simulator
import VirtioTransport

/// A hostile back-end's hands: the production back-end makes the steps, so that set-ups get far,
/// and the bytes store what they like wherever a back-end may: its block, its pool, its State.
@safe
final class HostileBackend {
  /// Where a queue that the front-end uses lies.
  struct Rings {
    let table: Int
    let available: Int
    let used: Int
  }

  /// Turns, over all runs.
  private(set) var actions: UInt64 = 0
  /// What the bytes say; the front-end's user reads from it, too.
  var input = FuzzInput(bytes: [])
  /// Whether the production back-end is alone.
  var isHonest = false
  /// Whether it is for the moment: a set-up is so long that a lie in it would always end it.
  var isBiding = false
  /// The queues that the bytes know of.
  var rings: [Rings] = []
  /// Whether the bytes alone play the device while the front-end uses its queues.
  var isForging = false
  private let slot: Int
  private var link: ScheduledLink
  private let books: [UnsafeMutableRawPointer]
  private var bookIndex = 1
  private var backend: Backend<ScheduledPeer, FuzzedDevice>
  private var isActing = false

  static var bookBytes: Int { 4 << 20 }

  init(_ link: ScheduledLink, slot: Int) {
    self.link = link
    self.slot = slot
    unsafe books = [FuzzLinks.book(Self.bookBytes), FuzzLinks.book(Self.bookBytes)]
    let arena = unsafe PrivateArena(unsafeBase: books[1], count: Self.bookBytes)
    backend = BackendFuzzer.backend(
      BackendFuzzer.standard, link, FuzzedDevice.Medium.Plan(), HostScript(), arena)
  }

  /// A new back-end with new hosts.
  func start(on link: ScheduledLink) {
    self.link = link
    isForging = false
    isBiding = false
    bookIndex = 1 - bookIndex
    let arena = unsafe PrivateArena(unsafeBase: books[bookIndex], count: Self.bookBytes)
    backend = BackendFuzzer.backend(
      BackendFuzzer.standard, link, FuzzedDevice.Medium.Plan(), HostScript(), arena)
    backend.start()
  }

  /// What happens while the front-end waits.
  func turn() {
    guard !isActing else { return }
    isActing = true
    defer { isActing = false }
    // A wait that ends without an event has used up its time.
    link.time &+= 10
    guard !isHonest else {
      for _ in 0..<20 { _ = backend.step() }
      return
    }
    actions += 1
    guard !isBiding else {
      for _ in 0..<4 { _ = backend.step() }
      return
    }
    if !isForging { for _ in 0..<2 { _ = backend.step() } }
    let kind = input.byte()
    // Half of the turns are honest, or nothing would ever be set up and lied about.
    guard kind & 1 != 0, !input.isAtEnd else { return }
    let plan = backend.link.plan
    let region = link.views[0]
    switch kind >> 1 & 7 {
    case 0, 1:
      if isForging { return forge(kind) }
      // The answer to a request: value, result, or a word of another pairing.
      let base = plan.deviceBlock + BlockLayout.deviceSlot(slot)
      let field = [0x00, 0x08, 0x10, 0x10, 0x18, 0x170, 0x1fc, 0x200][Int(input.byte() & 7)]
      region.store64(value(), at: base + (field & ~7))
    case 2, 3, 4:
      if isForging, kind & 16 == 0 { return forge(kind) }
      // Rings and status bytes.
      let start =
        rings.isEmpty
        ? plan.devicePool.lowerBound + Int(input.half()) % 0x2000 & ~1
        : rings[Int(input.byte()) % rings.count].used + Int(input.byte()) % 0x90 & ~1
      region.store16(UInt16(truncatingIfNeeded: value()), at: start)
    case 5:
      let start = plan.deviceBlock + Int(input.half()) % BlockLayout.deviceBlockSize & ~7
      region.store64(value(), at: start)
    case 6:
      if kind & 16 == 0 {
        backend.link.platform.writeState(UInt32(truncatingIfNeeded: value()))
      } else {
        backend.link.platform.ringDoorbell(.zero, at: PeerID(1))
      }
    default: if kind & 48 == 0 { start(on: link) } else { scatter(region, plan) }
    }
  }

  /// Uses the next chain of a queue as a device would: bytes into its first buffer, and a used
  /// element that is right, or says one thing that is not.
  private func forge(_ kind: UInt8) {
    let region = link.views[0]
    let queue = rings[Int(input.byte()) % rings.count]
    let used = region.load16(queue.used + 2)
    let head = region.load16(queue.available + 4 + 2 * Int(used & 15)) & 15
    let descriptor = queue.table + 16 * Int(head)
    let address = Int(truncatingIfNeeded: region.load64(descriptor))
    let room = Int(region.load32(descriptor + 8))
    let flags = region.load16(descriptor + 12)
    let shape = input.byte()
    var count = 0
    if flags & 2 != 0, backend.link.plan.devicePool.contains(address) {
      count = min(room, Int(shape & 31), backend.link.plan.devicePool.upperBound - address)
      // Small numbers at first: a control message of the console is port, event and value.
      for index in 0..<count {
        let byte = index < 8 ? input.byte() & (index & 1 == 0 ? 15 : 0) : input.byte()
        region.store8(shape & 32 == 0 ? byte : input.byte(), at: address + index)
      }
    }
    let isLie = shape & 0xc0 == 0xc0
    let element = queue.used + 4 + 8 * Int(used & 15)
    region.store32(
      isLie && shape & 1 == 0 ? UInt32(truncatingIfNeeded: value()) : UInt32(head), at: element)
    region.store32(
      isLie && shape & 2 == 0 ? UInt32(truncatingIfNeeded: value()) : UInt32(count),
      at: element + 4)
    let step = isLie && shape & 4 == 0 ? UInt16(truncatingIfNeeded: value()) : 1
    region.store16Releasing(used &+ step, at: queue.used + 2)
    if kind & 32 != 0 { backend.link.platform.ringDoorbell(.zero, at: PeerID(1)) }
  }

  /// Bytes, anywhere the back-end may write.
  private func scatter(_ region: SharedRegion, _ plan: LinkPlan) {
    let range = plan.deviceBlock..<plan.devicePool.upperBound
    let start = range.lowerBound + Int(input.word() & 0xff_ffff) % range.count
    let count = min(Int(input.byte() & 15) + 1, range.upperBound - start)
    for offset in 0..<count { region.store8(input.byte(), at: start + offset) }
  }

  private func value() -> UInt64 {
    let known: [UInt64] = [
      0, 1, 2, 3, 0xb, 0xf, 0x4f, 16, 17, 255, 256, 0xffff, 0x7fff_ffff, 0xffff_ffff, .max,
      0x3_0000_0000, 1 << 63,
    ]
    let choice = input.byte()
    switch choice {
    case 0..<170: return known[Int(choice) % known.count]
    case 170..<240: return UInt64(choice - 170)
    default: return input.long()
    }
  }
}
