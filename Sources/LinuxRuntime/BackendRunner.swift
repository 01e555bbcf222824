public import CommandOptions
import DeviceRuntime
import IVShmem
import LinuxSupport
import SharedMemory
import SimulatorPeer
import VirtioTransport

/// How a back-end process serves.
public struct BackendOptions: Sendable {
  /// Where devices are served.
  public enum Face: Sendable {
    /// An ivshmem link.
    case link(LinkSpecification)
    /// A vhost-user socket at this path.
    case vhostUser(String)

    /// How the operator named it.
    public var name: String {
      switch self {
      case .link(let link): "--link sim:\(link.socketPath)"
      case .vhostUser(let path): "--vhost-user \(path)"
      }
    }
  }

  /// A link or socket with its devices, in slot order.
  public struct Link: Sendable {
    /// Which one.
    public var face: Face
    /// Its devices; a socket has exactly one.
    public var devices: [DeviceSpecification]

    /// States a link.
    public init(_ face: Face, devices: [DeviceSpecification]) {
      self.face = face
      self.devices = devices
    }

    /// Sets how to talk on it; `false` when `name` is no dialect or this is no ivshmem link.
    public mutating func setDialect(_ name: String) -> Bool {
      guard case .link(var link) = face else { return false }
      do throws(UsageError) {
        link.dialect = try Dialect.parse(name, option: "--dialect")
      } catch { return false }
      face = .link(link)
      return true
    }
  }

  /// The links; each has a thread of its own.
  public var links: [Link] = []
  /// How long a link looks before it sleeps, in nanoseconds.
  public var spinNanoseconds: UInt64 = 0
  /// Where log lines go.
  public var log: @Sendable (String) -> Void = { _ in }

  /// No links.
  public init() {}
}

/// What one link has counted when it ended.
public struct LinkReport: Sendable {
  /// `link: name=value ...`, one line of JSON.
  public let json: String
}

/// One link of a back-end process: everything is opened by `init`, so that nothing is half-started
/// when something is wrong.
public struct BackendLink: ~Copyable {
  typealias Device = ServedDevice
  private var backend: Backend<SimulatorPeer, Device>
  private let wake: LocalWake
  private let spin: UInt64
  private let name: String
  private let deviceCount: Int
  private let log: @Sendable (String) -> Void

  /// Opens the link and its devices.
  public init(
    _ specification: LinkSpecification, _ devices: [DeviceSpecification],
    _ runner: BackendOptions
  ) throws(UsageError) {
    try self.init(
      openPeer(specification, side: .backEnd), specification, devices, runner)
  }

  /// Takes over a link that was joined already.
  init(
    _ platform: consuming SimulatorPeer, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification], _ runner: BackendOptions
  ) throws(UsageError) {
    backend = try Self.open(platform, specification, devices, runner)
    wake = backend.link.platform.localWake
    spin = runner.spinNanoseconds
    name = specification.socketPath
    deviceCount = devices.count
    log = runner.log
  }

  private static func open(
    _ platform: consuming SimulatorPeer, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification],
    _ runner: BackendOptions
  ) throws(UsageError) -> Backend<SimulatorPeer, Device> {
    guard devices.count <= BlockLayout.slotCount else {
      throw UsageError(
        "link \(specification.socketPath): \(devices.count) devices, a link carries at"
          + " most \(BlockLayout.slotCount)")
    }
    let link = try makeNativeLink(platform, specification, side: .backEnd)
    let wake = link.platform.localWake
    var arena = PrivateMemory.arena(4 << 20)
    guard var backend = Backend<SimulatorPeer, Device>(link: link, arena: &arena) else {
      preconditionFailure("4 MiB hold a link")
    }
    for (index, specification) in devices.enumerated() {
      let device = try ServedDevice.make(
        specification, wakeDescriptor: wake.descriptor, log: runner.log)
      var own = PrivateMemory.arena(2 << 20)
      guard backend.add(device, at: index, arena: &own) else {
        preconditionFailure("2 MiB hold a device's queues")
      }
    }
    return backend
  }

  /// The event that ends a sleep.
  public var wakeDescriptor: Int32 { wake.descriptor }

  /// Serves until `shouldStop` says so, then quiesces and tells the front-end.
  public mutating func run(_ shouldStop: () -> Bool) -> LinkReport {
    backend.start()
    log("link \(name): waiting for its front-end")
    var wasUp = false
    var idleSince: UInt64 = 0
    var looks = 0
    while !shouldStop() {
      let progress = backend.step()
      if backend.link.isUp != wasUp {
        wasUp = backend.link.isUp
        log("link \(name): \(wasUp ? "up" : "down")")
      }
      if progress == .busy {
        idleSince = 0
        continue
      }
      if spin > 0 {
        // The clock costs as much as a look: read it now and then.
        looks &+= 1
        if looks & 15 != 0 {
          Ordering.spinHint()
          continue
        }
        let now = backend.link.platform.now().nanoseconds
        if idleSince == 0 { idleSince = now }
        if now - idleSince < spin { continue }
      }
      idleSince = 0
      switch backend.sleep(until: nil) {
      case .event, .deadline, .interrupted: break
      case .gone:
        log("link \(name): the simulator is gone")
        return report()
      }
    }
    drain()
    return report()
  }

  /// Ends what is in flight, at most five seconds, then leaves.
  private mutating func drain() {
    backend.quiesce()
    let end = backend.link.platform.now().advanced(byNanoseconds: 5_000_000_000)
    while !backend.isQuiet, backend.link.platform.now() < end {
      if backend.step() == .idle { _ = backend.sleep(until: end) }
    }
    backend.leave()
    log("link \(name): left")
  }

  private func report() -> LinkReport {
    let link = backend.link.counters
    var json = "{\"link\":\"\(name)\",\"pairings\":\(link.pairings),\"losses\":\(link.losses),"
    json += "\"doorbells\":\(link.doorbells),\"sleeps\":\(link.sleeps),"
    json += "\"wakeUps\":\(link.wakeUps),\"peerErrors\":\(link.peerErrors),\"devices\":["
    for index in 0..<deviceCount {
      let counters = backend.slots[index].counters
      if index > 0 { json += "," }
      json += "{\"slot\":\(index),\"chains\":\(counters.chains),"
      json += "\"notificationsSeen\":\(counters.notificationsSeen),"
      json += "\"notificationsSent\":\(counters.notificationsSent),"
      json += "\"transactions\":\(counters.transactions),\"refusals\":\(counters.refusals),"
      json += "\"queueErrors\":\(counters.queueErrors),\"resets\":\(counters.resets),"
      json += backend.slots[index].device.countersJSON + "}"
    }
    return LinkReport(json: json + "]}")
  }
}
