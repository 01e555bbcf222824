// The production rings in the shape of Benchmarks/cref/vring_ref.c: same layout, same work, same
// output, so that Benchmarks/run can put them side by side.
import CBench
import SharedMemory
import Virtqueue

struct Options {
  var mode = "poll"
  var chain = 1
  var depth = 128
  var batch = 1
  var requests = 2_000_000
  var runs = 5
  var size: UInt32 = 256
  var driverCPU: Int32 = 0
  var deviceCPU: Int32 = 1

  init(_ words: [String]) {
    var index = 0
    while index + 1 < words.count {
      let value = words[index + 1]
      switch words[index] {
      case "-m": mode = value
      case "-n": chain = Int(value) ?? chain
      case "-q": depth = Int(value) ?? depth
      case "-b": batch = Int(value) ?? batch
      case "-N": requests = Int(value) ?? requests
      case "-r": runs = Int(value) ?? runs
      case "-z": size = UInt32(value) ?? size
      case "-c": driverCPU = Int32(value) ?? driverCPU
      case "-d": deviceCPU = Int32(value) ?? deviceCPU
      default: preconditionFailure("unknown option \(words[index])")
      }
      index += 2
    }
  }
}

/// Both queues over one shared mapping.
struct Rings: ~Copyable {
  static let total = 4 << 20
  let region: SharedRegion
  let stop = 0x40000
  var driver: DriverQueue
  var device: DeviceQueue
  var segments: ChainSegments

  init(_ options: Options) {
    let base = unsafe cb_shared(Self.total)
    let region = unsafe SharedRegion(unsafeBase: base, count: Self.total)
    let books = UnsafeMutableRawPointer.allocate(byteCount: 1 << 20, alignment: 64)
    var arena = unsafe PrivateArena(unsafeBase: books, count: 1 << 20)
    let features: QueueFeatures = options.mode == "event" ? .eventIndex : QueueFeatures()
    guard let size = QueueSize(options.size),
      let access = AccessMap(
        region: region, readable: 0..<Self.total, writable: 0..<Self.total),
      let segments = ChainSegments(capacity: 16, arena: &arena)
    else { preconditionFailure("bad options") }
    let configuration = QueueConfiguration(
      size: size, descriptorTable: 0, availableRing: 0x10000, usedRing: 0x20000,
      features: features, maximumChainLength: 16)
    do throws(QueueError) {
      driver = try DriverQueue(configuration, in: region, access: access, arena: &arena)
      device = try DeviceQueue(configuration, in: region, access: access, arena: &arena)
    } catch { preconditionFailure("bad options") }
    self.region = region
    self.segments = segments
  }
}

/// The device side: take, check, complete. The function whose instructions are counted.
@inline(never)
func drainDevice(
  _ device: inout DeviceQueue, _ segments: inout ChainSegments, budget: Int, batch: Int,
  events: Bool
) -> (count: Int, notify: Bool) {
  var count = 0
  var notify = false
  do throws(QueueError) {
    while count < budget, let chain = try device.takeChain(into: &segments) {
      device.complete(chain, written: UInt32(truncatingIfNeeded: segments.writableByteCount))
      count += 1
      if count % batch == 0 {
        if events { notify = device.publish() || notify } else { device.publishQuietly() }
      }
    }
  } catch { preconditionFailure("the driver is honest") }
  if events { notify = device.publish() || notify } else { device.publishQuietly() }
  return (count, notify)
}

func add(_ driver: inout DriverQueue, _ chain: Int, _ index: Int) {
  let base = 0x80000 + index % 1024 * 256
  let header: InlineArray<1, BufferSegment> = [
    BufferSegment(offset: base, count: chain == 1 ? 64 : 16)
  ]
  var data = InlineArray<8, BufferSegment>(repeating: BufferSegment(offset: base + 64, count: 8))
  data[chain > 1 ? chain - 2 : 0] = BufferSegment(offset: base + 128, count: 1)
  do throws(AddError) {
    try driver.add(
      readable: header.span, writable: data.span.extracting(0..<chain - 1),
      token: UInt32(truncatingIfNeeded: index))
  } catch { preconditionFailure("the ring has room") }
}

func serve(_ rings: inout Rings, _ options: Options, _ kick: Int32, _ call: Int32) {
  let events = options.mode == "event"
  while true {
    let done = drainDevice(
      &rings.device, &rings.segments, budget: Int(options.size), batch: options.batch,
      events: events)
    if done.notify { cb_signal(call) }
    if done.count > 0 { continue }
    if rings.region.load32(rings.stop) != 0 { return }
    guard events else {
      Ordering.spinHint()
      continue
    }
    rings.device.armNotifications()
    // Pairs with the fence in the driver's publish.
    Ordering.fullFence()
    if rings.device.hasPending() || rings.region.load32(rings.stop) != 0 { continue }
    cb_await(kick)
  }
}

func drive(_ rings: inout Rings, _ options: Options, _ total: Int, _ kick: Int32, _ call: Int32) {
  let events = options.mode == "event"
  var sent = 0
  var done = 0
  var pending = 0
  func publish(_ rings: inout Rings) {
    if events {
      if rings.driver.publish() { cb_signal(kick) }
    } else {
      rings.driver.publishQuietly()
    }
  }
  while done < total {
    while sent - done < options.depth, sent < total,
      rings.driver.freeDescriptorCount >= options.chain
    {
      add(&rings.driver, options.chain, sent)
      sent += 1
      pending += 1
      if pending >= options.batch {
        publish(&rings)
        pending = 0
      }
    }
    publish(&rings)
    pending = 0
    var found = false
    do throws(QueueError) {
      while try rings.driver.takeUsed() != nil {
        done += 1
        found = true
      }
    } catch { preconditionFailure("the device is honest") }
    if found { continue }
    guard events else {
      Ordering.spinHint()
      continue
    }
    rings.driver.armNotifications()
    // Pairs with the fence in the device's publish.
    Ordering.fullFence()
    if !rings.driver.hasPending() { cb_await(call) }
  }
}

func solo(_ options: Options) -> [Double] {
  var samples: [Double] = []
  cb_pin(options.driverCPU)
  for _ in 0..<options.runs {
    var rings = Rings(options)
    for index in 0..<options.depth { add(&rings.driver, options.chain, index) }
    // The same chains offered again and again, as in the C program.
    for entry in options.depth..<Int(options.size) {
      rings.region.store16(
        rings.region.load16(0x10004 + 2 * (entry % options.depth)), at: 0x10004 + 2 * entry)
    }
    let rounds = options.requests / options.depth
    let start = cb_now_ns()
    for round in 1...rounds {
      rings.region.store16Releasing(
        UInt16(truncatingIfNeeded: round * options.depth), at: 0x10002)
      let done = drainDevice(
        &rings.device, &rings.segments, budget: Int(options.size), batch: options.batch,
        events: false)
      precondition(done.count == options.depth)
    }
    samples.append((cb_now_ns() - start) / Double(rounds * options.depth))
  }
  return samples
}

func pair(_ options: Options) -> [Double] {
  var samples: [Double] = []
  for _ in 0..<options.runs {
    var rings = Rings(options)
    let kick = cb_event()
    let call = cb_event()
    let child = cb_fork()
    if child == 0 {
      cb_pin(options.deviceCPU)
      serve(&rings, options, kick, call)
      cb_exit(0)
    }
    cb_pin(options.driverCPU)
    drive(&rings, options, options.requests / 20 + 1000, kick, call)
    let start = cb_now_ns()
    drive(&rings, options, options.requests, kick, call)
    samples.append((cb_now_ns() - start) / Double(options.requests))
    rings.region.store32(1, at: rings.stop)
    cb_signal(kick)
    cb_wait(child)
  }
  return samples
}

let options = Options(Array(CommandLine.arguments.dropFirst()))
let samples = (options.mode == "solo" ? solo(options) : pair(options)).sorted()
let what = options.mode == "solo" ? "solo-device" : options.mode
print("\(what) median \(samples[samples.count / 2]) min \(samples[0]) max \(samples.last ?? 0)")
