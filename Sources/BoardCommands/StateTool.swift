import CommandOptions
import LinkFormat
import LinuxPCI
import LinuxSupport
import ToolSupport

/// `ivshmem state LINK`: the states of all peers.
struct StateTool {
  static var page: HelpPage {
    HelpPage(
      name: "state", usage: "state LINK [--control PATH] [--json] [--root DIR]",
      summary: "Shows the states of all peers of a link",
      details: """
        LINK is sim:PATH or a PCI address. Nothing is opened that would change a state: the
        simulator is asked, or sysfs is read where the device has its memory in BAR 2, or the
        back-end that has the device is asked over its control socket. Where none of that can
        be done it says why.
        More than 64 peers: those with a state other than 0.
        """,
      options: [
        LinkTarget.optionControl, BoardOptions.json, BoardOptions.root, BoardOptions.help,
      ],
      keys: [
        ("link", "the link"), ("source", "who was asked"),
        ("ownId", "peer id of the device or back-end that was looked through, or null"),
        ("maxPeers", "peers the link has room for; null when only the own state could be read"),
        ("peers[].id", "peer id"), ("peers[].state", "its state, with 0x"),
        ("peers[].meaning", "what the state means, or null"),
        ("peers[].delivered", "interrupts delivered to it (simulator), or null"),
        ("peers[].dropped", "interrupts dropped because it was not armed (simulator), or null"),
      ])
  }

  struct Row {
    let id: Int
    let state: UInt32
    let counts: (delivered: UInt64, dropped: UInt64)?

    /// A line of the table.
    var cells: [String] { cells(own: nil) }

    func cells(own: Int?) -> [String] {
      [
        "\(id)" + (id == own ? " (own)" : ""), hexadecimal(state), stateMeaning(state) ?? "-",
        counts.map { "\($0.delivered)" } ?? "-", counts.map { "\($0.dropped)" } ?? "-",
      ]
    }
  }

  private let given: CommandOptions
  private let target: LinkTarget

  init(_ given: CommandOptions) throws(ClientError) {
    target = try LinkTarget(given, "state")
    self.given = given
  }

  func run() throws(ClientError) -> Int32 {
    let view: LinkView
    do throws(ClientError) {
      view = try LinkView.open(target, given)
    } catch {
      if try showOwn() { return 0 }
      throw error
    }
    let rows = try Self.rows(view)
    writeOutput(
      given.has("json")
        ? json(rows, view.origin, view.ownID?.rawValue, view.geometry.maxPeers)
        : text(rows, view.origin, view.ownID.map { Int($0.rawValue) }))
    return 0
  }

  /// The states that are shown.
  static func rows(_ view: borrowing LinkView) throws(ClientError) -> [Row] {
    var rows: [Row] = []
    for (id, state) in try view.states(limit: 65536).enumerated()
    where state != 0 || view.geometry.maxPeers <= 64 {
      let peer = PeerID(UInt16(truncatingIfNeeded: id))
      rows.append(Row(id: id, state: state, counts: view.interruptCounts(of: peer)))
    }
    return rows
  }

  /// Where only the register page can be seen, the own state is what there is to show.
  private func showOwn() throws(ClientError) -> Bool {
    guard case .function(let address) = target.place, target.control == nil else { return false }
    let discovery = try BoardOptions.discovery(given)
    let device = try BoardOptions.device(at: address, discovery)
    guard let window = try? FunctionWindow(device, bar: 0, files: discovery.files) else {
      return false
    }
    let registers = RegisterPicture(window)
    let id = UInt16(truncatingIfNeeded: registers.id)
    let rows = [Row(id: Int(id), state: registers.state, counts: nil)]
    let origin = "sysfs, the registers alone: the state table can be seen by the owner only"
    writeOutput(given.has("json") ? json(rows, origin, id, nil) : text(rows, origin, Int(id)))
    return true
  }

  private func text(_ rows: [Row], _ origin: String, _ own: Int?) -> String {
    var lines = [["PEER", "STATE", "MEANING", "DELIVERED", "DROPPED"]]
    for row in rows { lines.append(row.cells(own: own)) }
    return "\(target.name), from \(origin)\n" + columns(lines)
  }

  private func json(_ rows: [Row], _ origin: String, _ own: UInt16?, _ peers: UInt32?) -> String {
    var object = JSONObject()
    object.add("link", target.name)
    object.add("source", origin)
    object.add("ownId", number: own)
    object.add("maxPeers", number: peers)
    object.add("peers", list: rows.map { Self.json($0) })
    return object.text + "\n"
  }

  static func json(_ row: Row) -> String {
    var entry = JSONObject()
    entry.add("id", number: row.id)
    entry.add("state", hexadecimal(row.state))
    entry.add("meaning", stateMeaning(row.state))
    entry.add("delivered", number: row.counts?.delivered)
    entry.add("dropped", number: row.counts?.dropped)
    return entry.text
  }
}
