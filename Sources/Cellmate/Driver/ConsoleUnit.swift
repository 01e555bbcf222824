import CCellmate
import SharedMemory
import VirtioConsole
import VirtioDevice
import Virtqueue

/// The console driver with one port in use, or with none for a list of all.
struct ConsoleUnit: ~Copyable {
  /// The driver itself.
  var driver: ConsoleDriver
  /// The port in use.
  let port: Int?
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

  /// Bytes the driver needs in the shared memory.
  static func memoryBytes(port: Int?) -> Int { layout(port).outBytes + layout(port).inBytes }

  /// Takes buffers out of the shared memory; `nil` when there is no room.
  init?(port: Int?, _ way: inout DeviceWay, arena: inout PrivateArena) {
    let layout = Self.layout(port)
    guard let out = way.pools.allocate(layout.outBytes, forWriting: false),
      let into = way.pools.allocate(layout.inBytes, forWriting: true),
      let driver = ConsoleDriver(layout, out: out, into: into, region: way.region, arena: &arena)
    else { return nil }
    self.driver = driver
    self.port = port
    if let port { self.driver.setOpen(true, port: port) }
  }

  static var kind: DeviceKind { DeviceKind(id: ConsoleFormat.deviceID, name: "a console") }
  static var wanted: FeatureSet {
    FeatureSet.eventIndex.union(.consoleSize).union(.consoleMultiport)
  }

  /// The queues to be used of a device with these features and this configuration, one bit each.
  mutating func queues(
    _ features: FeatureSet, _ configuration: InlineArray<64, UInt8>
  ) throws(FaceError) -> UInt32 {
    isMultiport = features.contains(.consoleMultiport)
    // The device's claim; what is beyond our own limit is not looked at.
    let claimed =
      UInt32(configuration[4]) | UInt32(configuration[5]) << 8 | UInt32(configuration[6]) << 16
      | UInt32(configuration[7]) << 24
    portCount = isMultiport ? Int(min(max(claimed, 1), UInt32(ConsoleFormat.portLimit))) : 1
    if let port, port >= portCount {
      throw .explained(
        Code.text,
        "--port \(port): the console has \(portCount == 1 ? "one port" : "\(portCount) ports"),"
          + " counted from 0; see --list")
    }
    var used: UInt32 = 0
    func use(_ queue: ConsoleQueue) { used |= 1 << UInt32(queue.index) }
    if isMultiport {
      use(.controlReceive)
      use(.controlTransmit)
    }
    if let port {
      use(.receive(port: port))
      use(.transmit(port: port))
    }
    return used
  }

  /// The size of a port: from a message, or for port 0 from the configuration space.
  func size(
    port: Int, _ features: FeatureSet, _ configuration: InlineArray<64, UInt8>
  ) -> ConsoleSize {
    let told = driver.size(port: port)
    guard port == 0, told == .unknown, features.contains(.consoleSize) else { return told }
    return ConsoleSize(
      columns: UInt16(configuration[0]) | UInt16(configuration[1]) << 8,
      rows: UInt16(configuration[2]) | UInt16(configuration[3]) << 8)
  }
}
