import CLinux
import LinuxSupport
import SharedMemory
import VirtioDevice
import Virtqueue

// Rings come and go.
extension VhostUserDevice where Device: ~Copyable {
  /// Makes the queue of a ring that has everything it needs, and is not running yet.
  mutating func activate(_ queue: Int) throws(VhostUserError) {
    let ring = vrings[queue]
    guard !queues.isOccupied(queue), ring.isEnabled, ring.isStarted, ring.isAddressed,
      ring.size > 0, !ring.isBroken
    else { return }
    guard let access = memory.access else {
      throw .badOrder(request: VhostUserRequest.setVringEnable.rawValue, needs: .memoryTable)
    }
    guard let size = QueueSize(ring.size), size.rawValue <= maximumQueueSize.rawValue else {
      throw .badQueueSize(ring.size, limit: maximumQueueSize.rawValue)
    }
    let configuration = QueueConfiguration(
      size: size,
      descriptorTable: try memory.guestAddress(ofUser: ring.descriptors),
      availableRing: try memory.guestAddress(ofUser: ring.available),
      usedRing: try memory.guestAddress(ofUser: ring.used),
      features: queueFeatures, maximumChainLength: device.maximumChainLength)
    arenas[queue].reuse()
    generation &+= 1
    let resumption = try resumption(queue, configuration, access)
    do throws(QueueError) {
      let made = try DeviceQueue(
        configuration, in: memory.region, access: access, arena: &arenas[queue],
        generation: generation, resuming: resumption)
      queues.put(made, at: queue)
    } catch { throw .queue(index: queue, error) }
    if !isDeviceStarted {
      isDeviceStarted = true
      // The cache mode follows from what was negotiated: that is no news to the front-end, and
      // QEMU's generic device does not survive being told.
      try announceIfChanged()
      device.start(features: features)
      _ = device.takeConfigurationChange()
    }
  }

  private var queueFeatures: QueueFeatures {
    var agreed = QueueFeatures()
    if features.contains(.indirectDescriptors) { agreed.insert(.indirectDescriptors) }
    if features.contains(.eventIndex) { agreed.insert(.eventIndex) }
    return agreed
  }

  /// Where the ring goes on: behind what the books say is in flight, or where the front-end says.
  private mutating func resumption(
    _ queue: Int, _ configuration: QueueConfiguration, _ access: AccessMap
  ) throws(VhostUserError) -> QueueResumption {
    vrings[queue].resumeCount = 0
    vrings[queue].resumed = 0
    guard inflight.isOccupied(0) else { return .at(vrings[queue].base) }
    let claim = ClaimedRange(address: configuration.usedRing, count: 4)
    guard let used = access.readable(claim), used.offset & 1 == 0 else {
      throw .memory(.addressOutside(configuration.usedRing))
    }
    let entries = Int(maximumQueueSize.rawValue)
    let found = inflight[0].recover(
      queue: queue, usedIndex: memory.region.load16(used.offset + 2),
      size: configuration.size.rawValue,
      into: resumeHeads.slice(from: queue * entries, count: entries))
    vrings[queue].resumeCount = found
    return found > 0 ? .afterInFlight(UInt16(found)) : .at(vrings[queue].base)
  }

  /// Takes nothing more from a ring; what is in flight still ends.
  mutating func stopTaking(_ queue: Int) {
    vrings[queue].isEnabled = false
    vrings[queue].isStarted = false
  }

  /// Drops the queue of a ring; remembers where it stands. Nothing may be in flight.
  @inline(never)
  mutating func deactivate(_ queue: Int) {
    guard queues.isOccupied(queue) else { return }
    vrings[queue].base = queues[queue].indices.available.rawValue
    // What was never taken again stays on the books for the next device.
    let left = vrings[queue].resumeCount - vrings[queue].resumed
    vrings[queue].base &-= UInt16(truncatingIfNeeded: left)
    _ = queues.remove(at: queue)
    returned.clear(queue)
  }

  /// Drops every queue, because the memory below them is about to change, and leaves the rings
  /// as they are.
  mutating func suspendRings() {
    for queue in 0..<queueCount { deactivate(queue) }
  }

  /// Makes the queues of all rings that run.
  mutating func resumeRings() throws(VhostUserError) {
    guard memory.count > 0 else { return }
    for queue in 0..<queueCount { try activate(queue) }
  }

  /// The device is not used any more once its last ring has stopped.
  mutating func stopDeviceIfIdle() {
    for queue in 0..<queueCount where queues.isOccupied(queue) { return }
    guard isDeviceStarted else { return }
    isDeviceStarted = false
    device.stop()
    // As at the start: what follows from the front-end's own doing is no news to it.
    _ = device.takeConfigurationChange()
  }
}
