import CHostNetwork
import CLinux
import LinuxSupport
import Testing
import VirtioNet

@testable import HostResources

/// Time that a test moves, in microseconds.
@safe
final class HandClock: @unchecked Sendable {
  var now: UInt64 = 1
}

/// One front-end's end of a switch.
@safe
final class TestPort {
  private var host: SwitchPortHost
  let address: MACAddress

  private init(_ host: consuming SwitchPortHost, _ address: MACAddress) {
    self.host = host
    self.address = address
  }

  static func make(
    _ owner: NetworkSwitch, _ number: UInt64, isIsolated: Bool = false, rate: UInt64 = 0,
    mayChange: Bool = false
  ) -> TestPort? {
    var options = SwitchPortOptions(address: SwitchTests.station(number))
    options.isIsolated = isIsolated
    options.mayChangeAddress = mayChange
    options.bytesPerSecond = rate
    guard var host = owner.join(options, wakeDescriptor: Int32(cl_eventfd())) else { return nil }
    host.setActive(true)
    return TestPort(host, options.address)
  }

  var counters: SwitchPortCounters { host.counters }
  var isLinkUp: Bool { host.isLinkUp }
  func hasNews() -> Bool { host.takeEvents() }
  func setActive(_ isActive: Bool) { host.setActive(isActive) }
  func setAddress(_ address: MACAddress) -> Bool { host.setAddress(address) }
  func send(_ frame: [UInt8]) -> Bool { host.send(frame.span, FrameOffload()) == .taken }

  func send(to: MACAddress, from: MACAddress? = nil, _ payload: [UInt8] = []) -> Bool {
    send(SwitchTests.frame(to: to, from: from ?? address, payload))
  }

  func receive() -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: NetFormat.frameLimit)
    var span = bytes.mutableSpan
    var offload = FrameOffload()
    let count = host.receive(into: &span, &offload)
    return count == 0 ? nil : Array(bytes[..<count])
  }
}

/// The far end of an uplink.
struct FarEnd: ~Copyable {
  private let descriptor: Descriptor

  init(_ owner: NetworkSwitch) throws {
    var first: Int32 = -1
    var second: Int32 = -1
    _ = try SystemError.check(unsafe chn_socket_pair(&first, &second))
    try owner.connect(Descriptor(owning: second))
    descriptor = Descriptor(owning: first)
  }

  /// Sends bytes as they are.
  func write(_ bytes: [UInt8]) {
    let put = unsafe bytes.withUnsafeBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chn_write(descriptor.number, base, base + 12, buffer.count - 12)
    }
    #expect(put == bytes.count)
  }

  func send(to: MACAddress, from: MACAddress) {
    write([UInt8](repeating: 0, count: 12) + SwitchTests.frame(to: to, from: from, []))
  }

  /// The next frame without its header; waits for one.
  func receive() -> [UInt8]? {
    var bytes = [UInt8](repeating: 0, count: 70000)
    guard let never = try? Descriptor(cl_eventfd()) else { return nil }
    _ = chn_wait(descriptor.number, never.number)
    let count = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chn_read(descriptor.number, base, buffer.count)
    }
    return count < 12 ? nil : Array(bytes[12..<count])
  }
}

@Suite struct SwitchTests {
  static func station(_ number: UInt64) -> MACAddress {
    MACAddress(rawValue: 0x02 | number << 24)
  }

  static func frame(to: MACAddress, from: MACAddress, _ payload: [UInt8]) -> [UInt8] {
    (0..<6).map { to.byte(at: $0) } + (0..<6).map { from.byte(at: $0) } + [0x88, 0xb5] + payload
  }

  /// Waits until a switch has looked at `count` frames of a port.
  static func wait(_ owner: NetworkSwitch, port: Int, frames count: UInt64) {
    while true {
      let counters = owner.counters(port: port)
      if counters.framesIn + counters.malformed >= count { return }
    }
  }

  @Test func framesGoWhereTheyBelong() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1))
    let two = try #require(TestPort.make(owner, 2))
    let three = try #require(TestPort.make(owner, 3))
    #expect(one.send(to: two.address, [1]))
    #expect(two.hasNews() && !two.hasNews())
    #expect(two.receive() == Self.frame(to: two.address, from: one.address, [1]))
    #expect(two.receive() == nil && three.receive() == nil && one.receive() == nil)
    #expect(two.send(to: .broadcast, [2]))
    #expect(one.receive() != nil && three.receive() != nil && two.receive() == nil)
    // To itself and to nobody: nobody gets it.
    #expect(one.send(to: one.address))
    #expect(one.send(to: Self.station(99)))
    #expect(one.receive() == nil && two.receive() == nil && three.receive() == nil)
    #expect(TestPort.make(owner, 2) == nil)
  }

  /// What was sent to a driver is not for the one that comes after it.
  @Test func anAbsentDriverGetsNothingLater() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1))
    let two = try #require(TestPort.make(owner, 2))
    #expect(one.send(to: two.address, [1]))
    two.setActive(false)
    #expect(one.send(to: two.address, [2]))
    two.setActive(true)
    #expect(two.receive() == nil)
    #expect(two.counters.absent == 2)
    #expect(one.send(to: two.address, [3]))
    #expect(two.receive()?.last == 3)
  }

  /// An address changes only where the operator allows it, and never to somebody else's.
  @Test func whoMayChangeAnAddress() throws {
    let owner = NetworkSwitch()
    let fixed = try #require(TestPort.make(owner, 1))
    let free = try #require(TestPort.make(owner, 2, mayChange: true))
    let far = try FarEnd(owner)
    let new = Self.station(20)
    #expect(!fixed.setAddress(new) && fixed.setAddress(fixed.address))
    #expect(!free.setAddress(fixed.address) && !free.setAddress(.broadcast))
    // A station behind the uplink that was seen keeps its address.
    far.send(to: free.address, from: Self.station(21))
    Self.wait(owner, port: 2, frames: 1)
    #expect(!free.setAddress(Self.station(21)))
    #expect(free.setAddress(new))
    #expect(!fixed.send(to: free.address, from: new) && fixed.counters.spoofed == 1)
    #expect(!free.send(to: fixed.address) && free.counters.spoofed == 1)
    #expect(free.send(to: fixed.address, from: new))
    #expect(fixed.send(to: new) && free.receive() != nil)
    // The first address stays the port's, and comes back with a reset.
    #expect(TestPort.make(owner, 2) == nil && TestPort.make(owner, 20) == nil)
    #expect(free.setAddress(free.address) && free.send(to: fixed.address))
    owner.finish()
  }

  @Test func theOperatorTakesALinkAway() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1))
    let two = try #require(TestPort.make(owner, 2))
    _ = two.hasNews()
    #expect(!owner.setLink(of: Self.station(9), isUp: false))
    #expect(owner.setLink(of: two.address, isUp: false))
    #expect(!two.isLinkUp && one.isLinkUp && two.hasNews())
    #expect(one.send(to: two.address) && two.receive() == nil && two.counters.absent == 1)
    #expect(!two.send(to: one.address) && one.receive() == nil)
    #expect(owner.setLink(of: two.address, isUp: true))
    #expect(two.isLinkUp && one.send(to: two.address) && two.receive() != nil)
  }

  @Test func nobodyIsSomebodyElse() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1))
    let two = try #require(TestPort.make(owner, 2))
    for source in [two.address, Self.station(7), .broadcast, .none] {
      #expect(!one.send(to: two.address, from: source))
    }
    #expect(one.counters.spoofed == 4 && two.receive() == nil)
    #expect(!one.setAddress(two.address) && one.setAddress(one.address))
    // Neither is somebody behind an uplink.
    let far = try FarEnd(owner)
    far.send(to: two.address, from: one.address)
    far.send(to: two.address, from: .broadcast)
    far.send(to: two.address, from: Self.station(50))
    far.write([UInt8](repeating: 0, count: 13))
    far.write([2] + [UInt8](repeating: 0, count: 40))
    far.write([1] + [UInt8](repeating: 0xff, count: 60))
    Self.wait(owner, port: 2, frames: 6)
    #expect(owner.counters(port: 2).spoofed == 3)
    #expect(owner.counters(port: 2).malformed == 2)
    #expect(two.receive()?[6...11].elementsEqual([2, 0, 0, 50, 0, 0]) == true)
    #expect(two.receive() == nil)
    owner.finish()
  }

  /// Isolated ports reach the uplink and ports that are not isolated, and not each other.
  @Test func whoMayTalkToWhom() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1, isIsolated: true))
    let two = try #require(TestPort.make(owner, 2, isIsolated: true))
    let open = try #require(TestPort.make(owner, 3))
    let far = try FarEnd(owner)
    #expect(!one.send(to: two.address) && two.receive() == nil)
    #expect(one.counters.isolated == 1)
    #expect(one.send(to: open.address) && open.receive() != nil)
    #expect(open.send(to: one.address) && one.receive() != nil)
    #expect(one.send(to: .broadcast))
    #expect(two.receive() == nil && open.receive() != nil)
    #expect(far.receive() == Self.frame(to: .broadcast, from: one.address, []))
    owner.finish()
  }

  /// Stations behind uplinks are learnt, move with their frames, and are forgotten in time.
  @Test func stationsAreLearnt() throws {
    let clock = HandClock()
    let owner = NetworkSwitch(clock: { clock.now })
    let one = try #require(TestPort.make(owner, 1))
    let left = try FarEnd(owner)
    let right = try FarEnd(owner)
    let station = Self.station(70)
    left.send(to: one.address, from: station)
    Self.wait(owner, port: 1, frames: 1)
    #expect(one.send(to: station, [1]))
    #expect(owner.counters(port: 1).framesOut == 1 && owner.counters(port: 2).framesOut == 0)
    right.send(to: one.address, from: station)
    Self.wait(owner, port: 2, frames: 1)
    #expect(one.send(to: station, [2]))
    #expect(owner.counters(port: 1).framesOut == 1 && owner.counters(port: 2).framesOut == 1)
    clock.now += NetworkSwitch.lifetime * 1_000_000
    #expect(one.send(to: station, [3]))
    #expect(owner.counters(port: 1).framesOut == 2 && owner.counters(port: 2).framesOut == 2)
    #expect(left.receive()?.last == 1 && left.receive()?.last == 3)
    #expect(right.receive()?.last == 2 && right.receive()?.last == 3)
    owner.finish()
  }

  /// A receiver that reads nothing loses frames, and nobody waits for it.
  @Test func aFullPortDrops() throws {
    let owner = NetworkSwitch()
    let one = try #require(TestPort.make(owner, 1))
    let two = try #require(TestPort.make(owner, 2))
    let payload = [UInt8](repeating: 7, count: 60000)
    for _ in 0..<50 { #expect(one.send(to: two.address, payload)) }
    #expect(two.counters.framesOut == 34 && two.counters.overflows == 16)
    for _ in 0..<34 { #expect(two.receive()?.count == 60014) }
    let isEmpty = two.receive() == nil
    #expect(isEmpty)
    for _ in 0..<1100 { #expect(one.send(to: two.address)) }
    #expect(two.counters.framesOut == 34 + 1024)
  }

  /// In any stretch of time no more than a burst and the rate's share passes, and what keeps to
  /// the rate passes whole.
  @Test(arguments: 1...40)
  func rates(seed: Int) {
    var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15
    func below(_ limit: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % limit
    }
    let rate = 1000 + below(100_000_000)
    let burst = 3000 + below(200_000)
    var bucket = TokenBucket(rate: rate, burst: burst, now: 0)
    var now: UInt64 = 0
    var passed: UInt64 = 0
    for _ in 0..<5000 {
      now += below(2000)
      let count = 60 + below(1500)
      if bucket.take(Int(count), now: now) { passed += count }
      #expect(Double(passed) <= Double(burst) + Double(rate) * Double(now) / 1e6, "seed \(seed)")
    }
    now += (burst / rate + 2) * 1_000_000
    for _ in 0..<2000 {
      let count = 60 + below(1500)
      now += count * 1_000_000 / rate + 1
      let isIn = bucket.take(Int(count), now: now)
      #expect(isIn, "seed \(seed)")
    }
  }

  @Test func ratesAreKeptPerPort() throws {
    let clock = HandClock()
    let owner = NetworkSwitch(clock: { clock.now })
    let one = try #require(TestPort.make(owner, 1, rate: 10_000))
    let two = try #require(TestPort.make(owner, 2))
    let payload = [UInt8](repeating: 0, count: 986)
    var passed = 0
    for _ in 0..<300 where one.send(to: two.address, payload) { passed += 1 }
    #expect(passed == 131 && one.counters.overRate == 169)
    clock.now += 100_000
    #expect(one.send(to: two.address, payload) && !one.send(to: two.address, payload))
    #expect(two.send(to: one.address, payload))
  }

  /// The table against a dictionary without bounds: what it knows is right, and it knows all that
  /// it did not refuse.
  @Test(arguments: 1...40)
  func tableAndModel(seed: Int) {
    var state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15
    func below(_ limit: UInt64) -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return (state >> 33) % limit
    }
    var table = AddressTable(count: 64, lifetime: 1000)
    var model: [UInt64: (port: Int, seen: UInt64)] = [:]
    var now: UInt64 = 1
    for _ in 0..<3000 {
      now += below(20)
      let number = below(100)
      let address = Self.station(number)
      if below(2) == 0 {
        let before = table.refused
        let port = Int(below(4))
        table.learn(address, port: port, now: now)
        if table.refused == before { model[number] = (port, now) }
      } else {
        let known = model[number].flatMap { now < $0.seen + 1000 ? $0.port : nil }
        #expect(table.port(of: address, now: now) == known, "seed \(seed)")
      }
      if below(500) == 0 {
        let port = Int(below(4))
        table.forget(port: port)
        model = model.filter { $0.value.port != port }
      }
    }
  }
}
