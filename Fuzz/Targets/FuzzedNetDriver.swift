import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// The network driver with one queue pair, and its user.
struct FuzzedNetDriver: FuzzedDriver, ~Copyable {
  static var slot: Int { 3 }
  static var deviceID: UInt32 { NetFormat.deviceID }
  static var wanted: FeatureSet { NetDriver.wanted(of: FeatureSet(rawValue: .max)) }
  private static var layout: NetDriverLayout {
    NetDriverLayout(pairs: 1, depth: 4, sendSize: 512, receiveSize: 256, receiveDepth: 8)
  }
  static var outBytes: Int { layout.outBytes }
  static var inBytes: Int { layout.inBytes }
  static func queueCount(_ features: FeatureSet) -> Int { features.contains(.netControl) ? 3 : 2 }

  var driver: NetDriver
  private var agreed = FeatureSet()
  private let frame: PrivateTable<UInt8>
  private(set) var received: UInt64 = 0
  /// How far the proof is: the answer to a command, then a frame.
  private var hasAsked = false
  private var hasAnswer = false

  init?(
    out: BufferSegment, into: BufferSegment, region: SharedRegion, arena: inout PrivateArena
  ) {
    guard let frame = arena.table(of: NetFormat.frameLimit, initial: UInt8(0)),
      let driver = NetDriver(Self.layout, out: out, into: into, region: region, arena: &arena)
    else { return nil }
    self.frame = frame
    self.driver = driver
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    guard let place = NetQueue(index: index, pairs: 1) else { return }
    driver.attach(queue, at: place)
  }

  mutating func begin(_ features: FeatureSet) {
    agreed = features
    hasAsked = false
    hasAnswer = false
    driver.begin(features: features)
  }

  mutating func end() { driver.detach() }
  mutating func publish() -> UInt32 { driver.publish() }
  var hasCompletion: Bool { driver.hasCompletion }
  mutating func armNotifications() { driver.armNotifications() }
  mutating func suppressNotifications() { driver.suppressNotifications() }

  private mutating func receive(_ limit: Int) throws(QueueError) -> (Int, FrameOffload) {
    var offload = FrameOffload()
    let count = try frame.withMutableSpan(0..<limit) { (bytes) throws(QueueError) in
      try driver.receive(into: &bytes, &offload)
    }
    received &+= UInt64(count)
    return (count, offload)
  }

  private mutating func send(_ count: Int, _ value: UInt8) throws(QueueError) -> Bool {
    frame.withMutableSpan(0..<count) { bytes in
      for index in bytes.indices { bytes[index] = index < 12 ? 2 : value }
      bytes[6] = 4
    }
    return try frame.withSpan(0..<count) { (bytes) throws(QueueError) in
      try driver.send(bytes)
    }
  }

  /// Sends a frame; whether there was room.
  mutating func send(_ bytes: [UInt8]) throws(QueueError) -> Bool { try driver.send(bytes.span) }

  /// The next frame, or nothing.
  mutating func receiveWhole() throws(QueueError) -> [UInt8] {
    let (count, _) = try receive(NetFormat.frameLimit)
    return frame.withSpan(0..<count) { bytes in bytes.indices.map { bytes[$0] } }
  }

  mutating func use(_ input: inout FuzzInput) throws(QueueError) -> String? {
    let kind = input.byte()
    switch kind & 7 {
    case 0, 1: _ = try send(14 + Int(input.byte()), kind)
    case 2, 3, 4:
      let limit = kind & 32 == 0 ? NetFormat.frameLimit : Int(input.byte()) * 4
      let (count, offload) = try receive(limit)
      guard count == 0 || count >= NetFormat.etherSize && count <= limit else {
        return "a frame of \(count) bytes where \(limit) were asked for"
      }
      let end = Int(offload.checksumStart) + Int(offload.checksumOffset) + 2
      guard !offload.needsChecksum || end <= count else { return "a checksum behind its frame" }
      guard offload.segmentation == .none || offload.segmentSize > 0 else {
        return "segments of no bytes"
      }
    case 5:
      let commands: [NetCommand] = [.promiscuous, .setAddress, .setOffloads, .announced, .setPairs]
      _ = driver.start(commands[Int(kind >> 3) % commands.count], UInt64(input.half()))
    case 6: _ = try driver.takeAnswer()
    default:
      let open = try driver.unsentCount()
      guard open >= 0, open <= 4 else { return "\(open) of 4 buffers are on their way" }
    }
    return nil
  }

  /// A command is answered, and a frame comes back whole, behind whatever the attack has left.
  mutating func prove(_ heard: inout [UInt8]) throws(QueueError) -> Bool {
    if !agreed.contains(.netControl) { hasAnswer = true }
    if !hasAsked { hasAsked = driver.start(.promiscuous, 1) }
    if try driver.takeAnswer() == true { hasAnswer = true }
    for _ in 0..<16 {
      let (count, _) = try receive(NetFormat.frameLimit)
      guard count > 0 else { break }
      heard = frame.withSpan(0..<count) { bytes in bytes.indices.map { bytes[$0] } }
    }
    if hasAnswer, heard.count == 400, heard[20...].allSatisfy({ $0 == 0x5a }) { return true }
    _ = try send(400, 0x5a)
    return false
  }
}
