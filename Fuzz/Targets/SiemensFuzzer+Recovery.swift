import IVShmem
import SharedMemory
import SiemensDialect
import Simulator
import VirtioDevice
import Virtqueue

// What has to work after any attack: a front-end of ours sets the device up and a chain is served.
extension SiemensFuzzer {
  /// Serves an honest front-end.
  func recover() throws(FuzzFailure) {
    var failure: FuzzFailure?
    link.onWait = { [unowned self] in
      // Every wait ends some time.
      link.time += 1_000_000
      do throws(FuzzFailure) {
        for _ in 0..<40 {
          if try !step() { return }
        }
      } catch { failure = error }
    }
    defer { link.onWait = nil }
    script.isOpen = [true, true]
    script.turn = 100
    script.waiting = [[], []]
    script.allowance = .max
    script.hasEvents = true
    // The attacker's cell has gone, and a look of the back-end later another one starts.
    link.bury(PeerID(1))
    link.onWait?()
    let front: SiemensPlan
    do throws(SiemensPlanError) {
      front = try SiemensFrontend<ScheduledPeer>.plan(own: PeerID(1), geometry: link.geometry)
    } catch { throw FuzzFailure("no plan: \(error)") }
    var honest = SiemensFrontend(
      platform: ScheduledPeer(link: link, peerID: PeerID(1)), plan: front, spinCount: 1)
    do throws(SiemensFrontendError) {
      try honest.attach(until: Instant(nanoseconds: link.time + 1_000_000_000))
      let features = try honest.negotiate(wanted: FeatureSet())
      guard features.rawValue == FeatureSet.required.rawValue else {
        throw .featuresRefused(wanted: features)
      }
      try serve(&honest)
      honest.leave()
    } catch { throw failure ?? FuzzFailure("an honest front-end is not served: \(error)") }
    if let failure { throw failure }
  }

  /// One malformed chain on queue 0, which every device returns or keeps, and the books in order.
  private func serve(
    _ honest: inout SiemensFrontend<ScheduledPeer>
  ) throws(SiemensFrontendError) {
    guard let size = QueueSize(8) else { return }
    let region = link.region
    let start = honest.plan.pool.lowerBound
    region.fill(region.ownRange(start..<start + 0x1000), with: 0)
    let access = honest.plan.access(in: region)
    let address = access.address(ofOffset: start)
    let ring = QueueConfiguration(
      size: size, descriptorTable: address, availableRing: address + 0x100,
      usedRing: address + 0x200)
    try honest.enableQueue(0, ring)
    try honest.startDevice()
    // One byte the device may write.
    region.store64(address + 0x400, at: start)
    region.store32(1, at: start + 8)
    region.store16(2, at: start + 12)
    region.store16(1, at: start + 0x102)
    honest.notify(0)
    for _ in 0..<30 { link.onWait?() }
    guard !honest.status.contains(.needsReset) else { throw .queueRefused(0) }
    // A console keeps the chain until there is a byte.
    let isUsed = region.load16(start + 0x202) == 1 || backend.registers.identity.deviceID == 3
    guard honest.hasBackend, isUsed else { throw .backendLost }
  }
}
