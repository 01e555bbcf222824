import CLinux
import CommandOptions
import LinkFormat
import LinkNames
import LinuxSupport
import ToolSupport

/// `ivshmem ping LINK`: doorbell round trips between two peers.
struct PingTool {
  static var page: HelpPage {
    HelpPage(
      name: "ping", usage: "ping LINK [--answer] [--count N] [--vector N] [--interval MS] [--json]",
      summary: "Measures doorbell round trips between the two sides of a link",
      details: """
        One side runs 'ping LINK --answer', the other 'ping LINK'. Only State and doorbell are
        used, so any link will do, whatever its sections; both devices must be free.
        When it stops early it says which stage failed: peer-absent, peer-busy, peer-silent,
        peer-left, doorbell-lost, answer-lost, not-armed, platform-gone.
        LINK is as in --link of 'frontend'; 'other=N' names the peer where a link has more than two.
        """,
      options: [
        OptionSpecification("answer", "answer the other side's pings until Ctrl-C"),
        OptionSpecification(
          "count", "N", "round trips (default 1000); with --answer: runs of ping (all)"),
        OptionSpecification("vector", "N", "which vector is rung on both sides (default 0)"),
        OptionSpecification("interval", "MS", "time between two round trips (default 0)"),
        OptionSpecification("patience", "SECONDS", "how long the peer is waited for (default 5)"),
        BoardOptions.json, BoardOptions.help,
      ],
      keys: [
        ("link, ownId, peer, vector", "who rang whom"),
        ("sent", "round trips asked for"), ("received", "round trips made"),
        ("strays", "interrupts the peer took for doorbells and were none"),
        ("minNs, meanNs, maxNs", "round trip in nanoseconds"),
        ("p50Ns, p90Ns, p99Ns, p999Ns", "percentiles, nearest rank"),
        ("histogram[]", "fromNs (a power of two; up to the next) and count"),
        ("failure", "the stage that failed, or null"), ("text", "the same for people, or null"),
        ("answered", "with --answer: doorbells answered"),
      ],
      status: "0 all round trips made, 1 it stopped early, 2 wrong usage, 130 interrupted")
  }

  private let given: CommandOptions
  private let link: LinkSpecification
  private let count: Int?
  private let vector: Vector
  private let interval: UInt64
  private let patience: UInt64
  private let isAnswering: Bool

  init(_ given: CommandOptions) throws(ClientError) {
    guard given.arguments.count == 1 else {
      throw .usage(UsageError("ping needs one link, as in 'ping sim:PATH' or 'ping 0000:00:03.0'"))
    }
    do throws(UsageError) {
      link = try LinkSpecification(given.arguments[0])
      count =
        given.has("count")
        ? Int(try given.number("count", in: 1...10_000_000, default: 1000)) : nil
      vector = Vector(UInt16(try given.number("vector", in: 0...65535, default: 0)))
      interval = try given.number("interval", in: 0...3_600_000, default: 0) * 1_000_000
      patience = try given.number("patience", in: 1...86400, default: 5) * 1_000_000_000
    } catch { throw .usage(error) }
    isAnswering = given.has("answer")
    self.given = given
  }

  func run() throws(ClientError) -> Int32 {
    let side: LinkSide = isAnswering ? .backEnd : .frontEnd
    let joined: RawLink
    do throws(UsageError) {
      joined = try RawLink.join(given.arguments[0], side: side)
    } catch { throw .usage(error) }
    let own = joined.peerID
    let geometry = joined.geometry
    let peer =
      link.other == nil && geometry.maxPeers == 2
      ? PeerID(1 - min(1, own.rawValue)) : link.partner(side, own: own)
    guard peer != own, UInt32(peer.rawValue) < geometry.maxPeers else {
      throw .usage(
        UsageError("ping \(link.text): \(peer.rawValue) is no other peer of the link; give other=N")
      )
    }
    guard vector.rawValue < joined.vectorCount else {
      throw .usage(
        UsageError(
          "--vector \(vector.rawValue): the link has \(joined.vectorCount) vectors, from 0"))
    }
    cl_catch_stop(joined.wakeDescriptor)
    var rounds = PingRounds(joined, peer: peer, patience: patience)
    if isAnswering { return try answer(&rounds, own, peer) }
    let wanted = count ?? 1000
    let result = rounds.ask(count: wanted, vector: vector, intervalNanoseconds: interval)
    show(result, wanted, own, peer)
    if cl_stop_requested() != 0 { throw .interrupted }
    return result.failure == nil ? 0 : 1
  }

  private func answer(
    _ rounds: inout PingRounds, _ own: PeerID, _ peer: PeerID
  ) throws(ClientError) -> Int32 {
    if !given.has("json") {
      writeOutput("\(link.text): peer \(own.rawValue) answers peer \(peer.rawValue)\n")
    }
    let (answered, failure) = rounds.answer(count: count)
    if given.has("json") {
      var object = head(own, peer)
      object.add("answered", number: answered)
      object.add("failure", failure?.name)
      object.add("text", failure?.text(peer.rawValue, vector: vector.rawValue))
      writeOutput(object.text + "\n")
    } else {
      writeOutput("\(answered) doorbells answered\n")
    }
    if let failure { throw .failed(failure.text(peer.rawValue, vector: vector.rawValue)) }
    if cl_stop_requested() != 0 { throw .interrupted }
    return 0
  }

  private func head(_ own: PeerID, _ peer: PeerID) -> JSONObject {
    var object = JSONObject()
    object.add("link", link.text)
    object.add("ownId", number: own.rawValue)
    object.add("peer", number: peer.rawValue)
    object.add("vector", number: vector.rawValue)
    return object
  }

  private func show(_ result: PingResult, _ wanted: Int, _ own: PeerID, _ peer: PeerID) {
    let times = PingTimes(result.times)
    let failure = result.failure.map {
      (name: $0.name, text: $0.text(peer.rawValue, vector: vector.rawValue))
    }
    if given.has("json") {
      var object = head(own, peer)
      object.add("sent", number: wanted)
      object.add("received", number: times.sorted.count)
      object.add("strays", number: result.strays)
      object.add("minNs", number: times.sorted.first)
      object.add("meanNs", number: times.mean)
      object.add("p50Ns", number: times.percentile(500))
      object.add("p90Ns", number: times.percentile(900))
      object.add("p99Ns", number: times.percentile(990))
      object.add("p999Ns", number: times.percentile(999))
      object.add("maxNs", number: times.sorted.last)
      object.add(
        "histogram",
        list: times.histogram.map { "{\"fromNs\":\($0.from),\"count\":\($0.count)}" })
      object.add("failure", failure?.name)
      object.add("text", failure?.text)
      writeOutput(object.text + "\n")
    } else {
      writeOutput(Self.text(times, link.text, own.rawValue, peer.rawValue, vector.rawValue))
      if result.strays > 0 {
        writeOutput("\(result.strays) interrupts of others were taken for doorbells by the peer\n")
      }
      if let failure { writeError("ivshmem: \(failure.name): \(failure.text)\n") }
    }
  }

  /// The times for people.
  static func text(
    _ times: PingTimes, _ link: String, _ own: UInt16, _ peer: UInt16, _ vector: UInt16
  ) -> String {
    let count = times.sorted.count
    var text =
      "\(link): peer \(own) to peer \(peer) and back on vector \(vector), \(count) round trips\n"
    guard let first = times.sorted.first, let last = times.sorted.last else { return text }
    text +=
      "microseconds: min \(microseconds(first)), mean \(microseconds(times.mean)), p50"
      + " \(microseconds(times.percentile(500))), p90 \(microseconds(times.percentile(900))), p99"
      + " \(microseconds(times.percentile(990))), p99.9 \(microseconds(times.percentile(999))),"
      + " max \(microseconds(last))\n"
    let histogram = times.histogram
    let most = histogram.reduce(1) { max($0, $1.count) }
    let rows = histogram.map { bin in
      [
        "  from \(microseconds(bin.from)) us", "\(bin.count)",
        String(repeating: "#", count: max(1, bin.count * 50 / most)),
      ]
    }
    return text + columns(rows)
  }
}
