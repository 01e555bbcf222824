import CCellmate
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// The network driver: as many queue pairs as it was told, and a control queue where the device has
/// one.
struct NetworkUnit: ~Copyable {
  /// The driver itself.
  var driver: NetDriver
  /// What is asked for, when it is offered.
  let wanted: FeatureSet
  /// The device's configuration as it was when the device was set up.
  private(set) var configuration: NetConfiguration
  /// Pairs that are in use.
  private(set) var pairs = 1
  /// The control queue's number at the device; `nil` without one.
  private(set) var controlIndex: Int?
  /// Bytes of the largest frame a buffer holds.
  let frameLimit: Int
  /// Where the next look for a received frame begins.
  var nextPair = 0

  /// Bytes of the largest frame that is not to be cut: by the device's MTU, and by the buffers.
  var packetLimit: Int {
    min(frameLimit, configuration.mtu + NetFormat.etherSize + NetFormat.tagSize)
  }

  /// How many sizes of buffers are tried: the memory of a link may be small.
  private static var layoutCount: Int { 5 }

  /// The sizes, largest first.
  private static func layout(_ number: Int, pairs: Int) -> NetDriverLayout {
    let whole = (NetFormat.headerSize + NetFormat.frameLimit + 63) & ~63
    func layout(_ depth: Int, _ size: Int, _ receiveDepth: Int, _ receive: Int) -> NetDriverLayout {
      NetDriverLayout(
        pairs: pairs, depth: depth, sendSize: size, receiveSize: receive,
        receiveDepth: receiveDepth)
    }
    return switch number {
    case 0: layout(64, whole, 256, 4096)
    case 1: layout(16, whole, 128, 4096)
    case 2: layout(8, whole, 64, 4096)
    case 3: layout(64, 2048, 64, 2048)
    default: layout(16, 2048, 16, 2048)
    }
  }

  /// Bytes the driver needs in the shared memory, where there is enough of it.
  static func memoryBytes(pairs: Int) -> Int {
    let layout = layout(0, pairs: pairs)
    return layout.outBytes + layout.inBytes + ringBytes(layout)
  }

  /// Bytes of the rings of all queues, in blocks.
  private static func ringBytes(_ layout: NetDriverLayout) -> Int {
    let ring = QueueLayout(entries(holding: layout.queueSize))
    let block = 4095
    return layout.queueCount
      * ((ring.descriptorTable + block) & ~block + (ring.availableRing + block) & ~block
        + (ring.usedRing + block) & ~block)
  }

  /// Takes buffers out of the shared memory; `nil` when there is no room.
  init?(
    pairs: Int, without withheld: FeatureSet, _ way: inout DeviceWay, arena: inout PrivateArena
  ) {
    for number in 0..<Self.layoutCount {
      let layout = Self.layout(number, pairs: pairs)
      guard let (out, into) = Self.buffers(layout, &way.pools) else { continue }
      guard
        let driver = NetDriver(layout, out: out, into: into, region: way.region, arena: &arena)
      else { return nil }
      self.driver = driver
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
      self.wanted = wanted.netConsistent.union(.eventIndex)
      let nothing = InlineArray<12, UInt8>(repeating: 0)
      configuration = NetConfiguration(nothing.span, features: FeatureSet())
      return
    }
    return nil
  }

  /// Both kinds of buffers, when they leave room for the rings.
  private static func buffers(
    _ layout: NetDriverLayout, _ pools: inout SharedPools
  ) -> (BufferSegment, BufferSegment)? {
    guard let out = pools.allocate(layout.outBytes, forWriting: false) else { return nil }
    if let into = pools.allocate(layout.inBytes, forWriting: true) {
      if let rings = pools.allocate(ringBytes(layout), forWriting: false) {
        pools.free(rings, forWriting: false)
        return (out, into)
      }
      pools.free(into, forWriting: true)
    }
    pools.free(out, forWriting: false)
    return nil
  }

  static var kind: DeviceKind { DeviceKind(id: NetFormat.deviceID, name: "a network device") }

  /// The queues to be used of a device with these features and this configuration, one bit each.
  mutating func queues(
    _ features: FeatureSet, _ bytes: InlineArray<64, UInt8>
  ) throws(FaceError) -> UInt32 {
    configuration = NetConfiguration(bytes.span, features: features)
    pairs = min(driver.layout.pairs, configuration.pairs)
    nextPair = 0
    if !features.contains(.netMergeable),
      !features.isDisjoint(with: .netGuestTCP4 | .netGuestTCP6)
    {
      throw .explained(
        Code.text, "the device has no mergeable buffers; give --without mergeable,tso")
    }
    var used: UInt32 = 0
    for pair in 0..<pairs {
      used |= 1 << UInt32(NetQueue.receive(pair: pair).index(pairs: pairs))
      used |= 1 << UInt32(NetQueue.transmit(pair: pair).index(pairs: pairs))
    }
    controlIndex = nil
    if features.contains(.netControl) {
      // Behind all pairs of the device, not behind those in use.
      let all = features.contains(.netQueuePairs) ? Int(bytes[8]) | Int(bytes[9]) << 8 : 1
      if all >= 1, all <= NetFormat.pairLimit {
        controlIndex = 2 * all
        used |= 1 << UInt32(2 * all)
      }
    }
    return used
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    if index == controlIndex { return driver.attach(queue, at: .control) }
    guard let place = NetQueue(index: index, pairs: pairs) else {
      preconditionFailure("only queues that were asked for are made")
    }
    driver.attach(queue, at: place)
  }

  mutating func publish() -> UInt32 {
    let places = driver.publish()
    let control: UInt32 = 1 << UInt32(NetQueue.control.index(pairs: driver.layout.pairs))
    guard places & control != 0 else { return places }
    guard let controlIndex else { return places & ~control }
    return places & ~control | 1 << UInt32(controlIndex)
  }

  /// Receives the next frame of any pair; its length, 0 when there is none now.
  mutating func receive(
    into bytes: inout MutableSpan<UInt8>, _ offload: inout FrameOffload, pair: inout Int
  ) throws(QueueError) -> Int {
    for _ in 0..<pairs {
      let count = try driver.receive(into: &bytes, &offload, pair: nextPair)
      if count > 0 {
        pair = nextPair
        return count
      }
      nextPair = (nextPair + 1) % pairs
    }
    return 0
  }
}
