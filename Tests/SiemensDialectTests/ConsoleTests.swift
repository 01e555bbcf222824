import IVShmem
import SharedMemory
import Simulator
import Testing
import VirtioConsole
import VirtioDevice
import Virtqueue

@testable import SiemensDialect

/// A terminal of a test.
final class Terminal {
  var input: [UInt8] = []
  var output: [UInt8] = []
  var hasNews = false
}

struct TerminalHost: ConsoleHost, ~Copyable {
  let terminal: Terminal
  var portCount: Int { 1 }
  var hasSize: Bool { true }
  func nameByte(port: Int, at index: Int) -> UInt8 { 0 }
  func size(port: Int) -> ConsoleSize { ConsoleSize(columns: 132, rows: 43) }
  func isOpen(port: Int) -> Bool { true }
  mutating func takeEvents() -> Bool {
    defer { terminal.hasNews = false }
    return terminal.hasNews
  }
  func requestLook() { terminal.hasNews = true }
  mutating func read(port: Int, into bytes: inout MutableSpan<UInt8>) -> Int {
    let count = min(bytes.count, terminal.input.count)
    for index in 0..<count { bytes[index] = terminal.input[index] }
    terminal.input.removeFirst(count)
    return count
  }
  mutating func write(port: Int, _ bytes: Span<UInt8>) -> ConsoleWrite {
    for index in bytes.indices { terminal.output.append(bytes[index]) }
    return .taken(bytes.count)
  }
}

/// What a driver has written to the configuration space of a device.
struct NotebookWrite: Equatable {
  let offset: Int
  let width: Int
  let value: UInt64
}

final class Notebook {
  var space = [UInt8](repeating: 0, count: 32)
  var writes: [NotebookWrite] = []
  /// Widths that the field at an offset takes; every other is refused.
  var fields: [Int: Int] = [:]
}

/// A device that is nothing but a configuration space.
struct NotebookDevice: DeviceModel, ~Copyable {
  let notebook: Notebook
  var deviceID: UInt32 { 42 }
  var queueCount: Int { 1 }
  var maximumQueueSize: QueueSize {
    guard let size = QueueSize(8) else { preconditionFailure("8 is a size") }
    return size
  }
  var maximumChainLength: Int { 4 }
  var offeredFeatures: FeatureSet { FeatureSet() }
  var configurationSize: Int { notebook.space.count }
  func configurationByte(at offset: Int) -> UInt8 { notebook.space[offset] }
  mutating func writeConfiguration(at offset: Int, width: Int, value: UInt64) -> Bool {
    guard notebook.fields[offset] == width else { return false }
    notebook.writes.append(NotebookWrite(offset: offset, width: width, value: value))
    for byte in 0..<width {
      notebook.space[offset + byte] = UInt8(value >> UInt64(8 * byte) & 0xff)
    }
    return true
  }
  mutating func start(features: FeatureSet) {}
  func canServe(queue: Int) -> Bool { false }
  mutating func serve(
    _ chain: consuming TakenChain, _ segments: borrowing ChainSegments, index: Int,
    on queue: inout DeviceQueue, in region: SharedRegion
  ) { queue.complete(chain, written: 0) }
  mutating func nextCompletion() -> DeviceCompletion? { nil }
  var inFlightCount: Int { 0 }
  mutating func stop() {}
  mutating func takeConfigurationChange() -> Bool { false }
}

@Suite struct ConsoleTests {
  static func arena() -> PrivateArena {
    let base = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    return unsafe PrivateArena(unsafeBase: base, count: 1 << 20)
  }

  static func memory(_ size: UInt64) throws -> ScheduledLink {
    let geometry = try LinkGeometry(
      maxPeers: 2, stateTableSize: 4096, readWriteSize: size, outputSize: 0)
    let link = ScheduledLink(geometry: geometry, seed: 4, garbage: true)
    link.recordsVectors = true
    link.region.store64(0, at: 0)
    return link
  }

  typealias Console = ConsoleDevice<TerminalHost>

  static func backend(
    _ link: ScheduledLink, _ terminal: Terminal, vectors: Int
  ) throws -> SiemensBackend<ScheduledPeer, Console> {
    var arena = Self.arena()
    guard let size = QueueSize(8),
      let device = Console(
        host: TerminalHost(terminal: terminal), maximumQueueSize: size, arena: &arena)
    else { preconditionFailure("1 MiB holds a console") }
    let platform = ScheduledPeer(
      link: link, peerID: PeerID(0), vectorCount: UInt16(vectors))
    let plan = try SiemensPlan(
      own: PeerID(0), geometry: link.geometry, configurationSize: device.configurationSize)
    guard
      var backend = SiemensBackend<ScheduledPeer, Console>(
        platform: platform, plan: plan, device: device, arena: &arena)
    else { preconditionFailure("1 MiB holds a back-end") }
    backend.start()
    for _ in 0..<10 { _ = backend.step() }
    return backend
  }

  /// The published trace of the console, and a conversation.
  @Test(arguments: [1, 2, 3]) func consoleStartUpIsThePublishedTrace(vectors: Int) throws {
    let link = try Self.memory(0xf000)
    let terminal = Terminal()
    var backend = try Self.backend(link, terminal, vectors: vectors)
    let driver = LinuxDriver(link, vectors: vectors, wantedLow: 1, callbacks: [true, true])
    driver.interleave = { if link.next() % 2 == 0 { _ = backend.step() } }
    try driver.probe()
    for _ in 0..<20 { _ = backend.step() }
    driver.handleInterrupts()
    // One vector: all 0. Two: both queues share 1. Three: one each.
    let first: UInt64 = vectors == 1 ? 0 : 1
    let second: UInt64 = vectors == 1 ? 0 : vectors == 2 ? 1 : 2
    let expected: [(Int, UInt64)] =
      TraceTests.start + [
        (0x14, 0x1), (0x44, 0xb),
        (0x1c, 0), (0x20, 8), (0x24, first), (0x28, 0x200), (0x30, 0x280), (0x38, 0x2c0),
        (0x26, 1),
        (0x1c, 1), (0x20, 8), (0x24, second), (0x28, 0x400), (0x30, 0x480), (0x38, 0x4c0),
        (0x26, 1),
        (0x44, 0xf),
      ]
    #expect(driver.writes == TraceTests.trace(expected))
    #expect(driver.rings.map(\.deviceVector) == [Int(first), Int(second)])
    // The first configuration interrupt, from which this driver takes the size.
    #expect(driver.configurationChanges == 1)
    #expect(link.region.load16(driver.base + 0x4c) == 132)
    #expect(link.region.load16(driver.base + 0x4e) == 43)
    #expect(driver.submit(0, out: [], answer: [64]))
    #expect(driver.submit(1, out: [Array("uname -a\r".utf8)], answer: []))
    terminal.input = Array("Linux".utf8)
    terminal.hasNews = true
    for _ in 0..<50 where !backend.step() {
      _ = backend.sleep(until: nil)
      driver.handleInterrupts()
    }
    #expect(terminal.output == Array("uname -a\r".utf8))
    #expect(driver.rings[1].finished.count == 1)
    #expect(driver.rings[0].finished.first?.written == 5)
    #expect(driver.rings[0].finished.first?.result.prefix(5) == Array("Linux".utf8)[...])
    #expect(driver.complaints == 0)
  }

  /// F14: the driver sends and spins until the buffer is used; no interrupt helps, and while the
  /// back-end is awake there is no doorbell either.
  @Test func f14_aDriverThatSpinsInSendIsServedWithoutADoorbell() throws {
    let link = try Self.memory(0xf000)
    let terminal = Terminal()
    var backend = try Self.backend(link, terminal, vectors: 1)
    let driver = LinuxDriver(link, wantedLow: 1, callbacks: [true, true])
    driver.interleave = { _ = backend.step() }
    try driver.probe()
    for _ in 0..<20 { _ = backend.step() }
    driver.platform.setInterruptsEnabled(false)
    for character in Array("early boot".utf8) {
      #expect(driver.submit(1, out: [[character]], answer: []))
      var spins = 0
      while !driver.takeUsed(1), spins < 100 {
        spins += 1
        _ = backend.step()
      }
      #expect(spins < 100)
    }
    #expect(terminal.output == Array("early boot".utf8))
  }

  /// F15: nothing says how many bytes of configuration space were written.
  @Test func f15_configurationWritesOfUnknownWidth() throws {
    let link = try Self.memory(0x1_0000)
    let notebook = Notebook()
    notebook.fields = [0: 1, 2: 2, 4: 4, 8: 8, 16: 4]
    var arena = Self.arena()
    let plan = try SiemensPlan(
      own: PeerID(0), geometry: link.geometry, configurationSize: notebook.space.count)
    guard
      var backend = SiemensBackend<ScheduledPeer, NotebookDevice>(
        platform: ScheduledPeer(link: link, peerID: PeerID(0)), plan: plan,
        device: NotebookDevice(notebook: notebook), arena: &arena)
    else { preconditionFailure("1 MiB holds a back-end") }
    backend.start()
    for _ in 0..<4 { _ = backend.step() }
    let driver = LinuxDriver(link)
    driver.interleave = { _ = backend.step() }
    try driver.attach()
    for (offset, width, value): (Int, Int, UInt64) in [
      (0, 1, 0x11), (2, 2, 0x2233), (4, 4, 0x4455_6677), (8, 8, 0x8899_aabb_ccdd_eeff),
      // The same again: nothing differs.
      (8, 8, 0x8899_aabb_ccdd_eeff), (2, 2, 0x2233),
      // Values whose upper bytes are zero.
      (4, 4, 1), (8, 8, 0), (2, 2, 0),
      // An emergency character, twice.
      (16, 4, 0x41), (16, 4, 0x41),
    ] {
      notebook.writes = []
      try driver.write(0x4c + offset, value, width)
      try driver.synchronize()
      #expect(notebook.writes == [NotebookWrite(offset: offset, width: width, value: value)])
    }
    // A field that cannot be written shows its own value again.
    notebook.writes = []
    try driver.write(0x4c + 20, 0xffff, 2)
    try driver.synchronize()
    #expect(notebook.writes == [])
    #expect(link.region.load8(driver.base + 0x4c + 20) == 0)
    #expect(backend.counters.refusals == 1)
    let generation = link.region.load32(driver.base + 0x48)
    #expect(generation % 2 == 0)
  }

  /// The modes of interrupts (facts, section 6): a driver with fewer vectors hears everything too.
  @Test(arguments: [1, 2, 3, 4, 5]) func everyInterruptModeHearsEveryQueue(vectors: Int) throws {
    let rig = try SiemensRig(vectors: vectors, queues: 3)
    try rig.startBackend()
    try rig.driver.probe()
    rig.settle()
    #expect(rig.driver.isPerQueue == (vectors >= 4))
    for ring in [2, 0, 1, 1, 0, 2] {
      let before = rig.driver.rings[ring].finished.count
      #expect(
        rig.driver.submit(ring, out: [LinuxDriver.header(0, 1)], answer: [512, 1]))
      #expect(rig.run(until: before + 1, ring: ring))
    }
    #expect(rig.driver.rings.map { $0.finished.count } == [2, 2, 2])
  }

  /// The driver's handler clears the flag with a plain store and may read the ring too early; the
  /// second doorbell finds what it lost.
  @Test func anInterruptThatTheDriverLostIsRepeated() throws {
    let rig = try DefectTests.live()
    rig.driver.rings[0].lastUsed = 0
    rig.pace = 0
    #expect(rig.driver.read(sector: 1))
    rig.settle()
    // The handler said "not mine": flag cleared, ring not looked at.
    rig.link.delivered[1] = []
    rig.link.region.store8(0, at: rig.driver.base + 0x41)
    #expect(rig.driver.rings[0].finished.isEmpty)
    rig.sleep()
    #expect(rig.counters.secondDoorbells == 1)
    rig.driver.handleInterrupts()
    #expect(rig.driver.rings[0].finished.count == 1)
    // Once, not for ever.
    for _ in 0..<5 { rig.sleep() }
    #expect(rig.counters.secondDoorbells == 1)
  }
}
