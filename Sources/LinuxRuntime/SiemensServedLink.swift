import CommandOptions
import IVShmem
import LinuxSupport
import SharedMemory
import SiemensDialect
import SimulatorPeer
import VirtioDevice
import VirtioTransport
import Virtqueue

/// One link in the Siemens dialect, with its one device.
struct SiemensServedLink: ~Copyable {
  private var backend: SiemensBackend<SimulatorPeer, ServedDevice>
  private let wake: LocalWake
  private let spin: UInt64
  private let name: String
  private let log: @Sendable (String) -> Void
  private var shown: SiemensPhase?
  private var isWaitShown = false

  /// How long the loop keeps looking after a transaction, in nanoseconds: a driver makes them one
  /// after the other and spins for each, which a sleep would let wait for a wake-up.
  private static var attention: UInt64 { 300_000 }
  /// Private memory of a back-end with a device of 32 queues.
  private static var arenaBytes: Int { 4 << 20 }

  /// Opens the device on a link that was joined.
  static func open(
    _ platform: consuming SimulatorPeer, _ specification: LinkSpecification,
    _ devices: [DeviceSpecification], _ runner: BackendOptions
  ) throws(UsageError) -> SiemensServedLink {
    let link = specification.socketPath
    guard let first = devices.first, devices.count == 1 else {
      throw UsageError(
        "link \(link): \(devices.count) devices, the Siemens dialect carries one a link")
    }
    let wake = platform.localWake
    let device = try ServedDevice.make(
      first, wakeDescriptor: wake.descriptor, log: runner.log)
    if let type = Dialect.deviceType(platform.deviceClass), type != device.deviceID {
      throw UsageError(
        "link \(link): its class is for a device of type \(type), the given one is of type"
          + " \(device.deviceID); the driver would not find it")
    }
    let plan = try planSiemens(
      link, own: specification.own(.backEnd), platform.geometry,
      configurationSize: device.configurationSize)
    var arena = PrivateMemory.arena(arenaBytes)
    guard
      let backend = SiemensBackend<SimulatorPeer, ServedDevice>(
        platform: platform, plan: plan, device: device, arena: &arena)
    else { preconditionFailure("4 MiB hold a device's queues") }
    return SiemensServedLink(backend, wake, specification, runner)
  }

  private init(
    _ backend: consuming SiemensBackend<SimulatorPeer, ServedDevice>, _ wake: LocalWake,
    _ specification: LinkSpecification, _ runner: BackendOptions
  ) {
    self.backend = backend
    self.wake = wake
    spin = runner.spinNanoseconds
    name = specification.socketPath
    log = runner.log
  }

  /// The event that ends a sleep.
  var wakeDescriptor: Int32 { wake.descriptor }

  /// Serves until `shouldStop` says so, then finishes what is in flight and sets State 0.
  mutating func run(_ shouldStop: () -> Bool) -> LinkReport {
    backend.start()
    var transactions: UInt64 = 0
    var idleSince: UInt64 = 0
    var attentionEnd: UInt64 = 0
    var looks = 0
    while !shouldStop() {
      let isBusy = backend.step()
      if backend.phase != shown { show() }
      if backend.counters.transactions != transactions {
        transactions = backend.counters.transactions
        attentionEnd = backend.platform.now().nanoseconds + Self.attention
      }
      if isBusy {
        idleSince = 0
        continue
      }
      if spin > 0 || attentionEnd > 0 {
        // The clock costs as much as a look: read it now and then.
        looks &+= 1
        if looks & 15 != 0 {
          Ordering.spinHint()
          continue
        }
        let now = backend.platform.now().nanoseconds
        if idleSince == 0 { idleSince = now }
        if now < attentionEnd || now - idleSince < spin { continue }
      }
      idleSince = 0
      attentionEnd = 0
      if backend.waitsForFrontEndToLeave { sayWait() }
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

  private mutating func show() {
    shown = backend.phase
    switch backend.phase {
    case .withdrawn: break
    case .offered: log("link \(name): Siemens dialect, waiting for its front-end")
    case .serving: log("link \(name): up (Siemens dialect)")
    }
  }

  private mutating func sayWait() {
    guard !isWaitShown else { return }
    isWaitShown = true
    log(
      "link \(name): its front-end belongs to an earlier back-end and cannot be taken over;"
        + " bind its driver again or restart its cell")
  }

  /// Ends what is in flight, at most five seconds, then leaves.
  private mutating func drain() {
    backend.quiesce()
    let end = backend.platform.now().advanced(byNanoseconds: 5_000_000_000)
    while !backend.isQuiet, backend.platform.now() < end {
      if !backend.step() { _ = backend.sleep(until: end) }
    }
    backend.leave()
    log("link \(name): left")
  }

  private func report() -> LinkReport {
    let count = backend.counters
    var json = "{\"link\":\"\(name)\",\"dialect\":\"siemens\",\"pairings\":\(count.pairings),"
    json += "\"losses\":\(count.losses),\"doorbells\":\(count.doorbells),"
    json += "\"secondDoorbells\":\(count.secondDoorbells),\"sleeps\":\(count.sleeps),"
    json += "\"strayTransactions\":\(count.strayTransactions),"
    json += "\"orphanedTransactions\":\(count.orphanedTransactions),"
    json += "\"abandonments\":\(count.abandonments),\"devices\":[{\"slot\":0,"
    json += "\"chains\":\(count.chains),\"transactions\":\(count.transactions),"
    json += "\"refusals\":\(count.refusals),\"queueErrors\":\(count.queueErrors),"
    json += "\"resets\":\(count.resets)," + backend.device.countersJSON + "}]}"
    return LinkReport(json: json)
  }
}

/// Where header and pool lie, or one line with the way out.
func planSiemens(
  _ link: String, own: PeerID, _ geometry: LinkGeometry, configurationSize: Int
) throws(UsageError) -> SiemensPlan {
  do throws(SiemensPlanError) {
    return try SiemensPlan(own: own, geometry: geometry, configurationSize: configurationSize)
  } catch {
    switch error {
    case .peers(let own, let count):
      throw UsageError(
        "link \(link): the Siemens dialect needs exactly 2 peers, 0 and 1; this is peer"
          + " \(own.rawValue) of \(count)")
    case .sectionTooSmall(let have, let need):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes, the Siemens dialect needs at"
          + " least \(need); output sections do not help")
    case .sectionTooLarge(let have):
      throw UsageError(
        "link \(link): its read/write section has \(have) bytes; the driver of the Siemens dialect"
          + " fails from 2 GiB on")
    }
  }
}

/// The dialect of a link that was joined: as asked for, or as it shows itself.
func chooseDialect(
  _ platform: borrowing SimulatorPeer, _ specification: LinkSpecification, _ side: LinkSide
) throws(UsageError) -> Dialect {
  if let asked = specification.dialect { return asked }
  let partner = specification.partner(side)
  let isThere = UInt32(partner.rawValue) < platform.geometry.maxPeers
  let state = isThere ? platform.region.state(of: partner, in: platform.geometry) : 0
  return try Dialect.recognise(
    Dialect.Signs(deviceClass: platform.deviceClass, peerState: state), side: side,
    link: specification.socketPath)
}
