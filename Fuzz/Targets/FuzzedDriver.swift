import IVShmem
import SharedMemory
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioTransport
import Virtqueue

/// A production driver and what its user does with it.
protocol FuzzedDriver: ~Copyable {
  /// Where the back-end has the device.
  static var slot: Int { get }
  static var deviceID: UInt32 { get }
  static var wanted: FeatureSet { get }
  /// Bytes that the device may read, and that it may write.
  static var outBytes: Int { get }
  static var inBytes: Int { get }
  static func queueCount(_ features: FeatureSet) -> Int
  init?(
    out: BufferSegment, into: BufferSegment, region: SharedRegion, arena: inout PrivateArena)
  /// What the device says of itself, before there are queues.
  mutating func learn(_ configuration: Span<UInt8>, _ features: FeatureSet)
  mutating func take(_ queue: consuming DriverQueue, at index: Int)
  mutating func begin(_ features: FeatureSet)
  mutating func end()
  mutating func publish() -> UInt32
  var hasCompletion: Bool { get }
  mutating func armNotifications()
  mutating func suppressNotifications()
  /// Bytes that have come, over the driver's life.
  var received: UInt64 { get }
  /// One act of the user, as the bytes say; the promise that was found broken, if any.
  mutating func use(_ input: inout FuzzInput) throws(QueueError) -> String?
  /// One look of a user who wants to see the device work; `true` once he has.
  mutating func prove(_ heard: inout [UInt8]) throws(QueueError) -> Bool
}

extension FuzzedDriver where Self: ~Copyable {
  mutating func learn(_ configuration: Span<UInt8>, _ features: FeatureSet) {}
}

/// The entropy driver and its user.
struct FuzzedEntropyDriver: FuzzedDriver, ~Copyable {
  static var slot: Int { 2 }
  static var deviceID: UInt32 { EntropyFormat.deviceID }
  static var wanted: FeatureSet { FeatureSet() }
  static var outBytes: Int { 0 }
  static var inBytes: Int { 500 }
  static func queueCount(_ features: FeatureSet) -> Int { 1 }

  var driver: EntropyDriver

  init?(
    out: BufferSegment, into: BufferSegment, region: SharedRegion, arena: inout PrivateArena
  ) {
    guard let driver = EntropyDriver(depth: 5, memory: into, region: region, arena: &arena) else {
      return nil
    }
    self.driver = driver
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) { driver.attach(queue: queue) }
  mutating func begin(_ features: FeatureSet) { driver.ask() }
  mutating func end() { driver.detachQueue() }
  mutating func publish() -> UInt32 { driver.publish() ? 1 : 0 }
  var hasCompletion: Bool { driver.hasCompletion }
  mutating func armNotifications() { driver.armNotifications() }
  mutating func suppressNotifications() { driver.suppressNotifications() }
  var received: UInt64 { driver.counters.bytes }

  mutating func use(_ input: inout FuzzInput) throws(QueueError) -> String? {
    let wish = Int(input.byte())
    var bytes = InlineArray<255, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    var part = span._mutatingExtracting(0..<wish)
    let count = try driver.read(into: &part)
    // A user who forgets to ask for more gets none.
    if wish & 7 != 7 { driver.ask() }
    return count <= wish ? nil : "\(count) random bytes where \(wish) were asked for"
  }

  /// The honest host counts up: whatever was left over, these are bytes of this device.
  mutating func prove(_ heard: inout [UInt8]) throws(QueueError) -> Bool {
    var bytes = InlineArray<300, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let count = try driver.read(into: &span)
    for index in 0..<count { heard.append(bytes[index]) }
    driver.ask()
    guard heard.count >= 900 else { return false }
    let last = heard.suffix(600)
    return zip(last, last.dropFirst()).allSatisfy { $0 &+ 1 == $1 }
  }
}

/// The console driver with two ports, and its user.
struct FuzzedConsoleDriver: FuzzedDriver, ~Copyable {
  static var slot: Int { 1 }
  static var deviceID: UInt32 { ConsoleFormat.deviceID }
  static var wanted: FeatureSet { FeatureSet.consoleSize.union(.consoleMultiport) }
  private static var layout: ConsoleDriverLayout {
    ConsoleDriverLayout(ports: 2, depth: 4, bufferSize: 256)
  }
  static var outBytes: Int { layout.outBytes }
  static var inBytes: Int { layout.inBytes }
  static func queueCount(_ features: FeatureSet) -> Int {
    features.contains(.consoleMultiport) ? layout.queueCount : 2
  }

  var driver: ConsoleDriver
  /// Bytes of the last words that were written.
  private var said = 0

  init?(
    out: BufferSegment, into: BufferSegment, region: SharedRegion, arena: inout PrivateArena
  ) {
    guard
      let driver = ConsoleDriver(Self.layout, out: out, into: into, region: region, arena: &arena)
    else { return nil }
    self.driver = driver
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    driver.attach(queue, at: index)
  }
  mutating func begin(_ features: FeatureSet) { driver.begin(features: features) }
  mutating func end() { driver.detach() }
  mutating func publish() -> UInt32 { driver.publish() }
  var hasCompletion: Bool { driver.hasCompletion }
  mutating func armNotifications() { driver.armNotifications() }
  mutating func suppressNotifications() { driver.suppressNotifications() }
  var received: UInt64 { driver.counters.bytesReceived }

  mutating func use(_ input: inout FuzzInput) throws(QueueError) -> String? {
    let kind = input.byte()
    let port = Int(kind >> 3 & 1)
    switch kind & 7 {
    case 0, 1:
      let bytes = [UInt8](repeating: kind, count: Int(input.byte()) * 4)
      let count = try driver.write(port: port, bytes.span)
      guard count <= bytes.count else { return "\(count) bytes of \(bytes.count) were written" }
    case 2, 3, 4:
      var bytes = InlineArray<1020, UInt8>(repeating: 0)
      let wish = Int(input.byte()) * 4
      var span = bytes.mutableSpan
      var part = span._mutatingExtracting(0..<wish)
      let count = try driver.read(port: port, into: &part)
      guard count <= wish else { return "\(count) bytes where \(wish) were asked for" }
    case 5: driver.setOpen(kind & 16 == 0, port: port)
    case 6:
      let open = try driver.unsentCount(port: port)
      guard open >= 0, open <= 4 else { return "\(open) of 4 buffers are on their way" }
    default: break
    }
    _ = try driver.step()
    let count = driver.nameCount(port: port)
    guard count <= ConsoleFormat.nameLimit else { return "a name of \(count) bytes" }
    for index in 0..<count where driver.nameByte(port: port, at: index) == 0 {
      return "a name with a zero byte"
    }
    guard driver.isAdded(port: port) || !driver.isConsole(port: port) else {
      return "a console that is not there"
    }
    return nil
  }

  /// What is said comes back, behind whatever the attack has left in the buffers.
  mutating func prove(_ heard: inout [UInt8]) throws(QueueError) -> Bool {
    let words = Array("after the attack".utf8)
    // Every step takes at least one thing; an honest device runs out of them.
    for _ in 0..<100 { if try !driver.step() { break } }
    if driver.isAdded(port: 0) {
      driver.setOpen(true, port: 0)
      said += try driver.write(port: 0, words.span.extracting(said..<words.count))
    }
    var bytes = InlineArray<1024, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    let count = try driver.read(port: 0, into: &span)
    for index in 0..<count { heard.append(bytes[index]) }
    return heard.suffix(words.count) == words[...]
  }
}
