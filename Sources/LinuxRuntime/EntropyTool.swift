import CLinux
public import CommandOptions
import LinuxSupport
import SharedMemory
import VirtioDevice
import VirtioEntropy
import Virtqueue

extension EntropyDriver: PathDriver {
  static var kind: DeviceKind { DeviceKind(id: EntropyFormat.deviceID, name: "an entropy device") }
  var wanted: FeatureSet { FeatureSet() }
  var neededQueueSize: Int { EntropyTool.depthLimit }
  func queues(_ features: FeatureSet, _ configuration: [UInt8]) throws(ClientError) -> [Int] { [0] }
  mutating func take(_ queue: consuming DriverQueue, at index: Int) { attach(queue: queue) }
  mutating func begin(_ features: FeatureSet) { ask() }
  mutating func end() { detachQueue() }
  mutating func publishAll() -> UInt32 { publish() ? 1 : 0 }
}

/// `ivshmem frontend entropy`: random bytes of a back-end on standard output.
public struct EntropyTool: DeviceTool, Sendable {
  /// The options of the tool.
  public static let options =
    FrontendPlace.options + [
      OptionSpecification("bytes", "N", "how many (required; K, M and G allowed)"),
      OptionSpecification("hex", "as lines of hexadecimal digits"),
      OptionSpecification("depth", "N", "requests in flight (1 to 64, default 8)"),
      OptionSpecification("size", "BYTES", "bytes a request (1 to 64K, default 4K)"),
      OptionSpecification("json", "the figures as one JSON object on standard error"),
    ] + FrontendPlace.lastOptions

  static var depthLimit: Int { 64 }
  private static var lineLength: Int { 32 }

  let place: FrontendPlace
  private let count: UInt64
  private let depth: Int
  private let size: Int
  private let isHex: Bool
  private let isJSON: Bool

  /// Checks the command line; nothing is opened yet.
  public init(_ given: CommandOptions) throws(UsageError) {
    place = try FrontendPlace(given)
    guard given.arguments.isEmpty else {
      throw UsageError("frontend entropy takes no action, got '\(given.arguments[0])'")
    }
    guard given.has("bytes") else { throw UsageError("--bytes N is missing: how many?") }
    count = try given.number("bytes", in: 1...(1 << 50), default: 0)
    depth = Int(try given.number("depth", in: 1...UInt64(Self.depthLimit), default: 8))
    size = Int(try given.number("size", in: 1...(64 << 10), default: 4096))
    isHex = given.has("hex")
    isJSON = given.has("json")
    guard isHex || cl_is_terminal(1) == 0 else {
      throw UsageError("standard output is a terminal: give --hex, or send it to a file or pipe")
    }
  }

  /// Writes the bytes.
  public func run() throws(ClientError) {
    try open()
  }

  var memoryBytes: Int { depth * size }

  func drive(_ path: consuming some DevicePath & ~Copyable) throws(ClientError) {
    var path = path
    guard let memory = path.allocate(depth * size, .fromDevice) else { throw .noRoom }
    var arena = PrivateMemory.arena(16 << 10)
    guard
      let driver = EntropyDriver(depth: depth, memory: memory, region: path.region, arena: &arena)
    else { preconditionFailure("16 KiB hold the books") }
    var client = DeviceClient(path, driver, place)
    do throws(ClientError) {
      try client.start()
      try copy(&client)
    } catch {
      client.leave()
      throw error
    }
    client.leave()
  }

  private func copy(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, EntropyDriver>
  ) throws(ClientError) {
    let started = cl_monotonic_ns()
    var bar = ProgressBar(total: count, isShown: place.isNoisy && count >= 1 << 20)
    var bytes = [UInt8](repeating: 0, count: 4096)
    var done: UInt64 = 0
    while done < count {
      let room = Int(min(UInt64(bytes.count), count - done))
      let got = try read(&client, &bytes, room)
      guard got > 0 else {
        if client.isLost() { try client.recover() } else { try client.wait() }
        continue
      }
      try put(bytes[..<got], at: done, client.wakeDescriptor)
      done += UInt64(got)
      bar.advance(UInt64(got))
    }
    bar.end()
    show(
      nanoseconds: cl_monotonic_ns() - started, doorbells: client.notificationCount,
      recoveries: client.recoveries)
  }

  private func read(
    _ client: inout DeviceClient<some DevicePath & ~Copyable, EntropyDriver>,
    _ bytes: inout [UInt8], _ room: Int
  ) throws(ClientError) -> Int {
    var span = bytes.mutableSpan
    var part = span._mutatingExtracting(0..<room)
    let got: Int
    do throws(QueueError) {
      got = try client.driver.read(into: &part)
    } catch { throw .failed("the back-end broke a rule of the queue: \(error)") }
    client.driver.ask()
    client.publish()
    return got
  }

  // MARK: Results

  private func put(
    _ bytes: ArraySlice<UInt8>, at position: UInt64, _ wake: Int32
  ) throws(ClientError) {
    guard isHex else { return try writeData(bytes, wake) }
    var text: [UInt8] = []
    var column = Int(position % UInt64(Self.lineLength))
    for byte in bytes {
      for digit in [byte >> 4, byte & 15] { text.append(digit + (digit < 10 ? 48 : 87)) }
      column += 1
      if column == Self.lineLength {
        text.append(10)
        column = 0
      }
    }
    if position + UInt64(bytes.count) == count, column > 0 { text.append(10) }
    try writeData(text[...], wake)
  }

  private func show(nanoseconds: UInt64, doorbells: UInt64, recoveries: Int) {
    if isJSON {
      writeError(
        "{\"bytes\":\(count),\"nanoseconds\":\(nanoseconds),\"doorbells\":\(doorbells),"
          + "\"recoveries\":\(recoveries)}\n")
    } else if place.isNoisy {
      let rate = count * 1000 / max(1, nanoseconds)
      writeError(
        "\(count) random bytes in \(nanoseconds / 1_000_000) ms (\(rate) MB/s),"
          + " \(doorbells) doorbells, \(recoveries) recoveries\n")
    }
  }
}

/// Writes data to standard output; a reader that does not read can be waited for and interrupted.
private func writeData(_ bytes: ArraySlice<UInt8>, _ wake: Int32) throws(ClientError) {
  var rest = bytes
  while !rest.isEmpty {
    // What poll promises: a pipe takes as much without blocking.
    let piece = rest.prefix(4096)
    try waitForOutput(wake)
    let result = unsafe piece.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_write_all(1, base, buffer.count)
    }
    guard result >= 0 else {
      throw .failed("standard output: \(SystemError(Int32(truncatingIfNeeded: -result)).text)")
    }
    rest = rest.dropFirst(piece.count)
  }
}

private func waitForOutput(_ wake: Int32) throws(ClientError) {
  var entries: InlineArray<2, cl_poll_entry> = [
    cl_poll_entry(fd: 1, events: Int16(CL_POLL_OUT), revents: 0),
    cl_poll_entry(fd: wake, events: Int16(CL_POLL_IN), revents: 0),
  ]
  while entries[0].revents == 0 {
    if cl_stop_requested() != 0 { throw .interrupted }
    var span = entries.mutableSpan
    _ = unsafe span.withUnsafeMutableBufferPointer { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_poll_ns(base, 2, -1)
    }
    if entries[1].revents != 0 { cl_event_take(wake) }
  }
}
