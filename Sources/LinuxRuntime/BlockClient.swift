import CLinux
import CommandOptions
import LinuxSupport
import SharedMemory
public import VirtioBlock
import VirtioDevice
import Virtqueue

/// What a transfer measured.
public struct TransferReport: Sendable {
  /// Bytes moved.
  public var bytes: UInt64 = 0
  /// Requests finished.
  public var requests: UInt64 = 0
  /// Wall time in nanoseconds.
  public var nanoseconds: UInt64 = 0
  /// Doorbells this side rang.
  public var doorbells: UInt64 = 0
  /// Times the back-end went away and came back.
  public var recoveries = 0
  /// Requests that were submitted again.
  public var resubmitted: UInt64 = 0
  /// When the last recovery was complete, nanoseconds since 1970.
  public var recoveredAt: UInt64 = 0
  /// From the sight of the new back-end to the running device, the slowest, in nanoseconds.
  public var slowestSetUp: UInt64 = 0
}

/// One request of a transfer.
public struct TransferStep: Sendable {
  /// What to do.
  public let type: BlockRequestType
  /// First byte on the disk, a multiple of 512.
  public let offset: UInt64
  /// Bytes, a multiple of 512.
  public let count: Int

  /// States a request.
  public init(type: BlockRequestType, offset: UInt64, count: Int) {
    self.type = type
    self.offset = offset
    self.count = count
  }
}

/// A transfer over an ivshmem link, for tools and tests.
public struct BlockClient: ~Copyable {
  private var client: PathClient<LinkBlockPath>

  /// Joins the link and sets the device up.
  ///
  /// - Parameters:
  ///   - depth: requests in flight, a power of two.
  ///   - patience: how long a missing back-end is waited for, in nanoseconds.
  public init(
    link: LinkSpecification, slot: Int, depth: Int, chunk: Int, patience: UInt64,
    progress: @escaping @Sendable (String) -> Void
  ) throws(ClientError) {
    client = try PathClient(
      LinkBlockPath(link, slot: slot, depth: depth), depth: depth, chunk: chunk,
      patience: patience, progress: progress)
  }

  /// Length of the disk in bytes.
  public var byteCount: UInt64 { client.byteCount }

  /// Runs the requests `next` gives; see `PathClient`.
  public mutating func transfer(
    next: () throws(ClientError) -> TransferStep?,
    fill: (TransferStep, inout MutableSpan<UInt8>) throws(ClientError) -> Void,
    finish: (TransferStep, Span<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) { try client.transfer(next: next, fill: fill, finish: finish) }

  /// What was measured since the last call.
  public mutating func takeReport() -> TransferReport { client.takeReport() }

  /// Leaves the link on purpose.
  public consuming func leave() { client.leave() }
}

/// A block front-end for command line tools: keeps a number of requests in flight and takes the
/// transfer up again when the back-end was restarted.
struct PathClient<Path: BlockPath & ~Copyable>: ~Copyable {
  private var path: Path
  private let depth: Int
  /// Largest request in bytes.
  private let chunk: Int
  private let toDevice: [BufferSegment]
  private let fromDevice: [BufferSegment]
  private let patience: UInt64
  /// What was measured since the last ``takeReport()``.
  private var report = TransferReport()
  private let progress: @Sendable (String) -> Void

  /// Sets the device up.
  ///
  /// - Parameters:
  ///   - depth: requests in flight, a power of two.
  ///   - patience: how long a missing back-end is waited for, in nanoseconds.
  init(
    _ path: consuming Path, depth: Int, chunk: Int, patience: UInt64,
    progress: @escaping @Sendable (String) -> Void
  ) throws(ClientError) {
    cl_catch_stop(path.wakeDescriptor)
    try path.connect(until: cl_monotonic_ns() + patience)
    let toDevice = try Self.buffers(depth) { path.allocateForWriting(chunk) }
    let fromDevice = try Self.buffers(depth) { path.allocateForReading(chunk) }
    self.depth = depth
    self.chunk = chunk
    self.patience = patience
    self.progress = progress
    self.toDevice = toDevice
    self.fromDevice = fromDevice
    self.path = path
  }

  private static func buffers(
    _ count: Int, _ allocate: () -> BufferSegment?
  ) throws(ClientError) -> [BufferSegment] {
    var buffers: [BufferSegment] = []
    for _ in 0..<count {
      guard let buffer = allocate() else {
        throw .usage(
          UsageError(
            "the link's memory cannot hold \(count) requests of this size; make its sections"
              + " larger or give a smaller --depth or --size"))
      }
      buffers.append(buffer)
    }
    return buffers
  }

  /// What the device says of itself.
  var configuration: BlockConfiguration { path.configuration }
  /// The agreed features.
  var featureBits: UInt64 { path.features.rawValue }
  /// Length of the disk in bytes.
  var byteCount: UInt64 { path.configuration.capacity * 512 }

  /// What was measured since the last call.
  mutating func takeReport() -> TransferReport {
    defer { report = TransferReport() }
    return report
  }

  // MARK: Transfers

  /// Runs the requests `next` gives until it gives none and all are finished.
  ///
  /// - Parameters:
  ///   - next: the next request, at most `chunk` bytes long, or `nil` at the end.
  ///   - fill: bytes for a write, before it goes out.
  ///   - finish: bytes of a read, when it is done; not in order.
  mutating func transfer(
    next: () throws(ClientError) -> TransferStep?,
    fill: (TransferStep, inout MutableSpan<UInt8>) throws(ClientError) -> Void,
    finish: (TransferStep, Span<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) {
    let started = cl_monotonic_ns()
    let bells = path.notificationCount
    var open = [TransferStep?](repeating: nil, count: depth)
    var buffer = [UInt8](repeating: 0, count: chunk)
    var isAtEnd = false
    while true {
      while !isAtEnd, let index = open.firstIndex(where: { $0 == nil }) {
        guard let step = try next() else {
          isAtEnd = true
          break
        }
        open[index] = step
        try submit(step, index, &buffer, fill)
      }
      path.publish()
      let isDone = try collect(&open, &buffer, finish)
      if isAtEnd, open.allSatisfy({ $0 == nil }) { break }
      if !isDone { try wait() }
    }
    report.nanoseconds += cl_monotonic_ns() - started
    report.doorbells += path.notificationCount - bells
    report.resubmitted = path.resubmittedCount
  }

  private mutating func submit(
    _ step: TransferStep, _ index: Int, _ buffer: inout [UInt8],
    _ fill: (TransferStep, inout MutableSpan<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) {
    var data = BufferSegment.empty
    switch step.type {
    case .read, .getID: data = fromDevice[index].slice(from: 0, count: step.count)
    case .write, .discard, .writeZeroes:
      data = toDevice[index].slice(from: 0, count: step.count)
      var span = buffer.mutableSpan
      var part = span._mutatingExtracting(0..<step.count)
      try fill(step, &part)
      let region = path.region
      region.copy(
        buffer.span.extracting(0..<step.count),
        into: region.ownRange(data.offset..<data.offset + step.count))
    case .flush: break
    }
    try path.submit(step.type, sector: step.offset / 512, data: data, token: UInt32(index))
  }

  /// Takes everything that is finished; whether there was anything.
  private mutating func collect(
    _ open: inout [TransferStep?], _ buffer: inout [UInt8],
    _ finish: (TransferStep, Span<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) -> Bool {
    var found = false
    while true {
      guard let completion = try path.nextCompletion(), let step = open[Int(completion.token)]
      else { return found }
      found = true
      open[Int(completion.token)] = nil
      guard completion.status == .ok else {
        throw .failed(
          "\(step.type) of \(step.count) bytes at \(step.offset): "
            + (completion.status.map { "\($0)" } ?? "no status") + "; see the back-end's log")
      }
      report.requests += 1
      report.bytes += UInt64(step.count)
      if step.type == .read || step.type == .getID {
        let region = path.region
        var span = buffer.mutableSpan
        var part = span._mutatingExtracting(0..<step.count)
        region.copy(
          region.readRange(completion.data.offset..<completion.data.offset + step.count),
          into: &part)
        try finish(step, buffer.span.extracting(0..<step.count))
      }
    }
  }

  /// Looks a while, then sleeps; takes a lost back-end up again.
  private mutating func wait() throws(ClientError) {
    for _ in 0..<500 {
      if path.hasCompletion { return }
      Ordering.spinHint()
    }
    if path.isLost() { return try recover() }
    switch path.sleep() {
    case .event: break
    case .interrupted, .gone:
      throw cl_stop_requested() != 0
        ? .interrupted : .failed("the platform is gone: did ivshmem-sim stop?")
    }
    if cl_stop_requested() != 0 { throw .interrupted }
  }

  private mutating func recover() throws(ClientError) {
    progress("the back-end went away; waiting for it")
    try path.waitForBackend(until: cl_monotonic_ns() + patience)
    let seen = cl_monotonic_ns()
    try path.connect(until: seen + patience)
    report.slowestSetUp = max(report.slowestSetUp, cl_monotonic_ns() - seen)
    report.recoveredAt = cl_realtime_ns()
    report.recoveries += 1
    progress("the back-end is back; its requests were submitted again")
  }

  /// Leaves on purpose.
  consuming func leave() { path.leave() }
}
