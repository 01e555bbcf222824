import CLinux
import CommandOptions
import LinkFormat
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem watch LINK`: states, interrupts, indices and counters as they change.
struct WatchTool {
  static var page: HelpPage {
    HelpPage(
      name: "watch", usage: "watch LINK [--interval MS] [--count N] [--control PATH] [--json]",
      summary: "Shows a link live: states, interrupts, queue indices, counters",
      details: """
        On a terminal the picture is drawn anew, elsewhere pictures follow one another; --json
        writes a line each time. It looks as 'state' and 'peek' do and changes nothing. Where the
        memory cannot be looked at, the interrupts of the device are shown alone. Ctrl-C ends it.
        """,
      options: [
        OptionSpecification(
          "interval", "MS", "time between two looks (10 to 3600000, default 1000)"),
        OptionSpecification("count", "N", "end after this many looks"),
        LinkTarget.optionControl, BoardOptions.json, BoardOptions.root, BoardOptions.help,
      ],
      keys: [
        ("link, source", "the link, and who was asked (null: interrupts alone)"),
        ("look", "number of the look, from 1"), ("nanoseconds", "the monotonic clock"),
        ("peers[]", "as of 'state'"),
        ("devices[]", "slot, name, status, toDevice[], toDriver[]: notifications of each queue"),
        ("rings[]", "slot, queue, availableIndex, usedIndex, inFlight (with --control)"),
        ("events", "interrupts that the UIO driver counted, or null"),
        ("interrupts[]", "number and count of each interrupt of the device (/proc/interrupts)"),
      ],
      status: "0 all looks taken, 1 the link went away, 2 wrong usage, 130 interrupted")
  }

  private let given: CommandOptions
  private let target: LinkTarget
  private let interval: UInt64
  private let count: Int

  init(_ given: CommandOptions) throws(ClientError) {
    target = try LinkTarget(given, "watch")
    self.given = given
    do throws(UsageError) {
      interval = try given.number("interval", in: 10...3_600_000, default: 1000) * 1_000_000
      count = Int(try given.number("count", in: 1...UInt64(Int32.max), default: UInt64(Int32.max)))
    } catch { throw .usage(error) }
  }

  func run() throws(ClientError) -> Int32 {
    let stop: Descriptor
    do throws(SystemError) {
      stop = try Descriptor(cl_eventfd())
    } catch { throw .failed(error.text) }
    cl_catch_stop(stop.number)
    let discovery: PCIDiscovery?
    if case .function = target.place {
      discovery = try BoardOptions.discovery(given)
    } else {
      discovery = nil
    }
    let isTerminal = cl_is_terminal(1) != 0 && !given.has("json")
    // A view that cannot be opened still leaves the device's interrupts to watch.
    var problem: String?
    let view: LinkView?
    do throws(ClientError) {
      view = try LinkView.open(target, given)
    } catch {
      guard discovery != nil, case .failed(let text) = error else { throw error }
      view = nil
      problem = text
    }
    if let problem, !given.has("json") { writeError("ivshmem: \(problem)\n") }
    var next = cl_monotonic_ns()
    for look in 1...count {
      let text = try picture(view, discovery, look)
      writeOutput(isTerminal ? "\u{1b}[H\u{1b}[2J" + text : text)
      if look == count { break }
      next += interval
      guard wait(stop.number, until: next) else { throw .interrupted }
    }
    return 0
  }

  /// Waits for the next look; `false` when a signal ended it.
  private func wait(_ stop: Int32, until end: UInt64) -> Bool {
    while cl_stop_requested() == 0 {
      let now = cl_monotonic_ns()
      guard now < end else { return true }
      var entry = cl_poll_entry(fd: stop, events: Int16(CL_POLL_IN), revents: 0)
      _ = unsafe cl_poll_ns(&entry, 1, Int64(end - now))
    }
    return false
  }

  private func picture(
    _ view: borrowing LinkView?, _ discovery: PCIDiscovery?, _ look: Int
  ) throws(ClientError) -> String {
    let source: Source
    switch view {
    case .some(let view): source = try Source(view, target)
    case .none: source = Source()
    }
    var device: LinkDevice?
    var interrupts: [InterruptCount] = []
    if let discovery, case .function(let address) = target.place {
      let found = try BoardOptions.device(at: address, discovery)
      device = found
      let own = [found.function.interrupt] + found.function.messageInterrupts
      let text = discovery.files.text("/proc/interrupts", limit: 1 << 20) ?? ""
      interrupts = InterruptCount.parse(text).filter { $0.number != 0 && own.contains($0.number) }
    }
    let events = device?.function.nodes.first?.events
    return given.has("json")
      ? json(source, events, interrupts, look) : text(source, events, interrupts, look)
  }

  /// What a view showed at one moment.
  private struct Source {
    var origin: String?
    var rows: [StateTool.Row] = []
    var devices: [LinkPicture.Device] = []
    var rings: [(place: RingPlace, picture: RingPicture)] = []

    init() {}

    init(_ view: borrowing LinkView, _ target: LinkTarget) throws(ClientError) {
      origin = view.origin
      rows = try StateTool.rows(view)
      // A link of other use than virtio has states and no devices.
      guard let picture = try? LinkPicture(view, target.specification) else { return }
      devices = picture.sides.contains { $0.isBlock } ? picture.devices : []
      rings = try PeekTool.rings(view, picture).map { ($0.place, $0.picture) }
    }
  }

  private func text(
    _ source: Source, _ events: UInt64?, _ interrupts: [InterruptCount], _ look: Int
  ) -> String {
    var text = "\(target.name)" + (source.origin.map { ", from \($0)" } ?? "") + ", look \(look)\n"
    if !source.rows.isEmpty {
      text += columns(
        [["PEER", "STATE", "MEANING", "DELIVERED", "DROPPED"]] + source.rows.map { $0.cells })
    }
    for device in source.devices {
      text +=
        "slot \(device.slot) \(virtioName(UInt16(truncatingIfNeeded: device.type))):"
        + " \(statusText(device.status)), notifications"
        + " \(device.toDevice.map { "\($0)" }.joined(separator: "/")) to the device,"
        + " \(device.toDriver.map { "\($0)" }.joined(separator: "/")) to the driver\n"
    }
    for ring in source.rings {
      text +=
        "ring \(ring.place.slot).\(ring.place.queue): available \(ring.picture.availableIndex),"
        + " used \(ring.picture.usedIndex), \(ring.picture.inFlight) in flight\n"
    }
    if let events { text += "events of the UIO driver: \(events)\n" }
    for one in interrupts { text += "interrupt \(one.number): \(one.count), \(one.what)\n" }
    return text
  }

  private func json(
    _ source: Source, _ events: UInt64?, _ interrupts: [InterruptCount], _ look: Int
  ) -> String {
    var object = JSONObject()
    object.add("link", target.name)
    object.add("source", source.origin)
    object.add("look", number: look)
    object.add("nanoseconds", number: cl_monotonic_ns())
    object.add("peers", list: source.rows.map { StateTool.json($0) })
    object.add(
      "devices",
      list: source.devices.map { device in
        var entry = JSONObject()
        entry.add("slot", number: device.slot)
        entry.add("name", virtioName(UInt16(truncatingIfNeeded: device.type)))
        entry.add("status", statusText(device.status))
        entry.add("toDevice", list: device.toDevice.map { "\($0)" })
        entry.add("toDriver", list: device.toDriver.map { "\($0)" })
        return entry.text
      })
    object.add(
      "rings",
      list: source.rings.map { ring in
        var entry = JSONObject()
        entry.add("slot", number: ring.place.slot)
        entry.add("queue", number: ring.place.queue)
        entry.add("availableIndex", number: ring.picture.availableIndex)
        entry.add("usedIndex", number: ring.picture.usedIndex)
        entry.add("inFlight", number: ring.picture.inFlight)
        return entry.text
      })
    object.add("events", number: events)
    object.add(
      "interrupts",
      list: interrupts.map { "{\"number\":\($0.number),\"count\":\($0.count)}" })
    return object.text + "\n"
  }
}
