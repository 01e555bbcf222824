import CCellmate
import CLinux
import CommandOptions
import LinuxSupport
import ToolSupport

/// `ivshmem frontend block acknowledge`: how long a register write of the Siemens dialect takes
/// while requests are in flight. A guest's processor spins for so long.
@safe
struct AcknowledgementTool: ~Copyable {
  private var driver: LibraryDriver
  private let depth: Int
  private let size: Int
  private let blocks: UInt64
  private var buffers: [cellmate_buffer] = unsafe []
  private var isOpen: [Bool]
  private var random: UInt64 = 1
  private var requests = 0

  /// Opens the place and sets the device up.
  init(_ place: FrontendPlace, depth: Int, size: Int) throws(ClientError) {
    var driver = try BlockClient.makeDriver(place, depth)
    try driver.start()
    blocks = max(1, try BlockClient.facts(driver).capacity * 512 / UInt64(size))
    self.driver = driver
    self.depth = depth
    self.size = size
    isOpen = [Bool](repeating: false, count: depth)
  }

  /// Measures `count` register writes, each with `depth` reads of `size` bytes in flight, and
  /// prints the distribution.
  mutating func run(count: Int, isJSON: Bool) throws(ClientError) {
    // Says whether there is anything to measure before the buffers are made.
    _ = try timeAccess()
    for _ in 0..<depth {
      var buffer = unsafe cellmate_buffer()
      guard
        unsafe cellmate_block_allocate(
          driver.handle, Int32(CELLMATE_FOR_DEVICE_TO_WRITE), UInt64(size), &buffer) == 0
      else {
        throw .usage(UsageError("the link's memory cannot hold \(depth) requests of \(size) bytes"))
      }
      unsafe buffers.append(buffer)
    }
    var samples: [UInt64] = []
    samples.reserveCapacity(count)
    for _ in 0..<count {
      try fill()
      samples.append(try timeAccess())
      try collect()
    }
    while isOpen.contains(true) { try collect() }
    show(samples.sorted(), isJSON)
  }

  private func timeAccess() throws(ClientError) -> UInt64 {
    var nanoseconds: UInt64 = 0
    let result = unsafe cellmate_block_time_access(driver.handle, &nanoseconds)
    guard result != LibraryResult.refused else {
      throw .usage(
        UsageError("acknowledge: measures register writes of the Siemens dialect, no others"))
    }
    try driver.checked(result)
    return nanoseconds
  }

  private mutating func fill() throws(ClientError) {
    for index in 0..<depth where !isOpen[index] {
      random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      var request = unsafe cellmate_block_request()
      unsafe request.type = TransferKind.read.rawValue
      unsafe request.token = UInt32(index)
      unsafe request.sector = random >> 33 % blocks * UInt64(size / 512)
      unsafe request.data = buffers[index]
      try driver.checked(unsafe cellmate_block_submit(driver.handle, &request, 1))
      isOpen[index] = true
      requests += 1
    }
  }

  private mutating func collect() throws(ClientError) {
    var done = unsafe cellmate_block_completion()
    while try driver.checked(unsafe cellmate_block_take(driver.handle, &done, 1)) > 0 {
      guard unsafe done.status == 0 else {
        throw .failed("a read failed; see the back-end's log")
      }
      isOpen[unsafe Int(done.token)] = false
    }
  }

  private func show(_ samples: [UInt64], _ isJSON: Bool) {
    func quantile(_ share: Double) -> UInt64 {
      samples[min(samples.count - 1, Int(Double(samples.count) * share))]
    }
    if isJSON {
      writeOutput(
        "{\"count\":\(samples.count),\"depth\":\(depth),\"size\":\(size),"
          + "\"requests\":\(requests),\"medianNanoseconds\":\(quantile(0.5)),"
          + "\"p90Nanoseconds\":\(quantile(0.9)),\"p99Nanoseconds\":\(quantile(0.99)),"
          + "\"p999Nanoseconds\":\(quantile(0.999)),"
          + "\"maxNanoseconds\":\(quantile(1))}\n")
      return
    }
    var text =
      "\(samples.count) register writes beside \(requests) reads of \(size) bytes, \(depth) in"
      + " flight\n  median \(quantile(0.5)) ns, 90% \(quantile(0.9)) ns, 99% \(quantile(0.99)) ns,"
      + " 99.9% \(quantile(0.999)) ns, worst \(quantile(1)) ns\n"
    var limit: UInt64 = 256
    var index = 0
    while index < samples.count {
      let start = index
      while index < samples.count, samples[index] < limit { index += 1 }
      if index > start {
        let bar = String(repeating: "#", count: max(1, 60 * (index - start) / samples.count))
        text += "  below \(limit) ns: \(index - start) \(bar)\n"
      }
      limit *= 2
    }
    writeOutput(text)
  }
}
