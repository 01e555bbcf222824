import CCellmate
import CLinux
import CommandOptions
public import LinkNames
import LinuxSupport
public import ToolSupport

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

/// What a request of a transfer does.
public enum TransferKind: UInt32, Sendable {
  /// Reads.
  case read = 0
  /// Writes.
  case write = 1
  /// Makes all finished writes stable.
  case flush = 4
  /// Tells that the range is no longer needed.
  case discard = 11
  /// Makes the range read as zeroes.
  case zero = 13
  /// Makes the range read as zeroes; its storage may be given back.
  case zeroAndUnmap = 0x8000_000d

  /// As it stands in messages.
  var word: StaticString {
    switch self {
    case .read: "read"
    case .write: "write"
    case .flush: "flush"
    case .discard: "discard"
    case .zero, .zeroAndUnmap: "zero"
    }
  }
}

/// One request of a transfer.
public struct TransferStep: Sendable {
  /// What to do.
  public let type: TransferKind
  /// First byte on the disk, a multiple of 512.
  public let offset: UInt64
  /// Bytes, a multiple of 512.
  public let count: Int

  /// States a request.
  public init(type: TransferKind, offset: UInt64, count: Int) {
    self.type = type
    self.offset = offset
    self.count = count
  }
}

/// A block front-end for command line tools: keeps a number of requests in flight and takes the
/// transfer up again when the back-end was restarted.
@safe
public struct BlockClient: ~Copyable {
  private var driver: LibraryDriver
  private let depth: Int
  /// Largest request in bytes.
  private let chunk: Int
  private let toDevice: [cellmate_buffer]
  private let fromDevice: [cellmate_buffer]
  /// What was measured since the last ``takeReport()``.
  private var report = TransferReport()
  /// What the device said of itself when it was set up first.
  private(set) var facts: cellmate_block_facts

  /// How long a completion is looked for before this side sleeps, in nanoseconds.
  private static var spin: UInt64 { 20_000 }

  /// Joins the link and sets the device up.
  ///
  /// - Parameters:
  ///   - depth: requests in flight, a power of two.
  ///   - chunk: bytes of the largest request.
  ///   - patience: how long a missing back-end is waited for, in nanoseconds.
  ///   - progress: told when the back-end goes and comes back.
  public init(
    link: LinkSpecification, slot: Int, depth: Int, chunk: Int, patience: UInt64,
    progress: @escaping @Sendable (String) -> Void
  ) throws(ClientError) {
    try self.init(
      FrontendPlace(link, slot: slot, patience: patience, progress: progress), depth: depth,
      chunk: chunk)
  }

  /// Opens the place and sets the device up.
  init(_ place: FrontendPlace, depth: Int, chunk: Int) throws(ClientError) {
    var driver = try Self.makeDriver(place, depth)
    try driver.start()
    let facts = try Self.facts(driver)
    let handle = unsafe driver.handle
    let toDevice = unsafe try Self.buffers(
      handle, depth, chunk, Int32(CELLMATE_FOR_DEVICE_TO_READ))
    let fromDevice = unsafe try Self.buffers(
      handle, depth, chunk, Int32(CELLMATE_FOR_DEVICE_TO_WRITE))
    self.depth = depth
    self.chunk = chunk
    unsafe self.toDevice = toDevice
    unsafe self.fromDevice = fromDevice
    self.facts = facts
    self.driver = driver
  }

  static func makeDriver(_ place: FrontendPlace, _ depth: Int) throws(ClientError) -> LibraryDriver
  {
    do throws(ClientError) {
      return unsafe try LibraryDriver(place) { link, block, error in
        unsafe cellmate_block_create(link, place.slot, UInt32(depth), block, error)
      }
    } catch {
      // Rings that do not fit were always a failure, not a wrong command line.
      guard case .usage(let usage) = error, usage.message.hasPrefix("setting up ") else {
        throw error
      }
      throw .failed(usage.message)
    }
  }

  static func facts(
    _ driver: borrowing LibraryDriver
  ) throws(ClientError) -> cellmate_block_facts {
    var facts = cellmate_block_facts()
    facts.size = MemoryLayout<cellmate_block_facts>.size
    try driver.checked(unsafe cellmate_block_info(driver.handle, &facts))
    return facts
  }

  private static func buffers(
    _ block: OpaquePointer, _ count: Int, _ length: Int, _ direction: Int32
  ) throws(ClientError) -> [cellmate_buffer] {
    var buffers = unsafe [cellmate_buffer]()
    for _ in 0..<count {
      var buffer = unsafe cellmate_buffer()
      guard unsafe cellmate_block_allocate(block, direction, UInt64(length), &buffer) == 0 else {
        throw .usage(
          UsageError(
            "the link's memory cannot hold \(count) requests of this size; make its sections"
              + " larger or give a smaller --depth or --size"))
      }
      unsafe buffers.append(buffer)
    }
    return unsafe buffers
  }

  /// Length of the disk in bytes.
  public var byteCount: UInt64 { facts.capacity * 512 }

  /// Whether finished writes are safe only after a flush.
  var needsFlush: Bool { facts.features & 1 << 9 != 0 }

  /// Times the back-end came back.
  var recoveries: Int { driver.recoveries }

  /// What was measured since the last call.
  public mutating func takeReport() -> TransferReport {
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
  public mutating func transfer(
    next: () throws(ClientError) -> TransferStep?,
    fill: (TransferStep, inout MutableSpan<UInt8>) throws(ClientError) -> Void,
    finish: (TransferStep, Span<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) {
    let started = cl_monotonic_ns()
    let bells = driver.counters.notifications
    var open = [TransferStep?](repeating: nil, count: depth)
    var requests = unsafe [cellmate_block_request]()
    unsafe requests.reserveCapacity(depth)
    var done = unsafe [cellmate_block_completion](
      repeating: cellmate_block_completion(), count: depth)
    var buffer = [UInt8](repeating: 0, count: chunk)
    var openCount = 0
    var isAtEnd = false
    while true {
      unsafe requests.removeAll(keepingCapacity: true)
      while !isAtEnd, openCount < depth, let index = open.firstIndex(where: { $0 == nil }) {
        guard let step = try next() else {
          isAtEnd = true
          break
        }
        open[index] = step
        openCount += 1
        unsafe requests.append(try request(step, index, &buffer, fill))
      }
      unsafe try submit(requests)
      let count = unsafe try collect(&open, &done, &buffer, finish)
      openCount -= count
      if isAtEnd, openCount == 0 { break }
      if count == 0 { try driver.wait(spin: Self.spin) }
    }
    report.nanoseconds += cl_monotonic_ns() - started
    let counters = driver.counters
    report.doorbells += counters.notifications - bells
    report.resubmitted = counters.resubmitted
    report.slowestSetUp = counters.slowest_set_up
  }

  /// One request, with its bytes where the device finds them.
  private func request(
    _ step: TransferStep, _ index: Int, _ bytes: inout [UInt8],
    _ fill: (TransferStep, inout MutableSpan<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) -> cellmate_block_request {
    var request = unsafe cellmate_block_request()
    unsafe request.type = step.type.rawValue
    unsafe request.token = UInt32(index)
    unsafe request.sector = step.offset / 512
    switch step.type {
    case .read: unsafe request.data = fromDevice[index]
    case .write:
      unsafe request.data = toDevice[index]
      var span = bytes.mutableSpan
      var part = span._mutatingExtracting(0..<step.count)
      try fill(step, &part)
      unsafe bytes.withUnsafeBytes { source in
        // SAFETY: a buffer has `chunk` bytes, and a step no more.
        guard let base = source.baseAddress else { return }
        unsafe toDevice[index].data?.copyMemory(from: base, byteCount: step.count)
      }
    case .flush: return unsafe request
    case .discard, .zero, .zeroAndUnmap: break
    }
    unsafe request.data.length = UInt64(step.count)
    return unsafe request
  }

  private func submit(_ requests: [cellmate_block_request]) throws(ClientError) {
    guard unsafe !requests.isEmpty else { return }
    let handle = unsafe driver.handle
    let count = unsafe UInt32(requests.count)
    let taken = unsafe requests.withUnsafeBufferPointer { requests -> cellmate_result in
      guard let base = requests.baseAddress else { return 0 }
      return unsafe cellmate_block_submit(handle, base, count)
    }
    guard try driver.checked(taken) < Int(count) else { return }
    // There is room for all of them: the first that was not taken is wrong, and says why.
    let first = Int(taken)
    let result = unsafe requests.withUnsafeBufferPointer { requests -> cellmate_result in
      guard let base = requests.baseAddress else { return 0 }
      return unsafe cellmate_block_submit(handle, base + first, count - UInt32(first))
    }
    guard try driver.checked(result) == Int(count) - first else {
      throw .failed("submitting a request: every request is in flight")
    }
  }

  /// Takes what is finished; how much that was. A lost back-end is taken up again.
  private mutating func collect(
    _ open: inout [TransferStep?], _ done: inout [cellmate_block_completion],
    _ bytes: inout [UInt8],
    _ finish: (TransferStep, Span<UInt8>) throws(ClientError) -> Void
  ) throws(ClientError) -> Int {
    let handle = unsafe driver.handle
    let limit = UInt32(depth)
    let taken = unsafe done.withUnsafeMutableBufferPointer { done -> cellmate_result in
      guard let base = done.baseAddress else { return 0 }
      return unsafe cellmate_block_take(handle, base, limit)
    }
    if taken == LibraryResult.linkLost {
      try driver.recover("; its requests were submitted again")
      report.recoveredAt = cl_realtime_ns()
      report.recoveries += 1
      return 0
    }
    let count = try driver.checked(taken)
    for index in 0..<count {
      let place = unsafe Int(done[index].token)
      guard let step = open[place] else { continue }
      open[place] = nil
      guard unsafe done[index].status == 0 else {
        throw .failed(
          "\(step.type.word) of \(step.count) bytes at \(step.offset): "
            + Self.word(unsafe done[index].status) + "; see the back-end's log")
      }
      report.requests += 1
      report.bytes += UInt64(step.count)
      guard step.type == .read, let data = unsafe fromDevice[place].data else { continue }
      unsafe bytes.withUnsafeMutableBytes { target in
        // SAFETY: both have room for `chunk` bytes, and a step has no more.
        unsafe target.baseAddress?.copyMemory(from: data, byteCount: step.count)
      }
      try finish(step, bytes.span.extracting(0..<step.count))
    }
    return count
  }

  private static func word(_ status: Int32) -> String {
    switch status {
    case 1: "I/O error"
    case 2: "unsupported"
    default: "no status"
    }
  }

  /// Makes every write that is finished stable; nothing where the device has no flush.
  mutating func flush() throws(ClientError) {
    guard needsFlush else { return }
    var isDone = false
    try transfer(
      next: { () throws(ClientError) -> TransferStep? in
        guard !isDone else { return nil }
        isDone = true
        return TransferStep(type: .flush, offset: 0, count: 0)
      }, fill: { (_, _) throws(ClientError) in }, finish: { (_, _) throws(ClientError) in })
  }

  /// Leaves the link on purpose.
  public consuming func leave() {}
}
