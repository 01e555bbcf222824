import CCellmate
import CLinux
import CService
import LinuxSupport
import ToolSupport

extension BackendProcess {
  /// How long an answer waits for fresh numbers of the links, in nanoseconds.
  static var answerPatience: UInt64 { 250_000_000 }

  /// Does what a client of the control socket asks.
  mutating func carryOut(_ request: ControlRequest, _ client: Int, _ now: UInt64) {
    switch request.verb {
    case .status, .metrics, .rings:
      waiting.append((client, request, askLinks(), now + Self.answerPatience))
    case .reload: beginReload(client: (client, request))
    case .stop:
      answer(client, request, json: "{\"ok\":true}", text: "ok: stopping", now)
      if !isStopping { beginStop() }
    case .carrier(let address, let isUp):
      guard unsafe cellmate_set_carrier(address.bytes, isUp ? 1 : 0) == 1 else {
        return refuse(client, request, "no network device has mac=\(address.text)", now)
      }
      answer(
        client, request, json: "{\"ok\":true}",
        text: "ok: link \(isUp ? "up" : "down") of \(address.text)", now)
    case .help:
      let names = [
        "status", "metrics", "reload", "stop", "carrier", "link", "rings", "look", "help",
      ]
      answer(
        client, request,
        json: "{\"ok\":true,\"commands\":[\(names.map { quoted($0) }.joined(separator: ","))]}",
        text: "ok: \(names.joined(separator: ", ")); 'text' behind the first five for people",
        now)
    case .link, .look: showLink(client, request, now)
    case .wrong(let reason): refuse(client, request, reason, now)
    }
  }

  /// The one link a request names, with its memory; the client is told when there is none.
  private mutating func named(
    _ client: Int, _ request: ControlRequest, _ now: UInt64
  ) -> (board: LinkBoard, facts: LinkFacts)? {
    let name: String
    switch request.verb {
    case .link(let wanted), .rings(let wanted), .look(_, _, let wanted): name = wanted
    case .carrier, .status, .metrics, .reload, .stop, .help, .wrong: name = ""
    }
    let shown = links.filter { link in
      link.board.shownMemory != nil && (name.isEmpty || link.specification.face.isNamed(name))
    }
    if shown.count == 1, let board = shown.first?.board, let facts = board.shownMemory {
      return (board, facts)
    }
    let what = name.isEmpty ? "not exactly one ivshmem link is here" : "no ivshmem link \(name)"
    refuse(client, request, "\(what); see status", now)
    return nil
  }

  /// Where the rings lie, after the link has said it anew.
  private mutating func answerRings(_ client: Int, _ request: ControlRequest, _ now: UInt64) {
    guard let (board, _) = named(client, request, now) else { return }
    let places = board.ringPlaces().map { $0.json }.joined(separator: ",")
    answer(client, request, json: "{\"ok\":true,\"rings\":[\(places)]}", text: "", now)
  }

  /// What a link's memory is like, or some of its words.
  private mutating func showLink(_ client: Int, _ request: ControlRequest, _ now: UInt64) {
    guard let (board, facts) = named(client, request, now) else { return }
    guard case .look(let offset, let count, _) = request.verb else {
      return answer(client, request, json: facts.json, text: "", now)
    }
    guard let bytes = board.look(offset, count) else {
      return refuse(
        client, request,
        "expected 4 to \(LinkFacts.lookLimit) bytes inside the \(facts.totalSize) of the"
          + " link, in whole words", now)
    }
    answer(
      client, request, json: "{\"ok\":true,\"offset\":\(offset),\"bytes\":\"\(hexBytes(bytes))\"}",
      text: "", now)
  }

  /// An answer that says why not.
  mutating func refuse(
    _ client: Int, _ request: ControlRequest, _ reason: String, _ now: UInt64
  ) {
    answer(
      client, request, json: "{\"ok\":false,\"error\":\(quoted(reason))}",
      text: "error: \(reason)", now)
  }

  /// Gives an answer in the form that was asked for.
  mutating func answer(
    _ client: Int, _ request: ControlRequest, json: String, text: String, _ now: UInt64
  ) {
    guard let control else { return }
    let whole: String
    switch request.form {
    case .json: whole = json + "\n"
    case .text: whole = text + "\n# EOF\n"
    case .http:
      whole = Self.http(request.httpStatus, "application/json", json + "\n")
    }
    control.answer(client, whole, now: now)
  }

  private static func http(_ status: String, _ type: String, _ body: String) -> String {
    "HTTP/1.1 \(status)\r\nContent-Type: \(type)\r\nContent-Length: \(body.utf8.count)\r\n"
      + "Connection: close\r\n\r\n" + body
  }

  /// Answers whose numbers are there, or do not come.
  mutating func answerWaiting(_ now: UInt64) {
    var rest: [(client: Int, request: ControlRequest, serial: UInt32, due: UInt64)] = []
    let asked = waiting
    waiting = []
    for entry in asked {
      guard now >= entry.due || links.allSatisfy({ hasAnswered($0, entry.serial) }) else {
        rest.append(entry)
        continue
      }
      if case .rings = entry.request.verb {
        answerRings(entry.client, entry.request, now)
      } else if entry.request.verb == .metrics {
        let text = metricsText(entry.serial)
        guard let control else { continue }
        control.answer(
          entry.client,
          entry.request.form == .http
            ? Self.http("200 OK", "text/plain; version=0.0.4; charset=utf-8", text)
            : text + "# EOF\n",
          now: now)
      } else {
        answer(
          entry.client, entry.request, json: statusJSON(entry.serial),
          text: statusLines(entry.serial), now)
      }
    }
    waiting += rest
  }

  // MARK: Status

  private func state(_ link: ServedLink, _ question: UInt32) -> String {
    if link.board.hasEnded { return "ended" }
    if !hasAnswered(link, question) { return "silent" }
    if link.board.isAskedToStop { return "stopping" }
    return link.board.snapshot().first == 1 ? "up" : "waiting"
  }

  private var uptimeSeconds: UInt64 { (cl_realtime_ns() &- startTime) / 1_000_000_000 }

  private func statusJSON(_ question: UInt32) -> String {
    var text = "{\"ok\":true,\"pid\":\(cl_process_id()),\"uptimeSeconds\":\(uptimeSeconds),"
    text += "\"threads\":\"\(options.threads.name)\",\"wait\":\"\(options.wait.name)\","
    text += "\"reloads\":\(reload.done),\"refusedReloads\":\(reload.refused),"
    text += "\"lastReload\":\(quoted(reload.last)),\"links\":["
    for (index, link) in links.enumerated() {
      if index > 0 { text += "," }
      text += link.board.json(
        "\"name\":\(quoted(link.specification.face.subject)),"
          + "\"state\":\"\(state(link, question))\"")
    }
    return text + "]}"
  }

  private func statusLines(_ question: UInt32) -> String {
    var text = "ok: pid \(cl_process_id()), up \(uptimeSeconds) s, threads"
    text += " \(options.threads.name), wait \(options.wait.name), reloads \(reload.done)"
    if !reload.last.isEmpty { text += "\nlast reload: \(reload.last)" }
    for link in links {
      text += "\n\(link.specification.face.subject): \(state(link, question))"
      let values = link.board.snapshot()
      let counters = link.board.counters
      for slot in -1..<link.board.kinds.count {
        if slot >= 0 { text += "\n  slot \(slot) \(link.board.kinds[slot]):" }
        for index in counters.indices where counters[index].slot == slot && values[index] > 0 {
          text += " \(counters[index].name)=\(values[index])"
        }
      }
    }
    return text
  }

  // MARK: Metrics

  private func metricsText(_ question: UInt32) -> String {
    var writer = MetricWriter()
    writer.add("cellmate_start_time_seconds", "", startTime / 1_000_000_000)
    writer.add("cellmate_resident_memory_bytes", "", cs_resident_bytes())
    writer.add("cellmate_links", "", UInt64(links.count))
    writer.add("cellmate_reloads_total", "{result=\"done\"}", reload.done)
    writer.add("cellmate_reloads_total", "{result=\"refused\"}", reload.refused)
    if let control {
      writer.add("cellmate_control_requests_total", "", control.requests)
      writer.add("cellmate_control_refusals_total", "", control.refusals)
    }
    addTaps(&writer)
    for link in links {
      let name = MetricWriter.label("link", link.specification.face.subject)
      writer.add(
        "cellmate_link_answering", "{\(name)}",
        !link.board.hasEnded && hasAnswered(link, question) ? 1 : 0)
      let values = link.board.snapshot()
      for (index, counter) in link.board.counters.enumerated() {
        var labels = name
        if counter.slot >= 0 {
          labels += ",slot=\"\(counter.slot)\",kind=\"\(link.board.kinds[counter.slot])\""
        }
        writer.add(MetricWriter.family(counter), "{\(labels)}", values[index])
      }
    }
    return writer.text
  }

  private func addTaps(_ writer: inout MetricWriter) {
    var index: UInt32 = 0
    while true {
      var tap = cellmate_tap_counters()
      tap.size = MemoryLayout<cellmate_tap_counters>.size
      guard unsafe cellmate_tap(index, &tap) == 0 else { return }
      index += 1
      let labels =
        MetricWriter.label("switch", LibraryCall.text(tap.owner)) + ","
        + MetricWriter.label("tap", LibraryCall.text(tap.tap))
      let values = [
        ("frames_in", tap.frames_in), ("frames_out", tap.frames_out), ("spoofed", tap.spoofed),
        ("malformed", tap.malformed), ("overflows", tap.overflows),
      ]
      for (name, value) in values {
        writer.add("cellmate_tap_\(name)_total", "{\(labels)}", value)
      }
    }
  }
}
