import IVShmem
public import SharedMemory
import VirtioDevice
import Virtqueue

// The book: what one back-end leaves to the next.
extension SiemensBackend where P: ~Copyable, Device: ~Copyable {
  /// Writes down what is negotiated, before the front-end may go on.
  @inline(never)
  mutating func saveState() {
    guard let book else { return }
    book.save(
      SiemensBook.Negotiated(
        features: registers.driverFeatures, status: registers.status, phase: phase,
        selectedQueue: selectedQueue),
      banks: banks)
  }

  /// Bytes a book of this back-end takes.
  public var bookByteCount: Int {
    SiemensBook.byteCount(
      queues: registers.identity.queueCount,
      size: Int(registers.identity.maximumQueueSize.rawValue))
  }

  /// Keeps a book in `memory` (``bookByteCount`` bytes), from now on; before ``start()`` or
  /// ``resume()``. Returns whether it is large enough.
  public mutating func keepBook(in memory: SharedRegion) -> Bool {
    book = SiemensBook(
      region: memory, queues: registers.identity.queueCount,
      size: Int(registers.identity.maximumQueueSize.rawValue))
    return book != nil
  }

  /// Goes on where an earlier back-end stopped, from its book, without a State in between; `false`
  /// when there is nothing to go on from, and nothing was changed: then ``start()``.
  ///
  /// What the book says is played through the same checks as a front-end's transactions. The header
  /// is left alone but for what this side alone writes: the front-end may be between the store of
  /// a field and its transaction.
  public mutating func resume() -> Bool {
    guard let book, book.belongs(to: registers.identity, plan),
      platform.readState() == SiemensHeader.ready, let state = book.load(banks: banks),
      state.phase != .withdrawn, replay(state)
    else {
      for queue in 0..<queues.count where queues.isOccupied(queue) {
        _ = queues.remove(at: queue)
        resumeCounts[queue] = 0
        resumed[queue] = 0
      }
      device.stop()
      registers.resetCompleted()
      forgetDriver()
      return false
    }
    forwardQuietly(.deviceFeaturesSelector, words.load32(.deviceFeaturesSelector))
    forwardQuietly(.driverFeaturesSelector, words.load32(.driverFeaturesSelector))
    selectedQueue = state.selectedQueue
    forwardQuietly(.queueSelector, selectedQueue)
    phase = state.phase
    resumeConfiguration()
    for queue in 0..<queues.count where queues.isOccupied(queue) { notify(queue) }
    return true
  }

  @inline(never)
  private mutating func replay(_ state: SiemensBook.Negotiated) -> Bool {
    let steps: InlineArray<3, DeviceStatus> = [.acknowledge, .driver, .featuresOK]
    forwardQuietly(.driverFeaturesSelector, 0)
    forwardQuietly(.driverFeatures, UInt32(truncatingIfNeeded: state.features.rawValue))
    forwardQuietly(.driverFeaturesSelector, 1)
    forwardQuietly(.driverFeatures, UInt32(truncatingIfNeeded: state.features.rawValue >> 32))
    var status = DeviceStatus()
    for index in steps.indices where state.status.contains(steps[index]) {
      status.insert(steps[index])
      forwardQuietly(.status, UInt32(status.rawValue))
    }
    for queue in 0..<registers.identity.queueCount {
      guard replay(queue: queue) else { return false }
    }
    if state.status.contains(.driverOK) {
      status.insert(.driverOK)
      if case .start(let features) = registers.write(
        MMIORegister.status.rawValue, UInt32(status.rawValue))
      {
        device.resume(features: features)
      }
    }
    if state.status.contains(.failed) {
      forwardQuietly(.status, UInt32(status.union(.failed).rawValue))
    }
    if state.status.contains(.needsReset) { registers.demandReset() }
    return registers.status == state.status
  }

  @inline(never)
  private mutating func replay(queue: Int) -> Bool {
    let bank = banks[queue]
    forwardQuietly(.queueSelector, UInt32(queue))
    forwardQuietly(.queueSize, UInt32(bank.size))
    forwardQuietly(.queueDescriptorLow, UInt32(truncatingIfNeeded: bank.descriptors))
    forwardQuietly(.queueDescriptorHigh, UInt32(truncatingIfNeeded: bank.descriptors >> 32))
    forwardQuietly(.queueDriverLow, UInt32(truncatingIfNeeded: bank.driver))
    forwardQuietly(.queueDriverHigh, UInt32(truncatingIfNeeded: bank.driver >> 32))
    forwardQuietly(.queueDeviceLow, UInt32(truncatingIfNeeded: bank.device))
    forwardQuietly(.queueDeviceHigh, UInt32(truncatingIfNeeded: bank.device >> 32))
    guard bank.isEnabled else { return true }
    guard
      case .enableQueue(_, let configuration) = registers.write(
        MMIORegister.queueReady.rawValue, 1),
      let book, let used = access.readable(ClaimedRange(address: bank.device, count: 4)),
      used.offset & 3 == 0
    else { return false }
    let entries = Int(registers.identity.maximumQueueSize.rawValue)
    let found = book.recover(
      queue: queue, usedIndex: platform.region.load16(used.offset + 2), size: bank.size,
      into: resumeHeads.slice(from: queue * entries, count: entries))
    guard makeQueue(queue, configuration, .afterInFlight(found)) else { return false }
    resumeCounts[queue] = found
    resumed[queue] = 0
    order &+= UInt64(found)
    return true
  }

  private mutating func forwardQuietly(_ register: MMIORegister, _ value: UInt32) {
    _ = registers.write(register.rawValue, value)
  }

  /// Shows the configuration anew only where it is not what the front-end sees already.
  private mutating func resumeConfiguration() {
    _ = device.takeConfigurationChange()
    let generation = words.load32(.configurationGeneration)
    registers.configurationGeneration = generation & ~1
    var isSame = generation & 1 == 0
    for index in 0..<plan.configurationSize {
      shown[index] = device.configurationByte(at: index)
      if words.configurationByte(index) != shown[index] { isSame = false }
    }
    guard !isSame else { return }
    publishConfiguration()
    raiseConfigurationEvent()
  }
}
