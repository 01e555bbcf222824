import SharedMemory
import Testing
import VirtioDevice
import VirtioEntropy
import Virtqueue

/// Gives the bytes 0, 1, 2, ... as far as its allowance goes.
struct CountingEntropyHost: EntropyHost, ~Copyable {
  /// Bytes it may still give.
  var allowance: Int
  /// The most it gives at once.
  var largestFill = Int.max
  private(set) var given = 0

  init(allowance: Int) { self.allowance = allowance }

  mutating func fill(_ bytes: inout MutableSpan<UInt8>) -> Int {
    let count = min(bytes.count, min(allowance, largestFill))
    for index in 0..<count { bytes[index] = UInt8(truncatingIfNeeded: given + index) }
    given += count
    allowance -= count
    return count
  }
}

/// A driver beside the device over the same rings.
struct EntropyPair: ~Copyable {
  // In this order: the driver's books lie in the rig's memory, which has to end after it.
  var driver: EntropyDriver
  var rig: EntropyTests.Rig

  init(depth: Int, size: Int) throws {
    var rig = try EntropyTests.rig(allowance: 0)
    let memory = BufferSegment(offset: EntropyTests.Rig.dataBase, count: depth * size)
    let made = EntropyDriver(
      depth: depth, memory: memory, region: rig.region, arena: &rig.driverBooks)
    guard let driver = made else { preconditionFailure("the books are large enough") }
    self.driver = driver
    self.rig = rig
  }

  mutating func connect() throws {
    rig.reset()
    driver.attach(queue: try rig.enable(0))
  }

  mutating func ask() {
    driver.ask()
    _ = driver.publish()
  }

  /// Reads up to `limit` bytes; returns how many came.
  mutating func read(_ limit: Int) throws -> Int {
    var bytes = [UInt8](repeating: 0, count: limit)
    var span = bytes.mutableSpan
    return try driver.read(into: &span)
  }
}

@Suite struct EntropyTests {
  typealias Rig = DeviceRig<EntropyDevice<CountingEntropyHost>>

  static func rig(allowance: Int) throws -> Rig {
    guard let size = QueueSize(64) else { preconditionFailure("64 is a size") }
    return try Rig(
      EntropyDevice(host: CountingEntropyHost(allowance: allowance), maximumQueueSize: size))
  }

  static func ask(_ driver: inout DriverQueue, _ counts: [Int]) throws -> [BufferSegment] {
    var spot = Rig.dataBase
    let pieces = counts.map { count in
      defer { spot += count + 13 }
      return BufferSegment(offset: spot, count: count)
    }
    let none: [BufferSegment] = []
    try driver.add(readable: none.span, writable: pieces.span, token: 1)
    _ = driver.publish()
    return pieces
  }

  @Test func whatItIs() throws {
    let rig = try Self.rig(allowance: 0)
    #expect(rig.device.deviceID == 4)
    #expect(rig.device.queueCount == 1)
    #expect(rig.device.configurationSize == 0)
    #expect(rig.device.offeredFeatures == FeatureSet())
  }

  /// Every byte of the chain is filled, over all its pieces, and no byte beside them.
  @Test func aChainIsFilledOverItsPieces() throws {
    var rig = try Self.rig(allowance: 100_000)
    var driver = try rig.enable(0)
    let pieces = try Self.ask(&driver, [1, 300, 7, 900])
    try rig.pump()
    let used = try driver.takeUsed()
    #expect(used?.written == 1208)
    let bytes = pieces.flatMap { rig.load($0.offset, $0.count) }
    // Each number modulo 256 comes as often as in 0 ..< 1208: nothing was given twice.
    for value in 0..<256 {
      let count = bytes.filter { Int($0) == value }.count
      #expect(count == (value < 1208 % 256 ? 5 : 4), "byte \(value)")
    }
    for piece in pieces {
      #expect(rig.load(piece.offset + piece.count, 13).allSatisfy { $0 == 0xa5 })
    }
    #expect(rig.device.counters.bytes == 1208)
    #expect(rig.device.counters.shortAnswers == 0)
  }

  /// A host that has nothing keeps the chain in the ring; one byte is enough to answer.
  @Test func aDryHostKeepsTheChainWaiting() throws {
    var rig = try Self.rig(allowance: 0)
    var driver = try rig.enable(0)
    _ = try Self.ask(&driver, [1000])
    #expect(try rig.pump() == false)
    #expect(try driver.takeUsed() == nil)
    #expect(rig.device.inFlightCount == 0)
    rig.device.host.allowance = 1
    #expect(try rig.pump())
    #expect(try driver.takeUsed()?.written == 1)
    #expect(rig.device.counters.shortAnswers == 1)
  }

  @Test func noChainGetsMoreThanTheLimit() throws {
    var rig = try Self.rig(allowance: .max)
    var driver = try rig.enable(0)
    _ = try Self.ask(&driver, [300_000])
    try rig.pump()
    let written = try driver.takeUsed()?.written
    #expect(written == UInt32(EntropyDevice<CountingEntropyHost>.largestAnswer))
  }

  /// A chain without room is answered with nothing, and the bytes stay for the next one.
  @Test func readableBytesAreNotEntropy() throws {
    var rig = try Self.rig(allowance: 8)
    var driver = try rig.enable(0)
    let out: [BufferSegment] = [BufferSegment(offset: Rig.dataBase, count: 64)]
    let none: [BufferSegment] = []
    try driver.add(readable: out.span, writable: none.span, token: 2)
    _ = driver.publish()
    try rig.pump()
    #expect(try driver.takeUsed()?.written == 0)
    #expect(rig.device.counters.malformed == 1)
    _ = try Self.ask(&driver, [100])
    try rig.pump()
    #expect(try driver.takeUsed()?.written == 8)
  }

  /// Driver beside device, with random depths, sizes, droughts and resets: the driver never gets a
  /// byte that was not given, and in the end it gets all it waits for.
  @Test(arguments: 1...60)
  func driverAndDevice(seed: Int) throws {
    var dice = Dice(state: UInt64(seed))
    var pair = try EntropyPair(depth: 1 + dice.below(16), size: 1 + dice.below(3000))
    try pair.connect()
    var seen: UInt64 = 0
    for _ in 0..<400 {
      switch dice.below(12) {
      case 0...2: pair.rig.device.host.allowance = dice.below(10_000)
      case 3: pair.rig.device.host.largestFill = 1 + dice.below(300)
      case 4...6: pair.ask()
      case 7...9: try pair.rig.pump()
      case 10 where dice.below(8) == 0: try pair.connect()
      default: seen += UInt64(try pair.read(1 + dice.below(5000)))
      }
    }
    #expect(pair.driver.counters.empty == 0)
    #expect(pair.driver.counters.bytes == seen)
    let given = pair.rig.device.counters.bytes
    #expect(seen <= given)
    #expect(given <= UInt64(pair.rig.device.host.given))
    // Whatever happened before: now there is plenty, and the driver gets it.
    pair.rig.device.host.allowance = 1 << 20
    pair.rig.device.host.largestFill = .max
    pair.ask()
    try pair.rig.settle()
    let last = try pair.read(1)
    #expect(last == 1)
  }

  /// A device that returns an answer without a byte is counted, not believed.
  @Test func anEmptyAnswerIsCounted() throws {
    var pair = try EntropyPair(depth: 2, size: 64)
    try pair.connect()
    pair.ask()
    // The device's used ring, by hand: element 0, nothing written, index 1.
    let used = 0x1000 + 0x2000
    pair.rig.region.store32(0, at: used + 4)
    pair.rig.region.store32(0, at: used + 8)
    pair.rig.region.store16Releasing(1, at: used + 2)
    let got = try pair.read(16)
    #expect(got == 0)
    #expect(pair.driver.counters.empty == 1)
    // One that claims more than it was given breaks the queue.
    pair.rig.region.store32(1, at: used + 12)
    pair.rig.region.store32(65, at: used + 16)
    pair.rig.region.store16Releasing(2, at: used + 2)
    var seen: QueueError?
    do {
      _ = try pair.read(16)
    } catch let error as QueueError { seen = error }
    #expect(seen == .writtenTooMuch(65, limit: 64))
  }
}
