import CCellmate
import CLinux
import CommandOptions
import LinuxSupport
import ToolSupport

/// Numbered frames from one front-end to another: what is lost is sent again, so that everything
/// arrives whole and in order, whatever happens to the back-end meanwhile.
struct TrafficSession: ~Copyable {
  private let plan: TrafficPlan
  private let place: FrontendPlace
  private let isJSON: Bool
  private var commands: NetworkCommands
  private let incoming = FrameBatch(count: 32)
  private let outgoing: FrameBatch
  /// The number of the first frame in it.
  private var outgoingStart: UInt64 = 0
  private let answer = FrameBatch(count: 1, size: 64)
  private var result = TrafficResult()

  /// How long an acknowledgement is waited for before everything behind the last one goes again.
  private static var repetition: UInt64 { 50_000_000 }
  /// How long a receiver that has everything still answers a sender that does not know it.
  private static var linger: UInt64 { 300_000_000 }

  init(_ plan: TrafficPlan, _ place: FrontendPlace, _ commands: NetworkCommands, isJSON: Bool) {
    self.plan = plan
    outgoing = FrameBatch(count: 32, size: plan.size)
    self.place = place
    self.commands = commands
    self.isJSON = isJSON
  }

  // MARK: Both

  /// The next frame of the traffic; `nil` when there is none now.
  private mutating func take(
    _ client: inout LibraryDriver
  ) throws(ClientError) -> (frame: TrafficFrame, count: Int)? {
    while true {
      if incoming.isEmpty {
        guard try incoming.receive(client) else { return nil }
      }
      var isCorrupt = false
      let (found, count) = incoming.takeNext { bytes in
        (TrafficFrame(bytes, isCorrupt: &isCorrupt), bytes.count)
      }
      if let found { return (found, count) }
      if isCorrupt { result.corrupt += 1 } else { result.strangers += 1 }
    }
  }

  /// Sleeps until something comes or `deadline`; a device that went away is set up again.
  private mutating func rest(
    _ client: inout LibraryDriver,
    until deadline: UInt64?
  ) throws(ClientError) {
    guard try client.step() == nil else { return try client.wait(until: deadline) }
    incoming.clear()
    outgoing.clear()
    try client.recover()
    try commands.run(&client, patience: place.patience)
  }

  private func ownAddress(
    _ client: borrowing LibraryDriver
  ) throws(ClientError) -> EtherAddress {
    if let address = commands.address { return address }
    guard let address = try client.networkFacts().ownAddress else {
      throw .failed("the device has no address; give --address")
    }
    return address
  }

  private mutating func show(
    _ client: borrowing LibraryDriver,
    isSender: Bool
  ) {
    result.doorbells = client.counters.notifications
    result.recoveries = client.recoveries
    writeOutput(isJSON ? result.json(isSender: isSender) : result.text(isSender: isSender))
  }

  // MARK: Sending

  /// Sends all frames.
  mutating func send(
    _ client: inout LibraryDriver
  ) throws(ClientError) {
    let limit = Int(try client.networkFacts().packet_limit)
    guard plan.size <= limit else {
      throw .usage(
        UsageError(
          "--size \(plan.size): the device's MTU and the link's memory allow frames of \(limit)"))
    }
    var flow = Flow(run: UInt32(truncatingIfNeeded: cl_random()))
    var source = try ownAddress(client)
    if let other = plan.source { source = other }
    if place.isNoisy { writeError("ivshmem: sending as \(source.text)\n") }
    let patience = place.patience
    let start = cl_monotonic_ns()
    var progress = start
    while flow.acknowledged < plan.count {
      let before = flow.acknowledged
      let hasSent = try sendWindow(&flow, source, &client)
      try takeAnswers(&flow, &client)
      let now = cl_monotonic_ns()
      if flow.acknowledged > before { progress = now }
      if plan.window == 0 {
        flow.acknowledged = try flow.next - UInt64(client.pending)
        if flow.acknowledged > before || hasSent { continue }
        try rest(&client, until: nil)
        continue
      }
      guard now < progress + patience else {
        throw .failed(
          "nobody acknowledges: is 'frontend network receive' running at the other end?")
      }
      if hasSent || flow.acknowledged > before { continue }
      if now >= flow.sentAt + Self.repetition {
        result.repeated += flow.next - flow.acknowledged
        flow.next = flow.acknowledged
        flow.isRepeating = true
        outgoing.clear()
        continue
      }
      try rest(&client, until: flow.sentAt + Self.repetition)
    }
    result.nanoseconds = cl_monotonic_ns() - start
    result.frames = plan.count
    result.bytes = plan.count * UInt64(plan.size)
    show(client, isSender: true)
  }

  /// Where a sender is.
  private struct Flow {
    let run: UInt32
    /// The next frame to be sent.
    var next: UInt64 = 0
    /// Frames that are known to have arrived.
    var acknowledged: UInt64 = 0
    /// The first frame that was never sent.
    var fresh: UInt64 = 0
    /// The first frame that the digest does not know.
    var digested: UInt64 = 0
    var sentAt: UInt64 = 0
    var isRepeating = false
  }

  private mutating func sendWindow(
    _ flow: inout Flow, _ source: EtherAddress,
    _ client: inout LibraryDriver
  ) throws(ClientError) -> Bool {
    let end =
      plan.window == 0
      ? min(plan.count, flow.next + 64) : min(plan.count, flow.acknowledged + plan.window)
    let half = max(1, plan.window / 2)
    let pairs = UInt64(try client.networkFacts().pairs_in_use)
    var hasSent = false
    while flow.next < end {
      // What there was no room for goes first, as it is, unless it has arrived meanwhile.
      let first = flow.next
      if outgoingStart != first { outgoing.clear() }
      outgoingStart = first
      while !outgoing.isFull, first + UInt64(outgoing.count) < end {
        let number = first + UInt64(outgoing.count)
        var flags: UInt8 = plan.isEdges ? TrafficFrame.isEdges : 0
        if plan.window == 0 {
          flags |= TrafficFrame.isLoose
        } else if flow.isRepeating && number == first || number + 1 == plan.count
          || (number + 1) % half == 0
        {
          flags |= TrafficFrame.isAcknowledgementWanted
        }
        var data = TrafficFrame(
          .data, flags: flags, run: flow.run, sequence: number, source: source)
        let target = plan.target
        // A few frames in a row stay on one pair: between pairs there is no order.
        let digest = outgoing.add(plan.size, pair: UInt16(number / 64 % pairs)) { bytes in
          data.write(to: target, &bytes)
        }
        if number == flow.digested {
          flow.digested += 1
          result.digest ^= digest
        }
      }
      let sent = try outgoing.send(client)
      guard sent > 0 else { break }
      flow.sentAt = cl_monotonic_ns()
      flow.next += UInt64(sent)
      outgoingStart = flow.next
      flow.fresh = max(flow.fresh, flow.next)
      flow.isRepeating = false
      hasSent = true
    }
    return hasSent
  }

  private mutating func takeAnswers(
    _ flow: inout Flow, _ client: inout LibraryDriver
  ) throws(ClientError) {
    while let (found, _) = try take(&client) {
      guard found.kind == .acknowledgement, found.run == flow.run, found.sequence <= flow.fresh
      else {
        result.strangers += 1
        continue
      }
      guard found.sequence > flow.acknowledged else { continue }
      flow.acknowledged = found.sequence
      flow.next = max(flow.next, found.sequence)
      if plan.window == 1 { result.roundTrips.append(cl_monotonic_ns() - flow.sentAt) }
    }
  }

  // MARK: Receiving

  /// Receives all frames of one sender.
  mutating func receive(
    _ client: inout LibraryDriver
  ) throws(ClientError) {
    let own = try ownAddress(client)
    var run: UInt32?
    var expected: UInt64 = 0
    var first: UInt64 = 0
    var last = cl_monotonic_ns()
    if place.isNoisy { writeError("ivshmem: receiving as \(own.text)\n") }
    while true {
      while let (found, count) = try take(&client) {
        guard found.kind == .data, run == nil || found.run == run else {
          result.strangers += 1
          continue
        }
        if run == nil {
          run = found.run
          first = cl_monotonic_ns()
        }
        last = cl_monotonic_ns()
        let isLoose = found.flags & TrafficFrame.isLoose != 0
        var isAnswerDue = found.flags & TrafficFrame.isAcknowledgementWanted != 0
        if found.sequence == expected || isLoose && found.sequence > expected {
          result.lost += found.sequence - expected
          expected = found.sequence + 1
          result.frames += 1
          result.bytes += UInt64(count)
          result.digest ^= found.digest
          result.nanoseconds = last - first
        } else {
          if found.sequence < expected { result.duplicates += 1 } else { result.outOfOrder += 1 }
          isAnswerDue = !isLoose
        }
        if isAnswerDue { try acknowledge(found, own, expected, &client) }
      }
      let isDone = run != nil && expected >= plan.count
      let now = cl_monotonic_ns()
      if isDone, now >= last + Self.linger { break }
      guard now < last + place.patience else {
        throw .failed(
          "\(result.frames) of \(plan.count) frames came, then none for"
            + " \(place.patience / 1_000_000_000) s")
      }
      try rest(&client, until: last + (isDone ? Self.linger : place.patience))
    }
    show(client, isSender: false)
  }

  private mutating func acknowledge(
    _ found: TrafficFrame, _ own: EtherAddress, _ expected: UInt64,
    _ client: inout LibraryDriver
  ) throws(ClientError) {
    var frame = TrafficFrame(
      .acknowledgement, flags: 0, run: found.run, sequence: expected, source: own)
    answer.clear()
    answer.add(60, pair: 0) { bytes in _ = frame.write(to: found.source, &bytes) }
    // When there is no room the sender asks again.
    _ = try answer.send(client)
  }
}
