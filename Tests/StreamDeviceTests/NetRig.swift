import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// A frame and what is undone in it.
struct TestFrame: Equatable {
  var bytes: [UInt8]
  var offload = FrameOffload()
}

/// A network in memory: what the test puts in comes out, what the driver sends is kept.
struct ScriptedNetHost: NetHost, ~Copyable {
  var address = MACAddress(rawValue: 0x01_00_00_00_00_02)
  var mtu = 1500
  var takesOffloads = true
  var isLinkUp = true
  var hasNews = true
  var wantsAnnouncement = false
  var isActive = false
  /// Frames for the driver.
  var incoming: [TestFrame] = []
  /// Frames of the driver.
  var outgoing: [TestFrame] = []
  /// Frames that may still be taken.
  var room = Int.max
  var drops = false
  /// The address the driver was given last, and whether it gets one.
  var given: MACAddress?
  var grantsAddress = true

  mutating func takeEvents() -> Bool {
    defer { hasNews = false }
    return hasNews
  }
  mutating func takeAnnouncementRequest() -> Bool {
    defer { wantsAnnouncement = false }
    return wantsAnnouncement
  }
  func requestLook() {}
  mutating func setActive(_ isActive: Bool) { self.isActive = isActive }
  mutating func receive(into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload) -> Int
  {
    guard !incoming.isEmpty else { return 0 }
    let frame = incoming.removeFirst()
    for (index, byte) in frame.bytes.enumerated() { bytes[index] = byte }
    offload = frame.offload
    return frame.bytes.count
  }
  mutating func send(_ frame: Span<UInt8>, _ offload: FrameOffload) -> NetSend {
    if drops { return .dropped }
    guard room > 0 else { return .full }
    if room != .max { room -= 1 }
    outgoing.append(TestFrame(bytes: frame.indices.map { frame[$0] }, offload: offload))
    return .taken
  }
  mutating func setAddress(_ address: MACAddress) -> Bool {
    if grantsAddress { given = address }
    return grantsAddress
  }
}

typealias NetRig = DeviceRig<NetDevice<ScriptedNetHost>>

/// A network device over a scripted network.
func netRig(pairs: Int = 1, queueSize: UInt32 = 64) throws -> NetRig {
  let books = RigMemory(1 << 19, alignment: 64, filledWith: 0)
  var arena = unsafe PrivateArena(unsafeBase: books.base, count: 1 << 19)
  guard let size = QueueSize(queueSize),
    let device = NetDevice(
      host: ScriptedNetHost(), pairs: pairs, maximumQueueSize: size, arena: &arena)
  else { preconditionFailure("the books are large enough") }
  precondition(arena.used <= NetDevice<ScriptedNetHost>.privateBytes(queueSize: size))
  return try NetRig(device, keeping: books, queueSize: queueSize)
}

/// One driver queue with its buffers, by hand. Buffers are not used twice.
struct NetHand: ~Copyable {
  var queue: DriverQueue
  var spot: Int

  init(_ rig: inout NetRig, _ index: Int) throws {
    queue = try rig.enable(index)
    spot = NetRig.dataBase + index * 0x60000
  }

  /// Puts a chain up: readable bytes, cut into pieces, then writable pieces. Its token is where
  /// the writable pieces start.
  mutating func put(
    _ rig: borrowing NetRig, _ bytes: [UInt8], cut: Int = .max, writable: [Int] = []
  ) throws {
    rig.store(bytes, at: spot)
    var readable: [BufferSegment] = []
    var start = 0
    while start < bytes.count {
      let count = min(cut, bytes.count - start)
      readable.append(BufferSegment(offset: spot + start, count: count))
      start += count
    }
    spot += bytes.count
    let token = UInt32(spot)
    let pieces = writable.map { count in
      defer { spot += count }
      return BufferSegment(offset: spot, count: count)
    }
    try queue.add(readable: readable.span, writable: pieces.span, token: token)
    _ = queue.publish()
  }

  /// Sends a frame behind a header.
  mutating func send(
    _ rig: borrowing NetRig, _ header: NetHeader, _ frame: [UInt8], cut: Int = .max
  ) throws {
    try put(rig, bytes(of: header) + frame, cut: cut)
  }

  /// The bytes of the next answer.
  mutating func take(_ rig: borrowing NetRig) throws -> [UInt8]? {
    guard let used = try queue.takeUsed() else { return nil }
    return rig.load(Int(used.token), Int(used.written))
  }

  /// Sends a command and returns the answer, after one settling of the device.
  mutating func command(_ rig: inout NetRig, _ bytes: [UInt8]) throws -> UInt8? {
    try put(rig, bytes, writable: [1])
    try rig.settle()
    return try take(rig)?.first
  }
}

func bytes(of header: NetHeader) -> [UInt8] {
  (0..<NetFormat.headerSize).map { header.byte(at: $0) }
}

func bytes(of address: MACAddress) -> [UInt8] { (0..<6).map { address.byte(at: $0) } }

/// Frames the tests send: built byte by byte, apart from the code under test.
enum Frames {
  static let driver = MACAddress(rawValue: 0x01_00_00_00_00_02)
  static let other = MACAddress(rawValue: 0x02_00_00_00_00_02)

  static func plain(_ count: Int, to: MACAddress = driver, from: MACAddress = other) -> [UInt8] {
    bytes(of: to) + bytes(of: from) + [0x88, 0xb5]
      + (14..<max(14, count)).map { UInt8(truncatingIfNeeded: $0 &* 7) }
  }

  static func word(_ value: Int) -> [UInt8] { [UInt8(value >> 8 & 255), UInt8(value & 255)] }

  /// The Internet checksum, one 16-bit addition after the other.
  static func checksum(_ bytes: [UInt8]) -> UInt16 {
    var sum: UInt32 = 0
    for index in stride(from: 0, to: bytes.count, by: 2) {
      let low = index + 1 < bytes.count ? UInt32(bytes[index + 1]) : 0
      sum += UInt32(bytes[index]) * 256 + low
      if sum > 0xffff { sum -= 0xffff }
    }
    return ~UInt16(sum)
  }

  /// A TCP frame over IPv4 or IPv6, with a tag or without, whose checksum holds the pseudo header's
  /// sum: as a driver sends it.
  static func tcp(
    _ payload: [UInt8], isIPv6: Bool = false, tagged: Bool = false, flags: UInt8 = 0x99,
    port: Int = 1000
  ) -> [UInt8] {
    var frame = bytes(of: driver) + bytes(of: other)
    if tagged { frame += [0x81, 0, 0, 5] }
    let length = 20 + payload.count
    let addresses: [UInt8]
    if isIPv6 {
      addresses = (0..<32).map { UInt8($0 * 3) }
      frame += [0x86, 0xdd, 0x60, 0, 0, 0] + word(length) + [6, 64] + addresses
    } else {
      addresses = [10, 0, 0, 1, 10, 0, 0, 2]
      var header = [0x45, 0] + word(20 + length) + [0x12, 0xff, 0x40, 0, 64, 6, 0, 0] + addresses
      let sum = checksum(header)
      header[10] = UInt8(sum >> 8)
      header[11] = UInt8(sum & 255)
      frame += [0x08, 0x00] + header
    }
    let pseudo = ~checksum(addresses + [0, 6] + word(length))
    frame += word(port) + word(80) + [0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 9, 0x50, flags, 1, 0]
    frame += word(Int(pseudo)) + [0, 0]
    return frame + payload
  }

  /// Where TCP starts in such a frame.
  static func tcpStart(_ isIPv6: Bool, _ tagged: Bool) -> Int {
    14 + (tagged ? 4 : 0) + (isIPv6 ? 40 : 20)
  }

  /// The header a driver puts in front of it.
  static func header(isIPv6: Bool, tagged: Bool = false, size: UInt16) -> NetHeader {
    var header = NetHeader()
    header.flags = 1
    header.segmentationType = size == 0 ? 0 : isIPv6 ? 4 : 1
    header.segmentSize = size
    header.checksumStart = UInt16(tcpStart(isIPv6, tagged))
    header.checksumOffset = 16
    return header
  }

  /// Whether the TCP checksum of a frame is right.
  static func isWhole(_ frame: [UInt8], isIPv6: Bool, tagged: Bool = false) -> Bool {
    let start = tcpStart(isIPv6, tagged)
    let network = 14 + (tagged ? 4 : 0)
    let addresses = isIPv6 ? frame[network + 8..<network + 40] : frame[network + 12..<network + 20]
    let pseudo = Array(addresses) + [0, 6] + word(frame.count - start)
    guard checksum(pseudo + Array(frame[start...])) == 0 else { return false }
    return isIPv6 || checksum(Array(frame[network..<network + 20])) == 0
  }
}
