public import CommandOptions
import DeviceRuntime
import Glibc
import HostResources
import IVShmem
import LinuxSupport
import SharedMemory
import SimulatorPeer
import VirtioBlock
import VirtioTransport
import Virtqueue

/// How a back-end process serves.
public struct BackendOptions: Sendable {
  /// A link with its devices, in slot order.
  public struct Link: Sendable {
    /// Which link.
    public var link: LinkSpecification
    /// Its devices.
    public var devices: [DeviceSpecification]

    /// States a link.
    public init(link: LinkSpecification, devices: [DeviceSpecification]) {
      self.link = link
      self.devices = devices
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
  typealias Device = BlockDevice<FileBlockHost>
  private var backend: Backend<SimulatorPeer, Device>
  private let wake: LocalWake
  private let spin: UInt64
  private let name: String
  private let deviceCount: Int
  private let log: @Sendable (String) -> Void

  /// Requests a device may have in flight.
  static let slots = 256

  /// Opens the link and its devices.
  public init(_ options: BackendOptions.Link, _ runner: BackendOptions) throws(UsageError) {
    backend = try Self.open(options, runner)
    wake = backend.link.platform.localWake
    spin = runner.spinNanoseconds
    name = options.link.socketPath
    deviceCount = options.devices.count
    log = runner.log
  }

  private static func open(
    _ options: BackendOptions.Link, _ runner: BackendOptions
  ) throws(UsageError) -> Backend<SimulatorPeer, Device> {
    guard options.devices.count <= BlockLayout.slotCount else {
      throw UsageError(
        "link \(options.link.socketPath): \(options.devices.count) devices, a link carries at"
          + " most \(BlockLayout.slotCount)")
    }
    let link = try openLink(options.link, side: .backEnd)
    let wake = link.platform.localWake
    var arena = PrivateMemory.arena(4 << 20)
    guard var backend = Backend<SimulatorPeer, Device>(link: link, arena: &arena),
      let size = QueueSize(256)
    else { preconditionFailure("4 MiB hold a link") }
    for (index, device) in options.devices.enumerated() {
      let host: FileBlockHost
      do throws(FileBlockError) {
        host = try FileBlockHost(
          path: device.file, isReadOnly: device.isReadOnly, wakeDescriptor: wake.descriptor,
          slots: slots, segmentLimit: Device.segmentLimit + 2, workers: device.workers,
          log: runner.log)
      } catch { throw UsageError(explain(error)) }
      var own = PrivateMemory.arena(2 << 20)
      guard
        let model = Device(
          host: host, queueCount: device.queueCount, maximumQueueSize: size, slots: slots,
          arena: &own), backend.add(model, at: index, arena: &own)
      else { preconditionFailure("2 MiB hold a device") }
    }
    return backend
  }

  private static func explain(_ error: FileBlockError) -> String {
    switch error {
    case .open(let path, let cause): "file \(path): \(cause.text)"
    case .badKind(let path): "file \(path): neither a regular file nor a block device"
    case .badSize(let path, let size):
      "file \(path): \(size) bytes, expected a multiple of 512 and not 0; grow it with truncate"
    case .inUse(let path, let holder):
      "file \(path): in use by \(holder > 0 ? "pid \(holder)" : "another process");"
        + " stop it, or give readonly on both sides"
    case .system(let cause): "starting workers: \(cause.text)"
    }
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
      let block = backend.slots[index].device.counters
      if index > 0 { json += "," }
      json += "{\"slot\":\(index),\"chains\":\(counters.chains),"
      json += "\"notificationsSeen\":\(counters.notificationsSeen),"
      json += "\"notificationsSent\":\(counters.notificationsSent),"
      json += "\"transactions\":\(counters.transactions),\"refusals\":\(counters.refusals),"
      json += "\"queueErrors\":\(counters.queueErrors),\"resets\":\(counters.resets),"
      json += "\"reads\":\(block.reads),\"writes\":\(block.writes),"
      json += "\"flushes\":\(block.flushes),\"discards\":\(block.discards),"
      json += "\"bytesRead\":\(block.bytesRead),\"bytesWritten\":\(block.bytesWritten),"
      json += "\"ioErrors\":\(block.ioErrors),\"unsupported\":\(block.unsupported),"
      json += "\"malformed\":\(block.malformed)}"
    }
    return LinkReport(json: json + "]}")
  }
}
