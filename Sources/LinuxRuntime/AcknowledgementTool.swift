import CLinux
import CommandOptions
import LinuxSupport
import VirtioBlock
import Virtqueue

/// `ivshmem frontend block acknowledge`: how long a register write of the Siemens dialect takes
/// while requests are in flight. A guest's processor spins for so long.
struct AcknowledgementTool: ~Copyable {
  private var path: SiemensBlockPath
  private let depth: Int
  private let size: Int
  private var buffers: [BufferSegment] = []
  private var isOpen: [Bool]
  private var random: UInt64 = 1
  private var requests = 0

  /// Takes over a path; nothing is set up yet.
  init(_ path: consuming SiemensBlockPath, depth: Int, size: Int) {
    self.path = path
    self.depth = depth
    self.size = size
    isOpen = [Bool](repeating: false, count: depth)
  }

  /// Measures `count` register writes, each with `depth` reads of `size` bytes in flight, and
  /// prints the distribution.
  mutating func run(
    count: Int, patience: UInt64, isJSON: Bool
  ) throws(ClientError) {
    try path.connect(until: cl_monotonic_ns() + patience)
    for _ in 0..<depth {
      guard let buffer = path.allocateForReading(size) else {
        throw .usage(UsageError("the link's memory cannot hold \(depth) requests of \(size) bytes"))
      }
      buffers.append(buffer)
    }
    var samples: [UInt64] = []
    samples.reserveCapacity(count)
    for _ in 0..<count {
      try fill()
      samples.append(try path.timeTransaction())
      try collect()
    }
    while isOpen.contains(true) { try collect() }
    path.leave()
    show(samples.sorted(), isJSON)
  }

  private mutating func fill() throws(ClientError) {
    let blocks = max(1, path.configuration.capacity * 512 / UInt64(size))
    for index in 0..<depth where !isOpen[index] {
      random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      try path.submit(
        .read, sector: random >> 33 % blocks * UInt64(size / 512), data: buffers[index],
        token: UInt32(index))
      isOpen[index] = true
      requests += 1
    }
    path.publish()
  }

  private mutating func collect() throws(ClientError) {
    while let done = try path.nextCompletion() {
      guard done.status == .ok else { throw .failed("a read failed; see the back-end's log") }
      isOpen[Int(done.token)] = false
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
