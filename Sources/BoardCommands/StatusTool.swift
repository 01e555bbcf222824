public import CommandOptions
import LinkFormat
import LinkNames
import LinuxSupport
public import ToolSupport

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

  /// What its help shows.
  public static var page: HelpPage {
    HelpPage(
      name: "status", usage: "status --link sim:PATH [options]",
      summary: "Shows both sides of a simulated link, its devices and their counters, read-only",
      details: """
        example:
          ivshmem status --link sim:/tmp/link.sock --json
        """,
      options: options,
      keys: [
        ("link, placement", "its name; where rings and buffers of the driver lie"),
        ("dialect", "siemens; absent for the native one"),
        ("sides[].side, peer, state, live", "who; whether State says that it is there"),
        ("sides[].epoch, echo, status, reason", "of its block, as in docs/protocol.md"),
        ("sides[].delivered, dropped", "interrupts to this peer, and those it was not armed for"),
        ("devices[].slot, device, deviceStatus", "the VIRTIO type and its status register"),
        ("devices[].queues, toDevice, toDriver", "how many, and their notification counters"),
        ("devices[].request, acknowledgement", "the last register access and its answer"),
        ("header", "Siemens dialect: fields of the header"),
      ])
  }

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
    let observer = try LinkObserver.open(link.text)
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
    // Sections hold anything before a back-end writes its block.
    let magic = observer.word32(plan.deviceBlock + BlockLayout.Header.magic.rawValue)
    let slots = magic == BlockLayout.magic ? BlockLayout.slotCount : 0
    let devices = (0..<slots).compactMap { device($0, plan, observer) }
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
  private func isSiemens(_ observer: borrowing LinkObserver) -> Bool {
    if let dialect = link.dialect { return dialect == .siemens }
    for peer in [link.own(.backEnd), partner]
    where UInt32(peer.rawValue) < observer.geometry.maxPeers {
      if observer.state(of: peer) == SiemensHeader.ready {
        return true
      }
    }
    return false
  }

  private func showSiemens(_ observer: borrowing LinkObserver) {
    let base = observer.geometry.readWrite.lowerBound
    var sides: [Fields] = []
    for side in [LinkSide.backEnd, .frontEnd] {
      let peer = side == .backEnd ? link.own(.backEnd) : partner
      guard UInt32(peer.rawValue) < observer.geometry.maxPeers else { continue }
      let counts = observer.interruptCounts(of: peer)
      let state = observer.state(of: peer)
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
        header.append((name, hex(observer.word32(base + field.rawValue))))
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

  typealias Fields = [(name: String, value: String)]

  private func describe(
    _ side: LinkSide, _ peer: PeerID, _ block: Int, _ observer: borrowing LinkObserver
  ) -> Fields {
    let state = observer.state(of: peer)
    let hello = Hello(
      rawValue: observer.word64(block + BlockLayout.Header.hello.rawValue))
    let status = observer.word32(block + BlockLayout.Header.extendedStatus.rawValue)
    let isLive = state == side.stateValue
    let reason = observer.word32(block + BlockLayout.Header.reason.rawValue)
    let counts = observer.interruptCounts(of: peer)
    return [
      ("side", "\(side)"), ("peer", "\(peer.rawValue)"), ("state", hex(state)),
      ("live", isLive ? "true" : "false"), ("epoch", hex(hello.own?.rawValue ?? 0)),
      ("echo", hex(hello.echo?.rawValue ?? 0)),
      (
        "status",
        extendedStatusNames.filter { status & $0.bit != 0 }.map { $0.name }.joined(separator: "+")
      ),
      ("reason", LinkReason(rawValue: reason).map { "\($0)" } ?? hex(reason)),
      ("delivered", "\(counts.delivered)"), ("dropped", "\(counts.dropped)"),
    ]
  }

  private func device(_ slot: Int, _ plan: LinkPlan, _ observer: borrowing LinkObserver) -> Fields?
  {
    let base = plan.deviceBlock + BlockLayout.deviceSlot(slot)
    let type = observer.word32(base + BlockLayout.DeviceSlot.deviceID.rawValue)
    guard type != 0 else { return nil }
    let registers = base + BlockLayout.DeviceSlot.registers.rawValue
    let queues = min(observer.word32(base + BlockLayout.DeviceSlot.queueCount.rawValue), 32)
    let driver = plan.driverBlock + BlockLayout.driverSlot(slot)
    func counters(_ start: Int) -> String {
      (0..<Int(queues)).map { "\(observer.word32(start + 4 * $0))" }.joined(separator: "/")
    }
    return [
      ("slot", "\(slot)"), ("device", "\(type)"),
      ("deviceStatus", hex(observer.word32(registers + MMIOOffset.status))),
      ("queues", "\(queues)"),
      ("request", hex(observer.word64(driver + BlockLayout.DriverSlot.request.rawValue))),
      (
        "acknowledgement",
        hex(observer.word64(base + BlockLayout.DeviceSlot.acknowledgement.rawValue))
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
