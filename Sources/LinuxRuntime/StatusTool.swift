public import CommandOptions
import IVShmem
import LinuxSupport
import SharedMemory
import SiemensDialect
import SimulatorPeer
import VirtioDevice
import VirtioTransport

/// `ivshmem status`: shows a live link without disturbing it. Nothing is written: every mapping
/// is read-only.
public struct StatusTool: Sendable {
  /// The options of the tool.
  public static let options = [
    OptionSpecification(
      "link", "sim:PATH[,...]", "a simulated link (required); placement as in use"),
    OptionSpecification("json", "one JSON object on standard output"),
    OptionSpecification("help", "this text"),
  ]

  private let link: LinkSpecification
  private let isJSON: Bool

  /// Checks the command line.
  public init(_ given: CommandOptions) throws(UsageError) {
    guard let text = given.value("link") else {
      throw UsageError("--link sim:PATH is missing: which link? See --help")
    }
    guard given.arguments.isEmpty else {
      throw UsageError("unexpected argument '\(given.arguments[0])'")
    }
    link = try LinkSpecification(text)
    isJSON = given.has("json")
  }

  /// Looks once and prints.
  public func run() throws(UsageError) {
    let observer = try observe()
    if isSiemens(observer) { return showSiemens(observer) }
    let own = link.own(.backEnd)
    let plan: LinkPlan
    do throws(LinkPlanError) {
      plan = try LinkPlan(
        side: .backEnd, own: own, peer: partner,
        geometry: observer.geometry, placement: link.placement)
    } catch { throw explain(error, link: link.name) }
    let sides = [
      describe(.backEnd, own, plan.deviceBlock, observer),
      describe(.frontEnd, partner, plan.driverBlock, observer),
    ]
    let devices = (0..<BlockLayout.slotCount).compactMap { device($0, plan, observer.region) }
    if isJSON {
      writeOutput(
        "{\"link\":\"\(link.name)\",\"placement\":\"\(plan.placement)\",\"sides\":["
          + sides.map(json).joined(separator: ",") + "],\"devices\":["
          + devices.map(json).joined(separator: ",") + "]}\n")
      return
    }
    var text = "link \(link.name), placement \(plan.placement)\n"
    for side in sides { text += line(side) }
    for device in devices { text += line(device) }
    if devices.isEmpty { text += "no device is shown\n" }
    writeOutput(text)
  }

  private var partner: PeerID { link.partner(.backEnd, own: link.own(.backEnd)) }

  /// Whether one of the sides says that it speaks the Siemens dialect, or the operator does.
  private func isSiemens(_ observer: borrowing SimulatorObserver) -> Bool {
    if let dialect = link.dialect { return dialect == .siemens }
    for peer in [link.own(.backEnd), partner]
    where UInt32(peer.rawValue) < observer.geometry.maxPeers {
      if observer.region.state(of: peer, in: observer.geometry) == SiemensHeader.ready {
        return true
      }
    }
    return false
  }

  private func showSiemens(_ observer: borrowing SimulatorObserver) {
    let region = observer.region
    let base = observer.geometry.readWrite.lowerBound
    var sides: [Fields] = []
    for side in [LinkSide.backEnd, .frontEnd] {
      let peer = side == .backEnd ? link.own(.backEnd) : partner
      guard UInt32(peer.rawValue) < observer.geometry.maxPeers else { continue }
      let counts = observer.interruptCounts(of: peer)
      let state = region.state(of: peer, in: observer.geometry)
      sides.append([
        ("side", "\(side)"), ("peer", "\(peer.rawValue)"), ("state", hex(state)),
        ("live", state == SiemensHeader.ready ? "true" : "false"),
        ("delivered", "\(counts.delivered)"), ("dropped", "\(counts.dropped)"),
      ])
    }
    var header: Fields = []
    if observer.geometry.readWriteSize >= 4096 {
      let fields: [(SiemensHeader.Field, String)] = [
        (.revision, "revision"), (.size, "size"), (.writeTransaction, "writeTransaction"),
        (.deviceStatus, "deviceStatus"), (.queueSelector, "queueSelector"),
        (.configurationGeneration, "configurationGeneration"),
      ]
      for (field, name) in fields {
        header.append((name, hex(region.load32(base + field.rawValue))))
      }
    }
    if isJSON {
      writeOutput(
        "{\"link\":\"\(link.name)\",\"dialect\":\"siemens\",\"sides\":["
          + sides.map(json).joined(separator: ",") + "],\"header\":\(json(header))}\n")
      return
    }
    var text = "link \(link.name), Siemens dialect\n"
    for fields in sides + [header] { text += line(fields) }
    writeOutput(text)
  }

  private func observe() throws(UsageError) -> SimulatorObserver {
    guard case .simulator(let path) = link.place else {
      throw UsageError(
        "link \(link.name): a device that a program may have is not opened to look at it (closing"
          + " it would end the link); ask its back-end's control socket, or see 'ivshmem info'")
    }
    do throws(SimulatorPeerError) {
      return try SimulatorObserver(socketPath: path)
    } catch { throw UsageError(explain(error, link.name, link.own(.backEnd))) }
  }

  typealias Fields = [(name: String, value: String)]

  private func describe(
    _ side: LinkSide, _ peer: PeerID, _ block: Int, _ observer: borrowing SimulatorObserver
  ) -> Fields {
    let region = observer.region
    let state = region.state(of: peer, in: observer.geometry)
    let hello = Hello(
      rawValue: region.load64Acquiring(block + BlockLayout.Header.hello.rawValue))
    let status = ExtendedStatus(
      rawValue: region.load32(block + BlockLayout.Header.extendedStatus.rawValue))
    let names: [(ExtendedStatus, String)] = [
      (.present, "present"), (.blocked, "blocked"), (.busy, "busy"), (.quiescing, "quiescing"),
      (.error, "error"), (.goingAway, "goingAway"),
    ]
    let isLive = state == side.stateValue
    let reason = region.load32(block + BlockLayout.Header.reason.rawValue)
    let counts = observer.interruptCounts(of: peer)
    return [
      ("side", "\(side)"), ("peer", "\(peer.rawValue)"), ("state", hex(state)),
      ("live", isLive ? "true" : "false"), ("epoch", hex(hello.own?.rawValue ?? 0)),
      ("echo", hex(hello.echo?.rawValue ?? 0)),
      ("status", names.filter { status.contains($0.0) }.map { $0.1 }.joined(separator: "+")),
      ("reason", LinkReason(rawValue: reason).map { "\($0)" } ?? hex(reason)),
      ("delivered", "\(counts.delivered)"), ("dropped", "\(counts.dropped)"),
    ]
  }

  private func device(_ slot: Int, _ plan: LinkPlan, _ region: SharedRegion) -> Fields? {
    let base = plan.deviceBlock + BlockLayout.deviceSlot(slot)
    let type = region.load32(base + BlockLayout.DeviceSlot.deviceID.rawValue)
    guard type != 0 else { return nil }
    let registers = base + BlockLayout.DeviceSlot.registers.rawValue
    let queues = min(region.load32(base + BlockLayout.DeviceSlot.queueCount.rawValue), 32)
    let driver = plan.driverBlock + BlockLayout.driverSlot(slot)
    func counters(_ start: Int) -> String {
      (0..<Int(queues)).map { "\(region.load32(start + 4 * $0))" }.joined(separator: "/")
    }
    return [
      ("slot", "\(slot)"), ("device", "\(type)"),
      ("deviceStatus", hex(region.load32(registers + MMIORegister.status.rawValue))),
      ("queues", "\(queues)"),
      ("request", hex(region.load64(driver + BlockLayout.DriverSlot.request.rawValue))),
      (
        "acknowledgement",
        hex(region.load64(base + BlockLayout.DeviceSlot.acknowledgement.rawValue))
      ),
      ("toDevice", counters(driver + BlockLayout.DriverSlot.counters.rawValue)),
      ("toDriver", counters(base + BlockLayout.DeviceSlot.counters.rawValue)),
    ]
  }

  private func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

  private func json(_ fields: Fields) -> String {
    "{" + fields.map { "\"\($0.name)\":\"\($0.value)\"" }.joined(separator: ",") + "}"
  }

  private func line(_ fields: Fields) -> String {
    "  " + fields.map { "\($0.name) \($0.value)" }.joined(separator: ", ") + "\n"
  }
}
