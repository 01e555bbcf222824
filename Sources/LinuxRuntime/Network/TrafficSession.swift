import CLinux
import CommandOptions
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioNet
import Virtqueue

/// Numbered frames from one front-end to another: what is lost is sent again, so that everything
/// arrives whole and in order, whatever happens to the back-end meanwhile.
struct TrafficSession: ~Copyable {
  private let plan: TrafficPlan
  private let place: FrontendPlace
  private let isJSON: Bool
  private var commands: NetworkCommands
  private let frame = HeldFrame().bytes
  private let answer = HeldFrame().bytes
  private var result = TrafficResult()
  private var pair = 0

  /// How long an acknowledgement is waited for before everything behind the last one goes again.
  private static var repetition: UInt64 { 50_000_000 }
  /// How long a receiver that has everything still answers a sender that does not know it.
  private static var linger: UInt64 { 300_000_000 }

  init(_ plan: TrafficPlan, _ place: FrontendPlace, _ commands: NetworkCommands, isJSON: Bool) {
    self.plan = plan
    self.place = place
    self.commands = commands
    self.isJSON = isJSON
  }

  // MARK: Both

  /// The next frame of the traffic; `nil` when there is none now.
  private mutating func take(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> (frame: TrafficFrame, count: Int)? {
    let pairs = client.driver.pairs
    var silent = 0
    // Bounded by what the device may have returned.
    while silent < pairs {
      var offload = FrameOffload()
      let count: Int
      let pair = pair
      do throws(QueueError) {
        count = try frame.withMutableSpan(0..<NetFormat.frameLimit) { (span) throws(QueueError) in
          try client.driver.net.receive(into: &span, &offload, pair: pair)
        }
      } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
      guard count > 0 else {
        silent += 1
        self.pair = (pair + 1) % pairs
        continue
      }
      silent = 0
      var isCorrupt = false
      let found = frame.withSpan(0..<count) { TrafficFrame($0, isCorrupt: &isCorrupt) }
      if let found { return (found, count) }
      if isCorrupt { result.corrupt += 1 } else { result.strangers += 1 }
    }
    return nil
  }

  private func put(
    _ frame: PrivateTable<UInt8>, _ count: Int, pair: Int,
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> Bool {
    do throws(QueueError) {
      return try frame.withSpan(0..<count) { (bytes) throws(QueueError) in
        try client.driver.net.send(bytes, pair: pair)
      }
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  /// Sleeps until something comes or `deadline`; a device that went away is set up again.
  private mutating func rest(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>,
    until deadline: UInt64?
  ) throws(ClientError) {
    guard client.isLost() else { return try client.wait(until: deadline) }
    try client.recover()
    try commands.run(&client, patience: place.patience)
  }

  private func ownAddress(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> MACAddress {
    guard let address = commands.address ?? client.driver.configuration.address else {
      throw .failed("the device has no address; give --address")
    }
    return address
  }

  private mutating func show(
    _ client: borrowing DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>,
    isSender: Bool
  ) {
    result.doorbells = client.notificationCount
    result.recoveries = client.recoveries
    writeOutput(isJSON ? result.json(isSender: isSender) : result.text(isSender: isSender))
  }

  // MARK: Sending

  /// Sends all frames.
  mutating func send(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) {
    let limit = client.driver.packetLimit
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
      client.publish()
      try takeAnswers(&flow, &client)
      let now = cl_monotonic_ns()
      if flow.acknowledged > before { progress = now }
      if plan.window == 0 {
        flow.acknowledged = try flow.next - UInt64(unsent(&client))
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
    var sentAt: UInt64 = 0
    var isRepeating = false
  }

  private func unsent(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> Int {
    do throws(QueueError) {
      return try client.driver.net.unsentCount()
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
  }

  private mutating func sendWindow(
    _ flow: inout Flow, _ source: MACAddress,
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) -> Bool {
    let end =
      plan.window == 0
      ? min(plan.count, flow.next + 64) : min(plan.count, flow.acknowledged + plan.window)
    let half = max(1, plan.window / 2)
    var hasSent = false
    while flow.next < end {
      var flags: UInt8 = plan.isEdges ? TrafficFrame.isEdges : 0
      if plan.window == 0 {
        flags |= TrafficFrame.isLoose
      } else if flow.isRepeating || flow.next + 1 == plan.count || (flow.next + 1) % half == 0 {
        flags |= TrafficFrame.isAcknowledgementWanted
      }
      var data = TrafficFrame(
        .data, flags: flags, run: flow.run, sequence: flow.next, source: source)
      let target = plan.target
      let digest = frame.withMutableSpan(0..<plan.size) { data.write(to: target, &$0) }
      // A few frames in a row stay on one pair: between pairs there is no order.
      let pair = Int(flow.next / 64 % UInt64(client.driver.pairs))
      guard try put(frame, plan.size, pair: pair, &client) else { break }
      flow.sentAt = cl_monotonic_ns()
      if flow.next == flow.fresh {
        flow.fresh += 1
        result.digest ^= digest
      }
      flow.next += 1
      flow.isRepeating = false
      hasSent = true
    }
    return hasSent
  }

  private mutating func takeAnswers(
    _ flow: inout Flow, _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
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
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
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
      client.publish()
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
    _ found: TrafficFrame, _ own: MACAddress, _ expected: UInt64,
    _ client: inout DeviceClient<some DevicePath & ~Copyable, NetworkPortDriver>
  ) throws(ClientError) {
    var frame = TrafficFrame(
      .acknowledgement, flags: 0, run: found.run, sequence: expected, source: own)
    answer.withMutableSpan(0..<60) { _ = frame.write(to: found.source, &$0) }
    // When there is no room the sender asks again.
    _ = try put(answer, 60, pair: 0, &client)
    client.publish()
  }
}
