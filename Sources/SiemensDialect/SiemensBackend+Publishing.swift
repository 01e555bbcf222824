import IVShmem
import SharedMemory
import VirtioDevice

// What the back-end shows: header, bank, configuration, events.
extension SiemensBackend where P: ~Copyable, Device: ~Copyable {
  /// State 0: the header is no longer valid.
  mutating func withdraw() {
    platform.writeState(0)
    phase = .withdrawn
    saveState()
  }

  /// Fills the header over whatever is there, then State 1.
  mutating func offer() {
    words.store32(0, .writeTransaction)
    publishHeader()
    // Otherwise a front-end could see the state of this life and the header of the one before.
    Ordering.fullFence()
    platform.writeState(SiemensHeader.ready)
    phase = .offered
    saveState()
  }

  /// Every field but the transaction, to its value after a reset. Fields that do not change are
  /// never seen with another value on the way: the driver reads revision and size as soon as this
  /// side is ready.
  mutating func publishHeader() {
    words.store32(SiemensHeader.revision, .revision)
    words.store32(UInt32(plan.headerSize), .size)
    words.store32(0, .deviceFeaturesSelector)
    words.store32(0, .driverFeatures)
    words.store32(0, .driverFeaturesSelector)
    words.store32(0, .queueSelector)
    publishFeatures()
    publishBank()
    words.store8(0, .configurationEvent)
    words.store8(0, .queueEvent)
    words.store32(UInt32(registers.status.rawValue), .deviceStatus)
    _ = device.takeConfigurationChange()
    publishConfiguration()
  }

  /// Fills the header again when a cell that uses no driver has written over what a driver reads
  /// before it says anything; whether it had to.
  mutating func repairHeader() -> Bool {
    guard
      words.load32(.revision) != SiemensHeader.revision
        || words.load32(.size) != UInt32(plan.headerSize)
    else { return false }
    counters.repairs &+= 1
    publishHeader()
    return true
  }

  /// The offered features of the selected word.
  mutating func publishFeatures() {
    words.store32(registers.read(MMIORegister.deviceFeatures.rawValue) ?? 0, .deviceFeatures)
  }

  /// The bank of the selected queue, from private memory; of a queue that does not exist, zeroes.
  mutating func publishBank() {
    let isThere = selectedQueue < UInt32(banks.count)
    let bank = isThere ? banks[Int(selectedQueue)] : SiemensBank(size: 0)
    words.store16(bank.size, .queueSize)
    words.store16(isThere ? deviceVector(Int(selectedQueue)) : 0, .queueDeviceVector)
    words.store16(bank.driverVector, .queueDriverVector)
    words.store16(bank.isEnabled ? 1 : 0, .queueEnable)
    words.store64(bank.descriptors, .queueDescriptors)
    words.store64(bank.driver, .queueDriver)
    words.store64(bank.device, .queueDevice)
  }

  /// The vector on which this side is rung for a queue: 0 where there is no other (INTx), because
  /// the hypervisor drops the rest.
  func deviceVector(_ queue: Int) -> UInt16 {
    let count = platform.vectorCount
    return count <= 1 ? 0 : UInt16(min(queue + 1, Int(count) - 1))
  }

  /// The configuration space under its generation, byte by byte.
  mutating func publishConfiguration() {
    let before = registers.configurationGeneration
    words.store32(before | 1, .configurationGeneration)
    // Pairs with the driver's loads: who sees new bytes sees the odd generation.
    Ordering.releaseFence()
    for index in 0..<plan.configurationSize {
      let byte = device.configurationByte(at: index)
      shown[index] = byte
      words.storeConfiguration(byte, index)
    }
    registers.configurationGeneration = (before | 1) &+ 1
    // Release: the even generation follows every byte.
    platform.region.store32Releasing(
      registers.configurationGeneration, at: words.offset(.configurationGeneration))
  }

  // MARK: Interrupts

  /// Tells the driver that the configuration changed, or that the device wants a reset.
  mutating func raiseConfigurationEvent() {
    if !registers.status.contains(.driverOK) { hasMissedEvent = true }
    words.store8(1, .configurationEvent)
    ring(0)
  }

  /// Tells the driver that `queue` moved. The event flag is looked at by the driver's shared
  /// handler; a driver with a vector a queue ignores it.
  @inline(never)
  mutating func notify(_ queue: Int) {
    words.store8(1, .queueEvent)
    ring(banks[queue].driverVector)
  }

  /// The vector is the driver's word and goes nowhere but into the register: the hypervisor drops
  /// one that does not exist.
  private mutating func ring(_ vector: UInt16) {
    // Pairs with the driver's look at the flag in its interrupt handler. Otherwise it could say
    // "not mine".
    Ordering.fullFence()
    counters.doorbells &+= 1
    platform.ringDoorbell(Vector(vector), at: plan.peer)
  }

  /// Rings once more for every queue, after a while of idleness. The driver clears the flag with a
  /// plain store and reads the rings without a full barrier behind it, so that a doorbell can be
  /// lost; this turns a hang into a delay.
  mutating func repeatDoorbells() {
    for queue in 0..<queues.count where unconfirmed & 1 << UInt32(queue) != 0 {
      counters.secondDoorbells &+= 1
      if queues.isOccupied(queue) { notify(queue) }
    }
    unconfirmed = 0
  }
}
