import DeviceRuntime
import IVShmem
import SharedMemory
import Simulator
import VirtioBlock
import VirtioConsole
import VirtioDevice
import VirtioEntropy
import VirtioTransport
import Virtqueue

// What has to work after any attack: the production front-end starts, and every device does its
// work.
extension BackendFuzzer {
  /// Serves an honest front-end.
  func recover() throws(FuzzFailure) {
    let link = links[peer.plan.placement == .shared ? 0 : 1]
    var failure: FuzzFailure?
    link.onWait = { [unowned self] in
      do throws(FuzzFailure) {
        for _ in 0..<40 {
          if try step() == .idle, backend.isQuiet { return }
        }
      } catch { failure = error }
    }
    defer { link.onWait = nil }
    restoreHosts()
    var arena = unsafe PrivateArena(unsafeBase: books[2], count: Self.bookBytes)
    do throws(BlockFrontendError) {
      if kinds[0] == .network {
        try checkNetwork(link, &arena)
      } else {
        try checkOthers(link, &arena)
      }
    } catch {
      throw failure
        ?? FuzzFailure(brokenPromise ?? "an honest front-end is not served: \(error)")
    }
    if let failure { throw failure }
  }

  /// The disk, the entropy device and the console.
  private func checkOthers(
    _ link: ScheduledLink, _ arena: inout PrivateArena
  ) throws(BlockFrontendError) {
    var front = try BlockFrontend(
      frontend: Frontend(link: FuzzLinks.native(.frontEnd, link), spinCount: 1), slot: 0,
      depth: 4, arena: &arena)
    front.frontend.start()
    try moveBlocks(&front, link)
    try checkEntropy(&front, &arena)
    try checkConsole(&front, &arena)
  }

  /// A frame that is sent comes back.
  private func checkNetwork(
    _ link: ScheduledLink, _ arena: inout PrivateArena
  ) throws(BlockFrontendError) {
    guard var front = DriverFront<FuzzedNetDriver>(link, &arena) else { throw .poolTooSmall }
    try front.connect(until: Instant(nanoseconds: link.time + 1000))
    var heard: [UInt8] = []
    for _ in 0..<100 {
      do throws(QueueError) {
        if try front.driver.prove(&heard) { return }
      } catch { throw .queue(error) }
      front.wait(until: link.time)
    }
    try check(false, "no frame came back")
  }

  private func restoreHosts() {
    script.isLinkUp = true
    script.isOpen = [true, true]
    script.turn = 100
    script.waiting = [[], []]
    script.hasEvents = true
    script.allowance = .max
  }

  private func check(
    _ isKept: Bool, _ text: @autoclosure () -> String
  ) throws(BlockFrontendError) {
    guard !isKept else { return }
    brokenPromise = text()
    throw .full
  }

  /// Writes, flushes and reads back; an invented I/O error is asked about again.
  private func moveBlocks(
    _ front: inout BlockFrontend<ScheduledPeer>, _ link: ScheduledLink
  ) throws(BlockFrontendError) {
    try front.connect(until: Instant(nanoseconds: link.time + 1000))
    guard let out = front.allocateForWriting(1024), let into = front.allocateForReading(1024)
    else { throw .poolTooSmall }
    let region = front.frontend.link.region
    for index in 0..<1024 {
      region.store8(UInt8(truncatingIfNeeded: index &* 7), at: out.offset + index)
    }
    try request(&front, .write, out)
    try request(&front, .flush, .empty)
    try request(&front, .read, into)
    for index in 0..<1024 {
      let byte = region.load8(into.offset + index)
      try check(
        byte == UInt8(truncatingIfNeeded: index &* 7), "byte \(index) of the disk is \(byte)")
    }
    front.freeForWriting(out)
    front.freeForReading(into)
  }

  private func request(
    _ front: inout BlockFrontend<ScheduledPeer>, _ type: BlockRequestType, _ data: BufferSegment
  ) throws(BlockFrontendError) {
    // The medium invents an error now and then; 20 in a row are none of its doing.
    for round in UInt32(0)..<20 {
      try front.submit(type, sector: 3, data: data, token: round)
      front.publish()
      var found: BlockCompletion?
      for _ in 0..<20 where found == nil {
        found = try front.nextCompletion()
        if found == nil { _ = front.sleep(until: Instant(nanoseconds: 0)) }
      }
      try check(found?.token == round, "request \(type) ended as \(String(describing: found))")
      if found?.status == .ok { return }
    }
    try check(false, "request \(type) never succeeds")
  }

  /// A queue of 16 in fresh memory, ready at the device.
  private func queue(
    _ front: inout BlockFrontend<ScheduledPeer>, slot: Int, _ index: Int,
    _ arena: inout PrivateArena
  ) throws(BlockFrontendError) -> DriverQueue {
    guard let size = QueueSize(16), let table = front.allocateForWriting(256),
      let available = front.allocateForWriting(64), let used = front.allocateForReading(192)
    else { throw .poolTooSmall }
    let configuration = QueueConfiguration(
      size: size, descriptorTable: UInt64(table.offset), availableRing: UInt64(available.offset),
      usedRing: UInt64(used.offset), maximumChainLength: 4)
    let plan = front.frontend.link.plan
    guard
      let access = AccessMap(
        region: front.frontend.link.region, readable: plan.whole, writable: plan.driverPool)
    else { throw .poolTooSmall }
    let made: DriverQueue
    do throws(QueueError) {
      made = try DriverQueue(
        configuration, in: front.frontend.link.region, access: access, arena: &arena)
    } catch { throw .queue(error) }
    do throws(FrontendError) {
      try front.frontend.enableQueue(slot: slot, queue: index, configuration)
    } catch { throw .frontend(error) }
    return made
  }

  private func checkEntropy(
    _ front: inout BlockFrontend<ScheduledPeer>, _ arena: inout PrivateArena
  ) throws(BlockFrontendError) {
    guard let memory = front.allocateForReading(512),
      var driver = EntropyDriver(
        depth: 2, memory: memory, region: front.frontend.link.region, arena: &arena)
    else { throw .poolTooSmall }
    do throws(FrontendError) {
      _ = try front.frontend.negotiate(slot: 2, deviceID: 4, wanted: FeatureSet())
    } catch { throw .frontend(error) }
    driver.attach(queue: try queue(&front, slot: 2, 0, &arena))
    do throws(FrontendError) {
      try front.frontend.startDevice(slot: 2)
    } catch { throw .frontend(error) }
    driver.ask()
    if driver.publish() { front.frontend.notify(slot: 2, queue: 0) }
    links[peer.plan.placement == .shared ? 0 : 1].onWait?()
    var bytes = InlineArray<300, UInt8>(repeating: 0)
    var span = bytes.mutableSpan
    do throws(QueueError) {
      let count = try driver.read(into: &span)
      try checkQueue(count == 300, "\(count) random bytes of 300")
    } catch { throw .queue(error) }
  }

  private func checkQueue(
    _ isKept: Bool, _ text: @autoclosure () -> String
  ) throws(QueueError) {
    guard !isKept else { return }
    brokenPromise = text()
    throw .poisoned
  }

  private func checkConsole(
    _ front: inout BlockFrontend<ScheduledPeer>, _ arena: inout PrivateArena
  ) throws(BlockFrontendError) {
    let layout = ConsoleDriverLayout(ports: 2, depth: 4, bufferSize: 512)
    guard let out = front.allocateForWriting(layout.outBytes),
      let into = front.allocateForReading(layout.inBytes),
      var driver = ConsoleDriver(
        layout, out: out, into: into, region: front.frontend.link.region, arena: &arena)
    else { throw .poolTooSmall }
    let features: FeatureSet
    do throws(FrontendError) {
      features = try front.frontend.negotiate(slot: 1, deviceID: 3, wanted: .consoleMultiport)
    } catch { throw .frontend(error) }
    for index in 0..<6 { driver.attach(try queue(&front, slot: 1, index, &arena), at: index) }
    do throws(FrontendError) {
      try front.frontend.startDevice(slot: 1)
    } catch { throw .frontend(error) }
    driver.begin(features: features)
    do throws(QueueError) { try talk(&front, &driver) } catch { throw .queue(error) }
  }

  /// What is said comes back, behind whatever the attack has left in the buffers.
  private func talk(
    _ front: inout BlockFrontend<ScheduledPeer>, _ driver: inout ConsoleDriver
  ) throws(QueueError) {
    let words: [UInt8] = Array("after the attack".utf8)
    var heard: [UInt8] = []
    var isSaid = false
    for _ in 0..<80 {
      while try driver.step() {}
      if !isSaid, driver.isAdded(port: 0) {
        driver.setOpen(true, port: 0)
        isSaid = try driver.write(port: 0, words.span) == words.count
      }
      let wanted = driver.publish()
      for queue in 0..<6 where wanted & (1 << UInt32(queue)) != 0 {
        front.frontend.notify(slot: 1, queue: queue)
      }
      links[peer.plan.placement == .shared ? 0 : 1].onWait?()
      var bytes = InlineArray<512, UInt8>(repeating: 0)
      var span = bytes.mutableSpan
      let count = try driver.read(port: 0, into: &span)
      for index in 0..<count { heard.append(bytes[index]) }
      if heard.suffix(words.count) == words[...] { return }
    }
    try checkQueue(false, "the console said \(heard.count) bytes and not what it was told")
  }
}
