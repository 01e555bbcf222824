import CCellmate
import CommandOptions
import HostResources
import LinuxRuntime
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// Carries frames between a network device and a far end.
struct FrameBridge: ~Copyable {
  let end: FrameEnd
  /// One frame in each direction that could not yet be passed on.
  private var toEnd: HeldFrame
  private var toDevice: OutgoingFrame
  private let memory: ObjectMemory
  private var adopted: MACAddress?
  private var wasUp: Bool?

  /// Frames moved in one direction before the other has its turn.
  private static var burst: Int { 64 }

  /// Opens the far end: `tap:NAME`, `socket:PATH` or `stdio`.
  static func open(_ text: String, wake: Int32) throws(FaceError) -> FrameBridge {
    let kind: FrameEnd.Kind
    do throws(UsageError) {
      kind = try Self.kind(text)
    } catch { throw .explained(Code.text, error.message) }
    return FrameBridge(try connect(kind, wake), try ObjectMemory(3 * HeldFrame.privateBytes))
  }

  private static func connect(_ kind: FrameEnd.Kind, _ wake: Int32) throws(FaceError) -> FrameEnd {
    let problem: SystemError
    do throws(SystemError) {
      return try FrameEnd.open(kind, wakeDescriptor: wake)
    } catch { problem = error }
    throw .explained(Code.text, explain(kind, problem))
  }

  private init(_ end: FrameEnd, _ memory: ObjectMemory) {
    self.end = end
    self.memory = memory
    var arena = memory.arena(behind: 0)
    toEnd = HeldFrame(&arena)
    toDevice = OutgoingFrame(&arena)
  }

  deinit { memory.free() }

  private static func kind(_ text: String) throws(UsageError) -> FrameEnd.Kind {
    if text.hasPrefix("tap:") {
      return .tap(try NetworkSpecification.tapName(String(text.dropFirst(4))))
    }
    if text.hasPrefix("socket:"), text.utf8.count > 7 { return .socket(String(text.dropFirst(7))) }
    guard text == "stdio" else {
      throw UsageError("far end '\(text)': expected tap:NAME, socket:PATH or stdio")
    }
    return .stdio
  }

  private static func explain(_ kind: FrameEnd.Kind, _ error: SystemError) -> String {
    switch kind {
    case .tap(let name): "tap \(name): \(NetworkSpecification.explain(tap: error))"
    case .socket(let path): "socket \(path): \(error.text); does anybody listen there?"
    case .stdio: "standard input and output: \(error.text)"
    }
  }

  /// Whether nothing more will come from the far end, and all that came is with the device.
  var hasEnded: Bool { end.hasInputEnded && toDevice.isEmpty }

  /// Carries some frames both ways; whether there were any.
  mutating func carry(
    _ port: inout NetworkUnit, _ features: FeatureSet
  ) throws(QueueError) -> Bool {
    let isOut = try takeOut(&port)
    let isIn = try takeIn(&port, features)
    return isOut || isIn
  }

  /// From the device to the end.
  private mutating func takeOut(_ port: inout NetworkUnit) throws(QueueError) -> Bool {
    guard end.flush() else { return false }
    var moved = 0
    while moved < Self.burst {
      if toEnd.count == 0 {
        var offload = FrameOffload()
        toEnd.count = try toEnd.bytes.withMutableSpan(0..<NetFormat.frameLimit) {
          (span) throws(QueueError) in
          var pair = 0
          return try port.receive(into: &span, &offload, pair: &pair)
        }
        toEnd.offload = offload
        if toEnd.count == 0 { break }
      }
      let offload = toEnd.offload
      let sent = toEnd.bytes.withSpan(0..<toEnd.count) { end.send($0, offload) }
      if sent == .full { break }
      toEnd.count = 0
      moved += 1
    }
    return moved > 0
  }

  /// From the end to the device.
  private mutating func takeIn(
    _ port: inout NetworkUnit, _ features: FeatureSet
  ) throws(QueueError) -> Bool {
    var moved = 0
    while moved < Self.burst {
      if toDevice.isEmpty {
        guard toDevice.read(end) else { break }
        toDevice.adapt(to: features, limit: port.frameLimit, port.packetLimit)
        continue
      }
      guard try toDevice.sendNext(&port) else { break }
      moved += 1
    }
    return moved > 0
  }

  /// Gives the far end the device's address, MTU and link state; whether it would not take the
  /// address.
  ///
  /// - Parameter address: what the device was told to have; `nil` for its own.
  mutating func follow(_ now: NetConfiguration, address: MACAddress?) -> Bool {
    if now.isLinkUp != wasUp {
      wasUp = now.isLinkUp
      end.setLink(isUp: now.isLinkUp)
    }
    guard let address = address ?? now.address, address != adopted else { return false }
    adopted = address
    return !end.adopt(address, mtu: now.mtu)
  }
}

/// A frame on its way.
struct HeldFrame {
  /// Room for every frame.
  let bytes: PrivateTable<UInt8>
  /// Bytes of the frame; 0 for none.
  var count = 0
  var offload = FrameOffload()

  /// Bytes it takes out of an arena.
  static var privateBytes: Int { NetFormat.frameLimit + 128 }

  /// Valid as long as the arena's memory.
  init(_ arena: inout PrivateArena) {
    guard let bytes = arena.table(of: NetFormat.frameLimit, initial: UInt8(0)) else {
      preconditionFailure("the arena holds a frame")
    }
    self.bytes = bytes
  }
}

/// A frame on its way to a device, which may have to be finished or cut before.
struct OutgoingFrame {
  private var whole: HeldFrame
  private let piece: HeldFrame
  private var cut: FrameCut?
  private var next = 0

  init(_ arena: inout PrivateArena) {
    whole = HeldFrame(&arena)
    piece = HeldFrame(&arena)
  }

  /// Whether there is none.
  var isEmpty: Bool { whole.count == 0 }

  /// Reads the next frame of an end; whether there was one.
  mutating func read(_ end: FrameEnd) -> Bool {
    var offload = FrameOffload()
    whole.count = whole.bytes.withMutableSpan(0..<NetFormat.frameLimit) {
      end.receive(into: &$0, &offload)
    }
    whole.offload = offload
    cut = nil
    next = 0
    return whole.count > 0
  }

  /// Does what the device does not, by what was agreed; a frame that does not fit is dropped.
  ///
  /// - Parameters:
  ///   - limit: bytes of the largest frame.
  ///   - packetLimit: bytes of the largest one that is not to be cut.
  mutating func adapt(to features: FeatureSet, limit: Int, _ packetLimit: Int) {
    let offload = whole.offload
    let isAgreed =
      switch offload.segmentation {
      case .none: true
      case .tcp4: features.contains(.netHostTCP4)
      case .tcp6: features.contains(.netHostTCP6)
      }
    if !isAgreed || offload.hasECN && !features.contains(.netHostECN) {
      cut = whole.bytes.withSpan(0..<whole.count) { FrameCut($0, offload) }
      if (cut?.largestSegment ?? .max) > packetLimit { whole.count = 0 }
    } else if offload.needsChecksum, !features.contains(.netChecksum) {
      whole.bytes.withMutableSpan(0..<whole.count) { offload.finishChecksum(&$0) }
      whole.offload = FrameOffload()
    }
    let isPacket = whole.offload.segmentation == .none
    if cut == nil, whole.count > (isPacket ? packetLimit : limit) { whole.count = 0 }
  }

  /// Gives the device the frame, or the next segment of it; whether it had room.
  mutating func sendNext(
    _ port: inout NetworkUnit
  ) throws(QueueError) -> Bool {
    let pairs = port.pairs
    let flow = pairs > 1 ? whole.bytes.withSpan(0..<whole.count) { FrameLayers($0)?.flow($0) } : 0
    let pair = Int((flow ?? 0) % UInt32(pairs))
    let offload = whole.offload
    guard let cut else {
      let isSent = try whole.bytes.withSpan(0..<whole.count) { (frame) throws(QueueError) in
        try port.driver.send(frame, offload, pair: pair)
      }
      if isSent { whole.count = 0 }
      return isSent
    }
    let index = next
    let count = piece.bytes.withMutableSpan(0..<NetFormat.frameLimit) { result in
      whole.bytes.withSpan(0..<whole.count) { cut.make(index, of: $0, into: &result) }
    }
    let isSent = try piece.bytes.withSpan(0..<count) { (frame) throws(QueueError) in
      try port.driver.send(frame, FrameOffload(), pair: pair)
    }
    guard isSent else { return false }
    next += 1
    if next == cut.segmentCount { whole.count = 0 }
    return true
  }
}
