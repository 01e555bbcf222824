import CBench
import SharedMemory
import Virtqueue

/// One ring over an anonymous shared mapping, driven by this process and served by it or a child.
struct RingBench: ~Copyable {
  static let regionBytes = 96 << 20
  static let availableOffset = 64 << 10
  static let usedOffset = 128 << 10

  let options: BenchOptions
  let region: SharedRegion
  let control: SharedRegion
  let configuration: QueueConfiguration
  let access: AccessMap
  let kick = cb_eventfd()
  let call = cb_eventfd()
  let chains: Int
  var arena: PrivateArena

  init(_ options: BenchOptions) {
    self.options = options
    guard let memory = unsafe cb_map(UInt64(Self.regionBytes), options.hasHugePages ? 1 : 0),
      let page = unsafe cb_map(4096, 0),
      let size = QueueSize(options.size)
    else { cb_exit(1) }
    // Private, as the books of two cells are: after the fork each side has its own.
    let books = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    // SAFETY: fresh mappings that stay for the life of the process.
    region = unsafe SharedRegion(unsafeBase: memory, count: Self.regionBytes)
    control = unsafe SharedRegion(unsafeBase: page, count: 4096)
    arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
    guard
      let access = AccessMap(
        region: region, readable: 0..<Self.regionBytes, writable: 0..<Self.regionBytes)
    else { cb_exit(1) }
    self.access = access
    configuration = QueueConfiguration(
      size: size, descriptorTable: 0, availableRing: UInt64(Self.availableOffset),
      usedRing: UInt64(Self.usedOffset),
      features: options.mode == .event ? .eventIndex : QueueFeatures(), maximumChainLength: 16)
    let stride = DriverSide.stride(options)
    chains = min(options.size / options.descriptors, (Self.regionBytes - (2 << 20)) / stride)
    let touched = (1 << 20) + chains * stride
    region.fill(region.ownRange(0..<touched), with: 0)
  }

  mutating func driverSide() -> DriverSide {
    do throws(QueueError) {
      let queue = try DriverQueue(configuration, in: region, access: access, arena: &arena)
      guard let free = arena.table(of: chains, initial: UInt32(0)) else { cb_exit(1) }
      return DriverSide(queue, free, options)
    } catch { cb_exit(1) }
  }

  mutating func deviceSide() -> DeviceSide {
    do throws(QueueError) {
      let queue = try DeviceQueue(configuration, in: region, access: access, arena: &arena)
      guard let segments = ChainSegments(capacity: 16, arena: &arena) else { cb_exit(1) }
      return DeviceSide(
        queue: queue, segments: segments, batch: options.batch, isAsking: options.isAsking,
        bell: call)
    } catch { cb_exit(1) }
  }

  func report(_ what: String, _ values: inout InlineArray<64, Double>, _ a: Int, _ b: Int) {
    let parameters = cb_parameters(
      descriptors: UInt32(options.descriptors), depth: UInt32(options.depth),
      batch: UInt32(options.batch), payload: UInt32(options.payload), size: UInt32(options.size),
      runs: UInt32(options.runs), spin: options.spin)
    var span = values.mutableSpan
    unsafe span.withUnsafeMutableBufferPointer { values in
      guard let first = values.baseAddress else { return }
      unsafe cb_report(what, parameters, Int32(a), Int32(b), first)
    }
  }

  // MARK: One core

  /// Both sides on one core, and the device alone with the same chains offered again and again.
  mutating func solo() {
    let depth = options.depth
    guard depth <= chains, options.size % depth == 0 else { cb_exit(2) }
    cb_pin(Int32(options.driverCPU))
    var both = InlineArray<64, Double>(repeating: 0)
    var alone = InlineArray<64, Double>(repeating: 0)
    let rounds = options.total / depth
    for run in 0..<options.runs {
      both[run] = soloBoth(rounds)
      alone[run] = soloDevice(rounds)
    }
    report("solo-device", &alone, options.driverCPU, options.driverCPU)
    report("solo-both", &both, options.driverCPU, options.driverCPU)
  }

  private mutating func soloBoth(_ rounds: Int) -> Double {
    let depth = options.depth
    arena.reuse()
    var driver = driverSide()
    var device = deviceSide()
    let start = cb_now()
    for _ in 0..<rounds {
      for _ in 0..<depth { driver.add() }
      driver.publish(bell: kick)
      guard device.drain(options.size) == depth, driver.reap() == depth else { cb_exit(1) }
    }
    return (cb_now() - start) / Double(rounds * depth)
  }

  private mutating func soloDevice(_ rounds: Int) -> Double {
    let depth = options.depth
    arena.reuse()
    var driver = driverSide()
    var device = deviceSide()
    for _ in 0..<depth { driver.add() }
    for entry in depth..<options.size {
      let head = region.load16(Self.availableOffset + 4 + 2 * (entry % depth))
      region.store16(head, at: Self.availableOffset + 4 + 2 * entry)
    }
    let start = cb_now()
    for round in 1...rounds {
      region.store16Releasing(
        UInt16(truncatingIfNeeded: round &* depth), at: Self.availableOffset + 2)
      guard device.drain(options.size) == depth else { cb_exit(1) }
    }
    return (cb_now() - start) / Double(rounds * depth)
  }

  // MARK: Two processes

  mutating func pair() {
    var values = InlineArray<64, Double>(repeating: 0)
    for run in 0..<options.runs {
      arena.reuse()
      control.store32(0, at: 0)
      var driver = driverSide()
      var device = deviceSide()
      let child = cb_fork()
      if child == 0 {
        cb_pin(Int32(options.deviceCPU))
        serve(&device)
        cb_exit(0)
      }
      cb_pin(Int32(options.driverCPU))
      drive(&driver, options.total / 20 + 1000)
      let start = cb_now()
      drive(&driver, options.total)
      values[run] = (cb_now() - start) / Double(options.total)
      control.store32(1, at: 0)
      cb_signal(kick)
      cb_join(child)
      guard control.load32(4) == 0 else { cb_exit(1) }
    }
    report(options.mode.rawValue, &values, options.driverCPU, options.deviceCPU)
  }

  /// Whether to look once more instead of sleeping.
  private func spins(_ idle: inout Int, _ since: inout Double) -> Bool {
    if options.mode == .poll {
      if options.isPausing { Ordering.spinHint() }
      return true
    }
    guard options.spin > 0 else { return false }
    idle &+= 1
    // The clock is read at every 16th look.
    if idle & 15 != 0 {
      if options.isPausing { Ordering.spinHint() }
      return true
    }
    let now = cb_now()
    if since == 0 { since = now }
    return now - since < Double(options.spin)
  }

  private func serve(_ device: inout DeviceSide) {
    var idle = 0
    var since = 0.0
    while true {
      let served = device.drain(options.size)
      if served > 0 {
        since = 0
        continue
      }
      if served < 0 {
        control.store32(1, at: 4)
        return
      }
      if options.mode == .poll, control.load32(0) != 0 { return }
      if spins(&idle, &since) { continue }
      device.queue.armNotifications()
      // Pairs with the driver's fence between publishing and its look at the event index.
      Ordering.fullFence()
      if device.queue.hasPending() { continue }
      if control.load32(0) != 0 { return }
      cb_wait(kick)
      since = 0
    }
  }

  private func drive(_ driver: inout DriverSide, _ count: Int) {
    var sent = 0
    var done = 0
    var pending = 0
    var idle = 0
    var since = 0.0
    while done < count {
      while sent &- done < options.depth, sent < count, driver.hasRoom {
        driver.add()
        sent &+= 1
        pending &+= 1
        if pending >= options.batch {
          driver.publish(bell: kick)
          pending = 0
        }
      }
      driver.publish(bell: kick)
      pending = 0
      let reaped = driver.reap()
      if reaped > 0 {
        done &+= reaped
        since = 0
        continue
      }
      if spins(&idle, &since) { continue }
      driver.queue.armNotifications()
      // Pairs with the device's fence between publishing and its look at the event index.
      Ordering.fullFence()
      if driver.queue.hasPending() { continue }
      cb_wait(call)
      since = 0
    }
  }
}
