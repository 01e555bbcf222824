import IVShmem
import SharedMemory
import VirtioDevice
import Virtqueue

// Write transactions: capture, judge, act, show, clear.
extension SiemensBackend where P: ~Copyable, Device: ~Copyable {
  /// Lets the front-end go on. Everything this side stored for it is visible by then.
  mutating func endTransaction() {
    platform.region.store32Releasing(0, at: words.offset(.writeTransaction))
  }

  /// Carries out the transaction that names `offset`, and clears it unless it has to wait for the
  /// device.
  @inline(never)
  mutating func execute(_ offset: UInt32) {
    if offset >= UInt32(SiemensHeader.configuration) {
      writeConfiguration(Int(offset) - SiemensHeader.configuration)
      return finishTransaction()
    }
    switch SiemensHeader.Field(rawValue: Int(offset)) {
    case .deviceFeaturesSelector:
      forward(.deviceFeaturesSelector, words.load32(.deviceFeaturesSelector))
      publishFeatures()
    case .driverFeaturesSelector:
      forward(.driverFeaturesSelector, words.load32(.driverFeaturesSelector))
    case .driverFeatures: forward(.driverFeatures, words.load32(.driverFeatures))
    case .queueSelector:
      selectedQueue = words.load32(.queueSelector)
      forward(.queueSelector, selectedQueue)
      publishBank()
    case .queueSize, .queueDriverVector, .queueDescriptors, .queueDriver, .queueDevice:
      captureBank(Int(offset))
    case .queueEnable:
      // 16 bits, whatever the driver stored: its 32-bit store of 0 runs into the next field.
      perform(
        registers.write(
          MMIORegister.queueReady.rawValue, UInt32(words.load16(.queueEnable))))
      if pending == .nothing { publishBank() }
    case .deviceStatus: writeStatus(words.load32(.deviceStatus))
    case .revision, .size, .writeTransaction, .deviceFeatures, .queueDeviceVector,
      .configurationEvent, .queueEvent, .configurationGeneration, nil:
      counters.strayTransactions &+= 1
    }
    finishTransaction()
  }

  private mutating func finishTransaction() {
    guard pending == .nothing, phase != .withdrawn else { return }
    saveState()
    endTransaction()
  }

  private mutating func forward(_ register: MMIORegister, _ value: UInt32) {
    perform(registers.write(register.rawValue, value))
  }

  /// Takes one field of the bank over, unless the queue runs or does not exist.
  private mutating func captureBank(_ offset: Int) {
    guard selectedQueue < UInt32(banks.count), !banks[Int(selectedQueue)].isEnabled else {
      counters.refusals &+= 1
      return
    }
    var bank = banks[Int(selectedQueue)]
    switch SiemensHeader.Field(rawValue: offset) {
    case .queueSize:
      bank.size = words.load16(.queueSize)
      forward(.queueSize, UInt32(bank.size))
    case .queueDescriptors:
      bank.descriptors = words.load64(.queueDescriptors)
      forward(.queueDescriptorLow, .queueDescriptorHigh, bank.descriptors)
    case .queueDriver:
      bank.driver = words.load64(.queueDriver)
      forward(.queueDriverLow, .queueDriverHigh, bank.driver)
    case .queueDevice:
      bank.device = words.load64(.queueDevice)
      forward(.queueDeviceLow, .queueDeviceHigh, bank.device)
    default: bank.driverVector = words.load16(.queueDriverVector)
    }
    banks[Int(selectedQueue)] = bank
  }

  @inline(never)
  private mutating func forward(_ low: MMIORegister, _ high: MMIORegister, _ value: UInt64) {
    forward(low, UInt32(truncatingIfNeeded: value))
    forward(high, UInt32(truncatingIfNeeded: value >> 32))
  }

  private mutating func writeStatus(_ value: UInt32) {
    perform(registers.write(MMIORegister.status.rawValue, value))
    guard pending == .nothing else { return }
    showStatus(instead: value)
    // There is no way to refuse FEATURES_OK that this driver would see. It goes on to DRIVER_OK,
    // and waits for ever for its first request, unless the back-end goes away.
    let asked = DeviceStatus(rawValue: UInt8(truncatingIfNeeded: value))
    if asked.contains(.driverOK), !asked.contains(.failed),
      !registers.status.contains(.featuresOK)
    {
      abandon()
    }
  }

  /// The status word is both sides' own: it is stored only where it differs from what the driver
  /// wrote, which may already be reading it.
  private mutating func showStatus(instead value: UInt32) {
    let own = UInt32(registers.status.rawValue)
    if own != value { words.store32(own, .deviceStatus) }
  }

  /// Ends service for a front-end that cannot be told anything else: NEEDS_RESET for those who
  /// look, State 0 for those who do not.
  private mutating func abandon() {
    counters.abandonments &+= 1
    demandReset()
    endTransaction()
    abort()
    withdraw()
  }

  /// NEEDS_RESET in the shown status, and an interrupt.
  mutating func demandReset() {
    registers.demandReset()
    words.store32(UInt32(registers.status.rawValue), .deviceStatus)
    raiseConfigurationEvent()
  }

  mutating func perform(_ action: RegisterAction) {
    switch action {
    case .none, .notify, .stop: break
    case .refuse: counters.refusals &+= 1
    case .start(let features): startDevice(features)
    case .enableQueue(let queue, let configuration):
      if !makeQueue(queue, configuration, nil) { demandReset() }
    case .stopQueue(let queue):
      if queues.isOccupied(queue) { dropQueue(queue) }
      device.cancel(queue: queue)
      pending = .queueStop(queue)
      _ = finishPending()
    case .reset:
      counters.resets &+= 1
      for queue in 0..<queues.count where queues.isOccupied(queue) { dropQueue(queue) }
      unconfirmed = 0
      device.stop()
      pending = .reset
      _ = finishPending()
    }
  }

  private mutating func startDevice(_ features: FeatureSet) {
    // What the driver agreed to follows from what it wrote: no news to it.
    device.start(features: features)
    if device.takeConfigurationChange() { publishConfiguration() }
    // The driver hears interrupts only from here on; what was raised before is raised again. The
    // Linux console takes its size from a first interrupt, and from nowhere else.
    if hasMissedEvent || registers.identity.deviceID == 3 { raiseConfigurationEvent() }
    hasMissedEvent = false
  }

  /// Makes a queue. One that cannot be made is shown as not enabled, which this driver does not
  /// look at.
  mutating func makeQueue(
    _ queue: Int, _ configuration: QueueConfiguration, _ resumption: QueueResumption?
  ) -> Bool {
    if queues.isOccupied(queue) { dropQueue(queue) }
    arenas[queue].reuse()
    generation &+= 1
    do throws(QueueError) {
      let made = try DeviceQueue(
        configuration, in: platform.region, access: access, arena: &arenas[queue],
        generation: generation, resuming: resumption)
      queues.put(made, at: queue)
    } catch {
      noteQueueError(error)
      return false
    }
    registers.queueEnabled(queue)
    banks[queue].isEnabled = true
    return true
  }

  mutating func noteQueueError(_ error: QueueError) {
    counters.queueErrors &+= 1
    counters.lastQueueError = error.reason
  }

  /// Ends a reset or a queue stop once the device has stopped touching the section.
  @inline(never)
  mutating func finishPending() -> Bool {
    guard pending != .nothing, isQuiet else { return false }
    let waiting = pending
    pending = .nothing
    switch waiting {
    case .nothing: break
    case .reset:
      registers.resetCompleted()
      forgetDriver()
      publishHeader()
    case .queueStop(let queue):
      registers.queueStopped(queue)
      banks[queue] = SiemensBank(size: registers.identity.maximumQueueSize.rawValue)
      publishBank()
    }
    finishTransaction()
    return true
  }

  // MARK: Configuration

  /// The driver wrote configuration space at `start`, 1, 2, 4 or 8 bytes: how many is not said. The
  /// difference to what was shown tells at least how many, and the device says which width makes
  /// sense to it.
  private mutating func writeConfiguration(_ start: Int) {
    let room = min(8, plan.configurationSize - start)
    guard room > 0 else {
      counters.strayTransactions &+= 1
      return
    }
    var value: UInt64 = 0
    var least = 1
    for index in 0..<room {
      let byte = words.configurationByte(start + index)
      value |= UInt64(byte) << UInt64(8 * index)
      if byte != shown[start + index] { least = index + 1 }
    }
    var width = 1
    var isTaken = false
    // Four widths.
    while width <= room, !isTaken {
      if width >= least {
        let mask = width == 8 ? UInt64.max : (1 << UInt64(8 * width)) - 1
        isTaken = device.writeConfiguration(at: start, width: width, value: value & mask)
      }
      width *= 2
    }
    if !isTaken { counters.refusals &+= 1 }
    // What was refused disappears; what the device made of the rest shows. The driver caused it:
    // no interrupt.
    _ = device.takeConfigurationChange()
    publishConfiguration()
  }
}
