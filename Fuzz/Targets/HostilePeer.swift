import IVShmem
import SharedMemory
import Simulator
import VirtioDevice
import VirtioTransport

/// A front-end's hands, with the rights of a front-end and no manners.
struct HostilePeer: ~Copyable {
  struct Ring {
    let table: Int
    let available: Int
    let used: Int
  }

  var native: NativeLink<ScheduledPeer>
  var transactions = DriverTransactions()
  let region: SharedRegion
  let plan: LinkPlan

  /// Whether slots 0 and 1 hold network devices.
  let isNetwork: Bool

  init(_ link: ScheduledLink, isNetwork: Bool = false) {
    self.isNetwork = isNetwork
    native = FuzzLinks.native(.frontEnd, link)
    region = native.region
    plan = native.plan
  }

  func queueCount(_ slot: Int) -> Int { isNetwork ? [3, 3, 1][slot] : [2, 6, 1][slot] }

  /// What a front-end may write.
  var writable: Range<Int> {
    plan.placement == .shared
      ? plan.deviceBlock..<plan.driverPool.upperBound
      : plan.driverBlock..<plan.driverPool.upperBound
  }

  /// Where the rings of a queue lie: no queue shares a byte with another one.
  func ring(_ slot: Int, _ queue: Int) -> Ring {
    let index = (isNetwork ? [0, 3, 8] : [0, 2, 8])[slot] + queue
    let table = plan.driverPool.lowerBound + index * 0x200
    return Ring(
      table: table, available: table + 0x100,
      used: plan.devicePool.lowerBound + 0x1400 + index * 0x100)
  }

  /// The parts of a ring that are the driver's to initialise.
  func clear(_ ring: Ring) {
    for offset in stride(from: 0, to: 0x200, by: 8) { region.store64(0, at: ring.table + offset) }
  }

  mutating func answer() {
    guard native.owesAnswer else { return }
    native.answer { region, block in
      region.fill(region.ownRange(block + 0x100..<block + 0x900), with: 0)
    }
  }

  /// Asks for an access; `false` while that is not possible.
  mutating func ask(
    _ operation: TransactionOperation, _ slot: Int, _ offset: Int, _ width: UInt8, _ value: UInt64
  ) -> Bool {
    guard native.isUp, !transactions.isOpen(slot: slot) else { return false }
    transactions.request(
      operation, slot: slot, offset: offset, width: width, value: value, on: &native)
    return true
  }

  mutating func takeAnswer(_ slot: Int) -> TransactionAnswer? {
    transactions.answer(slot: slot, on: &native)
  }

  // MARK: Values

  func value(_ input: inout FuzzInput) -> UInt64 {
    let choice = input.byte()
    let known: [UInt64] = [
      0, 1, 2, 3, 0xb, 0xf, 0x4f, 0x80, 16, 17, 256, 0xffff, 0x7fff_ffff, 0xffff_ffff, .max,
      0x3_0000_0200, 1 << 63, UInt64(plan.deviceBlock), UInt64(plan.driverBlock),
      UInt64(plan.driverPool.lowerBound), UInt64(plan.driverPool.upperBound),
      UInt64(plan.devicePool.lowerBound), UInt64(plan.devicePool.upperBound),
      UInt64(plan.whole.upperBound), UInt64(plan.whole.upperBound) - 1,
    ]
    switch choice {
    case 0..<100: return known[Int(choice) % known.count]
    case 100..<200: return UInt64(choice - 100)
    case 200..<230: return UInt64(plan.driverPool.lowerBound) + UInt64(input.half())
    case 230..<245: return UInt64(input.half())
    default: return input.long()
    }
  }

  func register(_ input: inout FuzzInput) -> Int {
    let known = [
      0x70, 0x24, 0x20, 0x14, 0x10, 0x30, 0x38, 0x44, 0x80, 0x84, 0x90, 0x94, 0xa0, 0xa4, 0xc0,
      0x50, 0x64, 0x34, 0xfc, 0xac, 0x100, 0x104, 0x108, 0x120, 0x13c,
    ]
    let choice = Int(input.byte())
    return choice < 200 ? known[choice % known.count] : Int(input.half()) % 0x240
  }

  // MARK: Rings

  /// A chain of up to four descriptors with plausible contents, made available.
  mutating func offer(_ input: inout FuzzInput) {
    let choice = input.byte()
    let slot = [0, 0, 1, 2][Int(choice & 3)]
    let queue = Int(choice >> 2 & 7) % queueCount(slot)
    let ring = ring(slot, queue)
    let first = Int(input.byte() & 15)
    let shape = input.byte()
    let count = Int(shape & 3) + 1
    let isIndirect = shape & 4 != 0
    let table = isIndirect ? plan.driverPool.lowerBound + 0x3000 : ring.table
    for index in 0..<count {
      let entry = isIndirect ? index : (first + index) & 15
      let next = isIndirect ? index + 1 : (first + index + 1) & 15
      let isLast = index == count - 1
      // Readable first, then writable; one in eight shapes breaks the rule.
      let isDisk = slot == 0 && !isNetwork
      let isFrame = isNetwork && slot < 2 && queue == 1
      var isBehind = index >= Int(shape >> 3 & 3) + (isDisk ? 1 : 0)
      // What is received has room alone, what is sent and commands begin readable.
      if isNetwork, slot < 2 { isBehind = queue == 0 || (queue == 2 && isLast) }
      let isWritable = isBehind != (shape & 0xe0 == 0xe0)
      var length = UInt32(input.byte()) << UInt32(shape >> 5 & 3)
      if isDisk, index == 0 { length = 16 }
      if isFrame, index == 0 { length += 26 }
      let address = segment(index, isWritable, &input)
      if isDisk, index == 0 { header(Int(truncatingIfNeeded: address), &input) }
      if isNetwork, slot < 2, queue > 0, index == 0 {
        netBytes(Int(truncatingIfNeeded: address), isFrame, &input)
      }
      write(
        table + 16 * entry, address, length,
        (isLast ? 0 : 1) | (isWritable ? 2 : 0), UInt16(next))
    }
    if isIndirect {
      write(ring.table + 16 * first, UInt64(table), UInt32(16 * count), 4, 0)
    }
    let index = region.load16(ring.available + 2)
    region.store16(UInt16(first), at: ring.available + 4 + 2 * Int(index & 15))
    region.store16Releasing(index &+ 1, at: ring.available + 2)
  }

  private func segment(_ index: Int, _ isWritable: Bool, _ input: inout FuzzInput) -> UInt64 {
    let place = input.byte()
    let pool = isWritable ? plan.devicePool : plan.driverPool
    return place < 240
      ? UInt64(pool.lowerBound + 0x4000 + Int(place) * 64 + index * 0x1000) : value(&input)
  }

  /// A block request's header, where the front-end may write it.
  private func header(_ address: Int, _ input: inout FuzzInput) {
    let types: [UInt32] = [0, 1, 4, 8, 11, 13, 0, 1]
    let choice = input.byte()
    guard address & 7 == 0, plan.driverPool.contains(address), address + 16 <= writable.upperBound
    else { return }
    region.store32(choice < 240 ? types[Int(choice & 7)] : input.word(), at: address)
    region.store64(choice & 8 == 0 ? UInt64(choice >> 4) : value(&input), at: address + 8)
  }

  /// The start of a frame with its header, or of a command, where the front-end may write it.
  private func netBytes(_ address: Int, _ isFrame: Bool, _ input: inout FuzzInput) {
    let choice = input.byte()
    guard plan.driverPool.contains(address), address + 80 <= writable.upperBound else { return }
    var bytes = [UInt8](repeating: 0, count: 80)
    if isFrame {
      // TCP over IPv4 or IPv6 to be finished or cut, or anything else.
      let isIPv6 = choice & 2 != 0
      let transport = isIPv6 ? 54 : 34
      if choice & 1 == 0 {
        bytes[0] = 1
        bytes[1] = choice & 4 == 0 ? (isIPv6 ? 4 : 1) : 0
        bytes[4] = input.byte()
        bytes[6] = UInt8(transport)
        bytes[8] = 16
      }
      bytes[12] = choice & 8 == 0 ? 2 : 0xff
      bytes[18] = 2
      if isIPv6 {
        bytes.replaceSubrange(24..<27, with: [0x86, 0xdd, 0x60])
        bytes[32] = 6
      } else {
        bytes.replaceSubrange(24..<27, with: [0x08, 0x00, 0x45])
        bytes[35] = 6
      }
      if 12 + transport + 12 < 80 { bytes[12 + transport + 12] = 0x50 }
      if choice & 0x30 == 0 { bytes[Int(input.byte()) % 80] = input.byte() }
    } else {
      bytes[0] = choice & 7
      bytes[1] = choice >> 3 & 7
      for index in 2..<12 { bytes[index] = choice & 0x40 == 0 ? 0 : input.byte() }
      bytes[2] = choice >> 6
    }
    for index in bytes.indices { region.store8(bytes[index], at: address + index) }
  }

  private func write(
    _ place: Int, _ address: UInt64, _ count: UInt32, _ flags: UInt16, _ next: UInt16
  ) {
    region.store64(address, at: place)
    region.store32(count, at: place + 8)
    region.store16(flags, at: place + 12)
    region.store16(next, at: place + 14)
  }

  /// A stray half-word in the rings.
  func scribble(_ input: inout FuzzInput) {
    let offset = Int(input.half()) % 0x2800 & ~1
    region.store16(
      UInt16(truncatingIfNeeded: value(&input)), at: plan.driverPool.lowerBound + offset)
  }

  /// Moves an available index, flags or used event.
  func advance(_ input: inout FuzzInput) {
    let choice = input.byte()
    let slot = Int(choice & 3) % 3
    let ring = ring(slot, Int(choice >> 2 & 7) % queueCount(slot))
    switch choice >> 5 {
    case 0...3:
      let index = region.load16(ring.available + 2)
      region.store16(index &+ UInt16(input.byte() & 31), at: ring.available + 2)
    case 4: region.store16(UInt16(input.byte()), at: ring.available)
    case 5: region.store16(input.half(), at: ring.available + 4 + 32)
    default:
      region.store16(UInt16(input.byte() & 31), at: ring.available + 4 + 2 * Int(choice & 15))
    }
  }

  /// A request word of this pairing or another one, with or without waiting for answers.
  func request(_ slot: Int, _ input: inout FuzzInput) {
    let base = plan.driverBlock + BlockLayout.driverSlot(slot)
    let choice = input.byte()
    region.store32(choice & 1 == 0 ? 0x402 : UInt32(input.half()), at: base + 8)
    region.store32(UInt32(register(&input)), at: base + 12)
    region.store64(value(&input), at: base + 16)
    guard choice & 2 == 0, let device = native.peerEpoch else {
      return region.store64(value(&input), at: base)
    }
    let word = TransactionWord(
      driver: native.epoch, device: device, sequence: UInt16(input.byte()) + 1)
    region.store64Releasing(word.rawValue, at: base)
  }
}
