import SharedMemory

/// The driver's side of one split ring, by hand: nothing of `Virtqueue` is used.
struct ModelRing {
  let index: Int
  let size: Int
  /// Offsets from the start of the section.
  let descriptors: Int
  let deviceVector: Int
  let driverVector: Int
  var nextAvailable: UInt16 = 0
  var lastUsed: UInt16 = 0
  var freeDescriptors: [Int]
  var open: [Int: ModelRequest] = [:]
  var finished: [ModelRequest] = []
  /// Elements of the used ring that named nothing that was open.
  var strange = 0

  var driver: Int { descriptors + 16 * size }
  var device: Int { (driver + 6 + 2 * size + 63) & ~63 }
  static func bytes(_ size: Int) -> Int { ((16 * size + 6 + 2 * size + 63) & ~63) + 6 + 8 * size }

  init(index: Int, size: Int, descriptors: Int, deviceVector: Int, driverVector: Int) {
    self.index = index
    self.size = size
    self.descriptors = descriptors
    self.deviceVector = deviceVector
    self.driverVector = driverVector
    freeDescriptors = Array((0..<size).reversed())
  }
}

/// One chain: parts in the bounce pool.
struct ModelRequest {
  struct Part {
    let address: Int
    let count: Int
    let isForDevice: Bool
  }
  var parts: [Part] = []
  var descriptors: [Int] = []
  /// What the device says it wrote.
  var written = 0
  /// Copied out of the bounce pool when it is done.
  var result: [UInt8] = []
  var tag = 0
}

extension LinuxDriver {
  /// Puts a chain into a ring: bytes for the device, then room for its answer. `false` when there
  /// is no room.
  func submit(_ ringIndex: Int, out: [[UInt8]], answer: [Int], tag: Int = 0) -> Bool {
    guard ringIndex < rings.count, !isBroken,
      rings[ringIndex].freeDescriptors.count >= out.count + answer.count
    else { return false }
    var request = ModelRequest()
    request.tag = tag
    for bytes in out {
      guard let address = allocate(bytes.count) else { return giveUp(request) }
      for (index, byte) in bytes.enumerated() {
        region.store8(byte, at: base + address + index)
      }
      request.parts.append(.init(address: address, count: bytes.count, isForDevice: true))
    }
    for count in answer {
      guard let address = allocate(count) else { return giveUp(request) }
      request.parts.append(.init(address: address, count: count, isForDevice: false))
    }
    for _ in request.parts {
      request.descriptors.append(rings[ringIndex].freeDescriptors.removeLast())
    }
    let ring = rings[ringIndex]
    for (index, part) in request.parts.enumerated() {
      let entry = ring.descriptors + 16 * request.descriptors[index]
      let isLast = index == request.parts.count - 1
      store(entry, UInt64(part.address), 8)
      store(entry + 8, UInt64(part.count), 4)
      store(entry + 12, (isLast ? 0 : 1) | (part.isForDevice ? 0 : 2), 2)
      store(entry + 14, isLast ? 0 : UInt64(request.descriptors[index + 1]), 2)
    }
    let head = request.descriptors[0]
    rings[ringIndex].open[head] = request
    store(ring.driver + 4 + 2 * (Int(ring.nextAvailable) % ring.size), UInt64(head), 2)
    rings[ringIndex].nextAvailable &+= 1
    store(ring.driver + 2, UInt64(rings[ringIndex].nextAvailable), 2)
    if load(ring.device, 2) & 1 == 0 { self.ring(ring.deviceVector) }
    return true
  }

  private func giveUp(_ request: ModelRequest) -> Bool {
    for part in request.parts { free(part.address, part.count) }
    return false
  }

  /// `vring_interrupt`: takes what is used; whether there was anything.
  func takeUsed(_ index: Int) -> Bool {
    var found = false
    while true {
      let ring = rings[index]
      let used = region.load16(base + ring.device + 2)
      guard used != ring.lastUsed else { return found }
      found = true
      let element = base + ring.device + 4 + 8 * (Int(ring.lastUsed) % ring.size)
      rings[index].lastUsed &+= 1
      let head = Int(region.load32(element))
      guard var request = rings[index].open.removeValue(forKey: head) else {
        rings[index].strange += 1
        continue
      }
      request.written = Int(region.load32(element + 4))
      for part in request.parts {
        if !part.isForDevice {
          request.result += (0..<part.count).map { region.load8(base + part.address + $0) }
        }
        free(part.address, part.count)
      }
      rings[index].freeDescriptors += request.descriptors
      rings[index].finished.append(request)
    }
  }

  // MARK: Block requests

  static func header(_ type: UInt32, _ sector: UInt64) -> [UInt8] {
    var bytes: [UInt8] = []
    for shift in 0..<4 { bytes.append(UInt8(type >> UInt32(8 * shift) & 0xff)) }
    bytes += [0, 0, 0, 0]
    for shift in 0..<8 { bytes.append(UInt8(sector >> UInt64(8 * shift) & 0xff)) }
    return bytes
  }

  func read(sector: UInt64, tag: Int = 0) -> Bool {
    submit(0, out: [Self.header(0, sector)], answer: [512, 1], tag: tag)
  }

  func writeSector(_ sector: UInt64, _ byte: UInt8, tag: Int = 0) -> Bool {
    submit(
      0, out: [Self.header(1, sector), [UInt8](repeating: byte, count: 512)], answer: [1], tag: tag)
  }
}
