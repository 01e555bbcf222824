import CommandOptions
import SharedMemory
import VirtioConsole
import VirtioDevice
import Virtqueue

/// The console driver with one port in use, or with none for a list of all.
struct ConsolePortDriver: PathDriver, ~Copyable {
  /// The driver itself.
  var console: ConsoleDriver
  /// The port in use.
  private let port: Int?
  /// Ports of the device; valid once it runs.
  private(set) var portCount = 1
  /// Whether the device tells of its ports.
  private(set) var isMultiport = false

  /// Buffers a port in each direction.
  private static var depth: Int { 16 }

  private static func layout(_ port: Int?) -> ConsoleDriverLayout {
    let ports = port.map { $0 + 1 } ?? ConsoleFormat.portLimit
    // The memory of a small link holds the books of all ports as well.
    return ConsoleDriverLayout(ports: ports, depth: depth, bufferSize: ports > 4 ? 1024 : 4096)
  }

  /// Bytes the driver needs in a path's memory.
  static func memoryBytes(port: Int?) -> Int { layout(port).outBytes + layout(port).inBytes }

  /// Takes buffers out of a path's memory.
  init(
    port: Int?, _ path: inout some DevicePath & ~Copyable
  ) throws(ClientError) {
    let layout = Self.layout(port)
    guard let out = path.allocate(layout.outBytes, .toDevice),
      let into = path.allocate(layout.inBytes, .fromDevice)
    else { throw .noRoom }
    var arena = PrivateMemory.arena(256 << 10)
    guard
      let console = ConsoleDriver(layout, out: out, into: into, region: path.region, arena: &arena)
    else { preconditionFailure("256 KiB hold the books") }
    self.console = console
    self.port = port
  }

  // MARK: PathDriver

  static var kind: DeviceKind { DeviceKind(id: ConsoleFormat.deviceID, name: "a console") }
  var wanted: FeatureSet { FeatureSet.consoleSize.union(.consoleMultiport) }
  var neededQueueSize: Int { console.layout.queueSize }

  mutating func queues(
    _ features: FeatureSet, _ configuration: [UInt8]
  ) throws(ClientError) -> [Int] {
    isMultiport = features.contains(.consoleMultiport)
    // The device's claim; what is beyond our own limit is not looked at.
    let claimed =
      UInt32(configuration[4]) | UInt32(configuration[5]) << 8 | UInt32(configuration[6]) << 16
      | UInt32(configuration[7]) << 24
    portCount = isMultiport ? Int(min(max(claimed, 1), UInt32(ConsoleFormat.portLimit))) : 1
    if let port, port >= portCount {
      throw .usage(
        UsageError(
          "--port \(port): the console has \(portCount == 1 ? "one port" : "\(portCount) ports"),"
            + " counted from 0; see --list"))
    }
    var used = isMultiport ? [ConsoleQueue.controlReceive, .controlTransmit] : []
    if let port { used += [.receive(port: port), .transmit(port: port)] }
    return used.map { $0.index }
  }

  mutating func take(_ queue: consuming DriverQueue, at index: Int) {
    console.attach(queue, at: index)
  }

  mutating func begin(_ features: FeatureSet) { console.begin(features: features) }
  mutating func end() { console.detach() }
  mutating func publishAll() -> UInt32 { console.publish() }
  var hasCompletion: Bool { console.hasCompletion }
  mutating func armNotifications() { console.armNotifications() }
  mutating func suppressNotifications() { console.suppressNotifications() }
}
