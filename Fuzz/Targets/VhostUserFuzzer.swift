import CLinux
import HostResources
import LinuxSupport
import SharedMemory
import VhostUser
import VirtioBlock
import VirtioDevice
import Virtqueue

/// A front-end that is played by bytes: messages with descriptors, stores to its memory, kicks,
/// vanishing memory. Whatever the bytes say, the device may end the connection and nothing worse.
///
/// One device serves run after run, as one back-end process serves front-end after front-end.
@safe
public final class VhostUserFuzzer {
  typealias Host = FaultyBlockHost<MemoryBlockHost>

  typealias Input = FuzzInput

  /// Messages that were carried out, over all runs.
  public private(set) var messages: UInt64 = 0
  /// Connections that ended because of what the bytes said.
  public private(set) var violations: UInt64 = 0
  /// What was played, for people.
  public var summary: String { "\(messages) messages, \(violations) violations" }
  private var device: VhostUserDevice<BlockDevice<Host>>
  private var message = VhostUserMessage()
  private var reply = VhostUserMessage()
  private let memory: DriverMemory
  private let spare: Descriptor
  private let event: Descriptor
  private let epoll: Descriptor

  static var memoryBytes: Int { 1 << 20 }

  /// Makes the device and the descriptors that messages may carry.
  public init() throws {
    func arena(_ count: Int) -> PrivateArena {
      // A fuzzer lives as long as its process.
      let block = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 64)
      return unsafe PrivateArena(unsafeBase: block, count: count)
    }
    var plan = Host.Plan()
    plan.delayChance = 64
    plan.delayLimit = 3
    plan.errorChance = 8
    var books = arena(1 << 20)
    guard let size = QueueSize(16) else { preconditionFailure("16 is a size") }
    guard
      let block = BlockDevice(
        host: Host(MemoryBlockHost(byteCount: 64 << 10), plan: plan), queueCount: 2,
        maximumQueueSize: size, slots: 8, arena: &books)
    else { preconditionFailure("the books hold a device") }
    memory = try DriverMemory.make(Self.memoryBytes, arena: &books)
    spare = try Descriptor(unsafe cl_memfd("cellmate-fuzz"))
    event = try Descriptor(cl_eventfd())
    epoll = try Descriptor(cl_epoll())
    var own = arena(VhostUserDevice<BlockDevice<Host>>.privateBytes(queues: 2, size: 16))
    device = try VhostUserDevice.make(block, epoll: epoll.number, arena: &own)
  }

  /// Plays one input, from connection to disconnection.
  public func run(_ bytes: [UInt8]) {
    var input = Input(bytes: bytes)
    _ = cl_truncate(spare.number, Int64(Self.memoryBytes))
    // Rings and buffers of the run before must not decide about this one.
    for offset in stride(from: 0, to: 0x4000, by: 8) { memory.region.store64(0, at: offset) }
    device.begin()
    // Bounded, so that an input of any length ends.
    for _ in 0..<2000 where !input.isAtEnd {
      do throws(VhostUserError) {
        try act(&input)
      } catch {
        violations += 1
        disconnect()
        device.begin()
      }
    }
    disconnect()
  }

  private func act(_ input: inout Input) throws(VhostUserError) {
    let kind = input.byte()
    switch kind & 15 {
    case 0...4: try send(&input)
    case 5: try negotiate()
    case 6: try enable(UInt32(input.byte() & 1), &input)
    case 7, 8: offer(&input)
    case 9:
      let offset = Int(input.word() & 0x3ffc)
      memory.region.store32(input.word(), at: offset)
    case 10: for _ in 0..<8 { _ = try device.step() }
    case 11: _ = try device.step(isDraining: true)
    case 12:
      _ = device.prepareToSleep()
      device.wake()
    case 13:
      let size = Int64(input.byte()) << 12
      _ = cl_truncate(spare.number, kind & 16 == 0 ? size : Int64(Self.memoryBytes))
    case 14: _ = device.takeBrokenRing()
    default:
      disconnect()
      device.begin()
    }
  }

  private func disconnect() {
    device.abort()
    // Delayed requests end within a few looks.
    for _ in 0..<1000 where !device.isQuiet {
      do throws(VhostUserError) { _ = try device.step(isDraining: true) } catch {}
    }
    device.end()
    message.clear()
  }

  // MARK: Messages

  private func give() throws(VhostUserError) {
    // A message that waits for requests in flight is given again, as the socket's loop does.
    for _ in 0..<1000 {
      guard try device.handle(&message, reply: &reply) == .wait else { break }
      _ = try device.step(isDraining: true)
    }
    messages += 1
  }

  private func send(_ input: inout Input) throws(VhostUserError) {
    let request = UInt32(input.byte() % 48)
    let flags = input.byte()
    let count = Int(input.byte() % 72)
    var payload: [UInt8] = []
    for _ in 0..<count { payload.append(input.byte()) }
    // Addresses near the truth are worth more than random ones.
    if flags & 16 != 0, payload.count >= 16 {
      let base = flags & 32 != 0 ? DriverMemory.userBase : DriverMemory.guestBase
      for place in stride(from: 8, through: payload.count - 8, by: 8) {
        for byte in 2..<8 { payload[place + byte] = UInt8(base >> UInt64(8 * byte) & 0xff) }
      }
    }
    let passed = flags >> 6
    let kinds = input.byte()
    let descriptors = (0..<Int(passed)).compactMap { index in
      duplicate(Int(kinds >> (2 * UInt8(index)) & 3))
    }
    message.fill(
      request: request, flags: UInt32(flags & 8) | (flags & 1 == 0 ? 1 : UInt32(flags & 7)),
      payload: payload, descriptors: descriptors)
    try give()
  }

  private func duplicate(_ kind: Int) -> Int32? {
    let number = [memory.descriptor, event.number, spare.number, event.number][kind]
    let made = cl_duplicate(number)
    return made >= 0 ? Int32(truncatingIfNeeded: made) : nil
  }

  private func give(_ request: VhostUserRequest, _ words: [UInt64], _ kind: Int? = nil)
    throws(VhostUserError)
  {
    var payload: [UInt8] = []
    for word in words {
      for byte in 0..<8 { payload.append(UInt8(truncatingIfNeeded: word >> UInt64(8 * byte))) }
    }
    let descriptors = kind.flatMap { duplicate($0) }.map { [$0] } ?? []
    message.fill(request: request.rawValue, payload: payload, descriptors: descriptors)
    try give()
  }

  private func negotiate() throws(VhostUserError) {
    try give(.setProtocolFeatures, [ProtocolFeatures.all.rawValue])
    try give(.setFeatures, [device.offered])
    try give(
      .setMemoryTable,
      [1, DriverMemory.guestBase, UInt64(Self.memoryBytes), DriverMemory.userBase, 0], 0)
  }

  private func enable(_ queue: UInt32, _ input: inout Input) throws(VhostUserError) {
    let index = UInt64(queue)
    let ring = DriverMemory.userBase + UInt64(ringOffset(queue))
    try give(.setVringSize, [index | 16 << 32])
    try give(.setVringBase, [index | UInt64(input.byte() & 3) << 32])
    try give(.setVringAddresses, [index, ring, ring + 0x800, ring + 0x400, 0])
    try give(.setVringCall, [index], 1)
    try give(.setVringKick, [index], 1)
    try give(.setVringEnable, [index | 1 << 32])
  }

  // MARK: Rings

  private func ringOffset(_ queue: UInt32) -> Int { Int(queue) * 0x1000 }

  /// Writes a descriptor and makes it available.
  private func offer(_ input: inout Input) {
    let choice = input.byte()
    let ring = ringOffset(UInt32(choice & 1))
    let entry = Int(choice >> 1 & 15)
    let region = memory.region
    let spot = UInt64(input.byte()) << 6
    region.store64(DriverMemory.guestBase + 0x2000 + spot, at: ring + 16 * entry)
    region.store32(UInt32(input.byte()) << 2 | 1, at: ring + 16 * entry + 8)
    region.store16(UInt16(input.byte() & 7), at: ring + 16 * entry + 12)
    region.store16(UInt16(input.byte() & 31), at: ring + 16 * entry + 14)
    guard choice & 0x40 == 0 else { return }
    let index = region.load16(ring + 0x402)
    region.store16(UInt16(entry), at: ring + 0x404 + 2 * Int(index & 15))
    region.store16(index &+ 1, at: ring + 0x402)
  }
}
