import CLinux
import CommandOptions
import HostResources
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// Carries frames between a network device and a far end, until the far end or the process ends.
struct BridgeSession: ~Copyable {
  private let end: FrameEnd
  private let place: FrontendPlace
  private var commands: NetworkCommands
  /// One frame in each direction that could not yet be passed on.
  private var toEnd = HeldFrame()
  private var toDevice = OutgoingFrame()
  private var pair = 0
  private var wasUp: Bool?
  private var adopted: MACAddress?

  /// Frames moved in one direction before the other has its turn.
  private static var burst: Int { 64 }

  /// Opens the far end.
  init(
    _ kind: FrameEnd.Kind?, _ place: FrontendPlace, _ commands: NetworkCommands, wake: Int32
  ) throws(ClientError) {
    guard let kind else { preconditionFailure("a bridge has a far end") }
    do throws(SystemError) {
      end = try FrameEnd(kind, wakeDescriptor: wake)
    } catch { throw .usage(UsageError(Self.explain(kind, error))) }
    self.place = place
    self.commands = commands
  }

  private static func explain(_ kind: FrameEnd.Kind, _ error: SystemError) -> String {
    switch kind {
    case .tap(let name): "--tap \(name): \(NetworkSpecification.explain(tap: error))"
    case .socket(let path): "--socket \(path): \(error.text); does anybody listen there?"
    case .stdio: "standard input and output: \(error.text)"
    }
  }

  /// Runs to the end of the input, the loss of the far end, or a signal.
  mutating func run(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) {
    say("connected")
    while true {
      followLink(client)
      let moved = try turn(&client)
      if let failure = end.failure { throw .failed("the far end: \(failure.text)") }
      client.publish()
      if moved { continue }
      if client.isLost() {
        try client.recover()
        try commands.run(&client, patience: place.patience)
        continue
      }
      if end.hasInputEnded, toDevice.isEmpty {
        // What is under way still gets out: the device is not told to stop before it has it.
        guard try unsent(&client) > 0 else { return say("the far end has ended") }
      }
      end.arm()
      try client.wait()
    }
  }

  private func unsent(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> Int {
    do throws(QueueError) {
      return try client.driver.net.unsentCount()
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  private mutating func turn(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> Bool {
    do throws(QueueError) {
      let isOut = try takeOut(&client)
      let isIn = try takeIn(&client)
      return isOut || isIn
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  // MARK: From the device to the end

  private mutating func takeOut(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(QueueError) -> Bool {
    guard end.flush() else { return false }
    var moved = 0
    var silent = 0
    let pairs = client.driver.pairs
    while moved < Self.burst {
      if toEnd.count == 0 {
        var offload = FrameOffload()
        let pair = pair
        toEnd.count = try toEnd.bytes.withMutableSpan(0..<NetFormat.frameLimit) {
          (span) throws(QueueError) in
          try client.driver.net.receive(into: &span, &offload, pair: pair)
        }
        toEnd.offload = offload
        if toEnd.count == 0 {
          silent += 1
          if silent == pairs { break }
          self.pair = (pair + 1) % pairs
          continue
        }
      }
      silent = 0
      let offload = toEnd.offload
      let sent = toEnd.bytes.withSpan(0..<toEnd.count) { end.send($0, offload) }
      if sent == .full { break }
      toEnd.count = 0
      moved += 1
    }
    return moved > 0
  }

  // MARK: From the end to the device

  private mutating func takeIn(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(QueueError) -> Bool {
    var moved = 0
    while moved < Self.burst {
      if toDevice.isEmpty {
        guard toDevice.read(end) else { break }
        toDevice.adapt(
          to: client.features, limit: client.driver.frameLimit, client.driver.packetLimit)
        continue
      }
      guard try toDevice.sendNext(&client.driver) else { break }
      moved += 1
    }
    return moved > 0
  }

  // MARK: The link

  private mutating func followLink(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) {
    let now = NetConfiguration(client.configuration.span, features: client.features)
    if let address = commands.address ?? now.address, address != adopted {
      adopted = address
      if !end.adopt(address, mtu: now.mtu) {
        say("the tap keeps its address and MTU: that needs CAP_NET_ADMIN")
      }
    }
    guard now.isLinkUp != wasUp else { return }
    if wasUp != nil || !now.isLinkUp { say(now.isLinkUp ? "the link is up" : "the link is down") }
    wasUp = now.isLinkUp
    end.setLink(isUp: now.isLinkUp)
  }

  private func say(_ text: String) { if place.isNoisy { writeError("ivshmem: \(text)\n") } }
}

/// A frame on its way.
struct HeldFrame {
  /// Room for every frame.
  let bytes: PrivateTable<UInt8>
  /// Bytes of the frame; 0 for none.
  var count = 0
  var offload = FrameOffload()

  init() {
    var arena = PrivateMemory.arena(NetFormat.frameLimit + 64)
    guard let bytes = arena.table(of: NetFormat.frameLimit, initial: UInt8(0)) else {
      preconditionFailure("the arena holds a frame")
    }
    self.bytes = bytes
  }
}

/// A frame on its way to a device, which may have to be finished or cut before.
struct OutgoingFrame {
  private var whole = HeldFrame()
  private let piece = HeldFrame()
  private var cut: FrameCut?
  private var next = 0

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
    _ driver: inout NetworkPortDriver
  ) throws(QueueError) -> Bool {
    let pairs = driver.pairs
    let flow = pairs > 1 ? whole.bytes.withSpan(0..<whole.count) { FrameLayers($0)?.flow($0) } : 0
    let pair = Int((flow ?? 0) % UInt32(pairs))
    let offload = whole.offload
    guard let cut else {
      let isSent = try whole.bytes.withSpan(0..<whole.count) { (frame) throws(QueueError) in
        try driver.net.send(frame, offload, pair: pair)
      }
      if isSent { whole.count = 0 }
      return isSent
    }
    let index = next
    let count = piece.bytes.withMutableSpan(0..<NetFormat.frameLimit) { result in
      whole.bytes.withSpan(0..<whole.count) { cut.make(index, of: $0, into: &result) }
    }
    let isSent = try piece.bytes.withSpan(0..<count) { (frame) throws(QueueError) in
      try driver.net.send(frame, FrameOffload(), pair: pair)
    }
    guard isSent else { return false }
    next += 1
    if next == cut.segmentCount { whole.count = 0 }
    return true
  }
}
