import SharedMemory
import VirtioBlock
import VirtioDevice
import Virtqueue

/// The block driver that knows no transport, and its user. (`frontend` plays against the one of
/// native links.)
struct FuzzedBlockDriver: FuzzedDriver, ~Copyable {
  static var slot: Int { 0 }
  static var deviceID: UInt32 { BlockFormat.deviceID }
  static var wanted: FeatureSet {
    FeatureSet.blockSizeMax.union(.blockSegmentMax).union(.blockReadOnly).union(.blockBlockSize)
      .union(.blockFlush).union(.blockDiscard).union(.blockWriteZeroes)
  }
  private static var depth: Int { 4 }
  private static var outData: Int { BlockDriver.headerBytes(depth: depth) }
  private static var inData: Int { BlockDriver.statusBytes(depth: depth) }
  static var outBytes: Int { outData + depth * 512 }
  static var inBytes: Int { inData + depth * 512 }
  static func queueCount(_ features: FeatureSet) -> Int { 1 }

  private var driver: BlockDriver
  private let region: SharedRegion
  private let out: BufferSegment
  private let into: BufferSegment
  private var configuration = BlockConfiguration()
  private var features = FeatureSet()
  private(set) var received: UInt64 = 0
  /// Data buffers that are free, one bit each: a request has the buffers of its number.
  private var free = 1 << FuzzedBlockDriver.depth - 1
  /// How far the proof is: what was left open, a write, a read.
  private var proof = 0

  init?(
    out: BufferSegment, into: BufferSegment, region: SharedRegion, arena: inout PrivateArena
  ) {
    guard
      let driver = BlockDriver(
        depth: Self.depth, headers: out.slice(from: 0, count: Self.outData),
        statuses: into.slice(from: 0, count: Self.inData), region: region, arena: &arena)
    else { return nil }
    self.driver = driver
    self.region = region
    self.out = out
    self.into = into
  }

  mutating func learn(_ bytes: Span<UInt8>, _ features: FeatureSet) {
    configuration = BlockConfiguration(bytes)
    self.features = features
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    do throws(BlockDriverError) {
      try driver.attach(queue: queue, configuration: configuration, features: features)
    } catch { preconditionFailure("the queue holds every request: \(error)") }
  }

  mutating func begin(_ features: FeatureSet) {}
  mutating func end() { driver.detachQueue() }
  mutating func publish() -> UInt32 { driver.publish() ? 1 : 0 }
  var hasCompletion: Bool { driver.hasCompletion }
  mutating func armNotifications() { driver.armNotifications() }
  mutating func suppressNotifications() { driver.suppressNotifications() }

  private func outBuffer(_ token: Int, _ count: Int) -> BufferSegment {
    out.slice(from: Self.outData + token * 512, count: count)
  }

  private func inBuffer(_ token: Int, _ count: Int) -> BufferSegment {
    into.slice(from: Self.inData + token * 512, count: count)
  }

  /// Opens a request, unless this device cannot do it.
  private mutating func submit(_ kind: UInt8, _ sector: UInt64) {
    guard free != 0 else { return }
    let index = free.trailingZeroBitCount
    let token = UInt32(index)
    do throws(BlockDriverError) {
      switch kind % 6 {
      case 0: try driver.read(sector: sector, into: inBuffer(index, 512), token: token)
      case 1: try driver.write(sector: sector, from: outBuffer(index, 512), token: token)
      case 2: try driver.flush(token: token)
      case 3: try driver.getID(into: inBuffer(index, 20), token: token)
      case 4: try driver.discard(sector: sector, sectors: 8, token: token)
      default:
        try driver.writeZeroes(sector: sector, sectors: 1, unmapping: .allow, token: token)
      }
    } catch { return }
    free &= ~(1 << index)
  }

  /// Takes one completion; the promise that was found broken, if any.
  private mutating func takeOne(
    _ each: (BlockDriverCompletion) -> Void = { _ in }
  ) throws(QueueError) -> String? {
    guard let done = try driver.nextCompletion() else { return nil }
    let token = Int(done.token)
    guard token < Self.depth, free & (1 << token) == 0 else {
      return "token \(done.token) comes back without a request"
    }
    free |= 1 << token
    received &+= UInt64(done.data.count)
    each(done)
    return nil
  }

  mutating func use(_ input: inout FuzzInput) throws(QueueError) -> String? {
    let kind = input.byte()
    if kind & 3 != 0 { submit(kind >> 2, UInt64(kind & 15)) }
    for _ in 0...Int(kind & 7) {
      if let failure = try takeOne() { return failure }
    }
    let open = Self.depth - free.nonzeroBitCount
    return driver.inFlightCount == open
      ? nil : "\(driver.inFlightCount) requests are open, \(open) were not taken back"
  }

  /// What the attack left open ends, then a sector is written and read again.
  mutating func prove(_ heard: inout [UInt8]) throws(QueueError) -> Bool {
    // Every request is completed once, at most.
    var isDone = false
    for _ in 0..<Self.depth {
      _ = try takeOne { done in isDone = done.status == .ok && done.token == 0 }
    }
    guard driver.inFlightCount == 0 else { return false }
    switch proof {
    case 0:
      for index in 0..<512 {
        region.store8(UInt8(truncatingIfNeeded: index &* 3), at: outBuffer(0, 512).offset + index)
      }
      submit(1, 5)
      proof = 1
    case 1:
      guard isDone else { return false }
      submit(0, 5)
      proof = 2
    default:
      guard isDone else { return false }
      heard = (0..<512).map { region.load8(inBuffer(0, 512).offset + $0) }
      return heard.enumerated().allSatisfy { $1 == UInt8(truncatingIfNeeded: $0 &* 3) }
    }
    return false
  }
}
