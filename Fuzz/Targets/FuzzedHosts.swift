import CWatch
import SharedMemory
import VirtioBlock
import VirtioConsole
import VirtioEntropy
import VirtioNet
import Virtqueue

/// A medium that reads a byte outside its chain when it is told to.
struct StrayingBlockHost<Base: BlockHost & ~Copyable>: BlockHost, ~Copyable {
  var base: Base
  let script: HostScript
  var byteCount: UInt64 { base.byteCount }
  var blockSize: UInt32 { base.blockSize }
  var isReadOnly: Bool { base.isReadOnly }
  var canDiscard: Bool { base.canDiscard }
  var limits: BlockLimits { base.limits }
  func identifierByte(at index: Int) -> UInt8 { base.identifierByte(at: index) }

  mutating func submit(
    _ request: BlockRequest, slot: Int, data segments: borrowing ChainSegments, skip: Int,
    in region: SharedRegion
  ) -> BlockSubmission {
    if script.strays { _ = region.load8(region.count - 1) }
    return base.submit(request, slot: slot, data: segments, skip: skip, in: region)
  }

  mutating func nextCompletion() -> BlockHostCompletion? { base.nextCompletion() }
  mutating func cancel() { base.cancel() }
}

/// What the hosts behind console and entropy device do, as a test wants it.
final class HostScript {
  /// Console: bytes on their way back, and who is there.
  var waiting: [[UInt8]] = [[], []]
  var isOpen = [true, true]
  var columns: UInt16 = 80
  /// Console: the most bytes taken or given at once.
  var turn = 100
  var hasEvents = true
  /// Reads a byte outside its chain, which AddressSanitizer has to refuse: while a chain is served
  /// (block and network), or at a look of this device while it holds some.
  var strays = false
  var straysLate: FuzzedDevice.Kind?
  /// Block: the file behind it; private memory when there is none.
  var file: FuzzFile?
  /// Entropy: bytes that can be had.
  var allowance = Int.max
  /// Network: what the host says about the link.
  var isLinkUp = true
  var wantsAnnouncement = false
  var nextRandom: UInt8 = 0
  /// Console: now and then nothing is taken at first.
  var isSlow = false
  private var writes = 0
  /// Who hears what a console port takes, in the place of the echo.
  var hear: ((_ port: Int, _ byte: UInt8) -> Void)?
  /// Who makes random bytes, and who sees frames.
  var makeRandom: (() -> UInt8)?
  var seeFrame: ((_ bytes: [UInt8]) -> Void)?

  /// Nothing reaches a host from a back-end that is dead, and nothing comes.
  var isDead: Bool { cw_is_dead(0) != 0 }

  /// Whether nothing is taken now.
  func isBusy() -> Bool {
    writes += 1
    guard isSlow, writes % 3 == 0 else { return isDead }
    hasEvents = true
    return true
  }
}

/// Two ports that send back what they get, as far as the script lets them.
struct EchoConsoleHost: ConsoleHost, ~Copyable {
  let script: HostScript

  static var limit: Int { 3000 }

  var portCount: Int { 2 }
  var hasSize: Bool { true }
  func nameByte(port: Int, at index: Int) -> UInt8 { index < 4 ? UInt8(0x61 + port) : 0 }
  func size(port: Int) -> ConsoleSize { ConsoleSize(columns: script.columns, rows: 25) }
  func isOpen(port: Int) -> Bool { script.isOpen[port] }
  mutating func takeEvents() -> Bool {
    defer { script.hasEvents = false }
    return script.hasEvents
  }
  func requestLook() { script.hasEvents = true }

  mutating func read(port: Int, into bytes: inout MutableSpan<UInt8>) -> Int {
    guard !script.isDead else { return 0 }
    let count = min(bytes.count, script.waiting[port].count, script.turn)
    for index in 0..<count { bytes[index] = script.waiting[port][index] }
    script.waiting[port].removeFirst(count)
    return count
  }

  mutating func write(port: Int, _ bytes: Span<UInt8>) -> ConsoleWrite {
    guard !script.isBusy() else { return .taken(0) }
    guard script.isOpen[port] else { return .gone }
    let count = min(bytes.count, Self.limit - script.waiting[port].count, script.turn)
    for index in 0..<count {
      if let hear = script.hear {
        hear(port, bytes[index])
      } else {
        script.waiting[port].append(bytes[index])
      }
    }
    if count > 0 { script.hasEvents = true }
    return .taken(count)
  }
}

/// A network that sends back what it gets, with what was left undone: as far as the script lets it.
struct EchoNetHost: NetHost, ~Copyable {
  let script: HostScript
  /// Frames on their way back.
  private var frames: [(bytes: [UInt8], offload: FrameOffload)] = []

  init(script: HostScript) { self.script = script }

  static var limit: Int { 12 }

  var address: MACAddress { MACAddress(rawValue: 2) }
  var mtu: Int { 9000 }
  var takesOffloads: Bool { true }
  var isLinkUp: Bool { script.isLinkUp }
  mutating func takeEvents() -> Bool { true }
  mutating func takeAnnouncementRequest() -> Bool {
    defer { script.wantsAnnouncement = false }
    return script.wantsAnnouncement
  }
  mutating func setActive(_ isActive: Bool) { if !isActive { frames = [] } }
  func requestLook() {}

  mutating func receive(
    into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload
  ) -> Int {
    guard script.turn > 0, !frames.isEmpty, !script.isDead else { return 0 }
    let frame = frames.removeFirst()
    for index in frame.bytes.indices { bytes[index] = frame.bytes[index] }
    offload = frame.offload
    return frame.bytes.count
  }

  mutating func send(_ frame: Span<UInt8>, _ offload: FrameOffload) -> NetSend {
    guard script.isOpen[0] else { return .dropped }
    guard frames.count < Self.limit, script.turn > 1, !script.isDead else { return .full }
    var bytes = [UInt8](repeating: 0, count: frame.count)
    for index in bytes.indices { bytes[index] = frame[index] }
    script.seeFrame?(bytes)
    frames.append((bytes, offload))
    return .taken
  }

  mutating func setAddress(_ address: MACAddress) -> Bool { script.isOpen[1] }
}

/// Counts up, as far as its allowance goes.
struct CountingHost: EntropyHost, ~Copyable {
  let script: HostScript

  mutating func fill(_ bytes: inout MutableSpan<UInt8>) -> Int {
    guard !script.isDead else { return 0 }
    let count = min(bytes.count, script.allowance)
    for index in 0..<count {
      bytes[index] = script.makeRandom?() ?? script.nextRandom
      script.nextRandom &+= 1
    }
    script.allowance -= count
    return count
  }
}
