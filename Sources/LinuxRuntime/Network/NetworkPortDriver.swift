import CommandOptions
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// The network driver of a tool: as many queue pairs as it was told, and a control queue where the
/// device has one.
struct NetworkPortDriver: PathDriver, ~Copyable {
  /// The driver itself.
  var net: NetDriver
  /// What the tool asks for, when it is offered.
  let wanted: FeatureSet
  /// The device's configuration as it was when the device was set up.
  private(set) var configuration: NetConfiguration
  /// Pairs that are in use.
  private(set) var pairs = 1
  /// The control queue's number at the device; `nil` without one.
  private(set) var controlIndex: Int?
  /// Bytes of the largest frame a buffer holds.
  let frameLimit: Int

  /// Bytes of the largest frame that is not to be cut: by the device's MTU, and by the buffers.
  var packetLimit: Int {
    min(frameLimit, configuration.mtu + NetFormat.etherSize + NetFormat.tagSize)
  }

  /// Sizes that are tried, largest first: the memory of a link may be small.
  private static func layouts(_ pairs: Int) -> [NetDriverLayout] {
    let whole = (NetFormat.headerSize + NetFormat.frameLimit + 63) & ~63
    func layout(_ depth: Int, _ size: Int, _ receiveDepth: Int, _ receive: Int) -> NetDriverLayout {
      NetDriverLayout(
        pairs: pairs, depth: depth, sendSize: size, receiveSize: receive,
        receiveDepth: receiveDepth)
    }
    return [
      layout(64, whole, 256, 4096), layout(16, whole, 128, 4096), layout(8, whole, 64, 4096),
      layout(64, 2048, 64, 2048), layout(16, 2048, 16, 2048),
    ]
  }

  /// Bytes the driver needs where the memory is its own.
  static func memoryBytes(pairs: Int) -> Int {
    let layout = layouts(pairs)[0]
    return layout.outBytes + layout.inBytes + ringBytes(layout)
  }

  /// Bytes of the rings of all queues, in blocks.
  private static func ringBytes(_ layout: NetDriverLayout) -> Int {
    var size: UInt32 = 1
    while size < UInt32(layout.queueSize) { size *= 2 }
    guard let size = QueueSize(size) else { preconditionFailure("a power of two") }
    let ring = QueueLayout(size)
    let block = 4095
    return layout.queueCount
      * ((ring.descriptorTable + block) & ~block + (ring.availableRing + block) & ~block
        + (ring.usedRing + block) & ~block)
  }

  /// Takes buffers out of a path's memory.
  init(
    pairs: Int, without withheld: FeatureSet, _ path: inout some DevicePath & ~Copyable
  ) throws(ClientError) {
    for layout in Self.layouts(pairs) {
      guard let (out, into) = Self.buffers(layout, &path) else { continue }
      var arena = PrivateMemory.arena(256 << 10)
      guard
        let net = NetDriver(layout, out: out, into: into, region: path.region, arena: &arena)
      else { preconditionFailure("256 KiB hold the books") }
      self.net = net
      frameLimit = layout.sendSize - NetFormat.headerSize
      var wanted = NetDriver.wanted(of: FeatureSet(rawValue: .max)).subtracting(withheld)
      // Frames that are not cut yet need room for all of them.
      if layout.sendSize < NetFormat.frameLimit {
        wanted = wanted.subtracting(.netHostTCP4).subtracting(.netHostTCP6)
      }
      // Without mergeable buffers each one would have to hold the largest frame.
      if !wanted.contains(.netMergeable) {
        wanted = wanted.subtracting(.netGuestTCP4).subtracting(.netGuestTCP6)
      }
      if pairs == 1 { wanted = wanted.subtracting(.netQueuePairs) }
      self.wanted = wanted.netConsistent
      let nothing = InlineArray<12, UInt8>(repeating: 0)
      configuration = NetConfiguration(nothing.span, features: FeatureSet())
      return
    }
    throw .noRoom
  }

  /// Both kinds of buffers, when they leave room for the rings.
  private static func buffers(
    _ layout: NetDriverLayout, _ path: inout some DevicePath & ~Copyable
  ) -> (BufferSegment, BufferSegment)? {
    guard let out = path.allocate(layout.outBytes, .toDevice) else { return nil }
    if let into = path.allocate(layout.inBytes, .fromDevice) {
      if let rings = path.allocate(ringBytes(layout), .toDevice) {
        path.free(rings, .toDevice)
        return (out, into)
      }
      path.free(into, .fromDevice)
    }
    path.free(out, .toDevice)
    return nil
  }

  // MARK: PathDriver

  static var kind: DeviceKind { DeviceKind(id: NetFormat.deviceID, name: "a network device") }
  var neededQueueSize: Int { net.layout.queueSize }

  mutating func queues(
    _ features: FeatureSet, _ bytes: [UInt8]
  ) throws(ClientError) -> [Int] {
    configuration = NetConfiguration(bytes.span, features: features)
    pairs = min(net.layout.pairs, configuration.pairs)
    if features.contains(.netMergeable) == false,
      !features.isDisjoint(with: .netGuestTCP4 | .netGuestTCP6)
    {
      throw .usage(
        UsageError(
          "the device has no mergeable buffers; give --without mergeable,tso"))
    }
    var used: [Int] = []
    for pair in 0..<pairs {
      used.append(NetQueue.receive(pair: pair).index(pairs: pairs))
      used.append(NetQueue.transmit(pair: pair).index(pairs: pairs))
    }
    controlIndex = nil
    if features.contains(.netControl) {
      // Behind all pairs of the device, not behind those in use.
      let all = features.contains(.netQueuePairs) ? Int(bytes[8]) | Int(bytes[9]) << 8 : 1
      if all >= 1, all <= NetFormat.pairLimit {
        controlIndex = 2 * all
        used.append(2 * all)
      }
    }
    return used
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    if index == controlIndex { return net.attach(queue, at: .control) }
    guard let place = NetQueue(index: index, pairs: pairs) else {
      preconditionFailure("only queues that were asked for are made")
    }
    net.attach(queue, at: place)
  }

  mutating func begin(_ features: FeatureSet) { net.begin(features: features) }
  mutating func end() { net.detach() }

  mutating func publishAll() -> UInt32 {
    let places = net.publish()
    let control: UInt32 = 1 << UInt32(NetQueue.control.index(pairs: net.layout.pairs))
    guard places & control != 0 else { return places }
    guard let controlIndex else { return places & ~control }
    return places & ~control | 1 << UInt32(controlIndex)
  }

  var hasCompletion: Bool { net.hasCompletion }
  mutating func armNotifications() { net.armNotifications() }
  mutating func suppressNotifications() { net.suppressNotifications() }
}
