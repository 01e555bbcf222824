import CCellmate
import CLinux
public import CommandOptions
import LinuxSupport
public import ToolSupport

/// `ivshmem frontend entropy`: random bytes of a back-end on standard output.
public struct EntropyTool: Sendable {
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

  private let place: FrontendPlace
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
    var driver = unsafe try LibraryDriver(place) { link, driver, error in
      unsafe cellmate_entropy_create(
        link, place.slot, UInt32(depth), UInt32(size), driver, error)
    }
    try driver.start()
    try copy(&driver)
  }

  private func copy(_ driver: inout LibraryDriver) throws(ClientError) {
    let started = cl_monotonic_ns()
    var bar = ProgressBar(total: count, isShown: place.isNoisy && count >= 1 << 20)
    var bytes = [UInt8](repeating: 0, count: 4096)
    var done: UInt64 = 0
    while done < count {
      let room = Int(min(UInt64(bytes.count), count - done))
      guard let got = try read(driver, &bytes, room) else {
        try driver.recover()
        continue
      }
      guard got > 0 else {
        try driver.wait()
        continue
      }
      try put(bytes[..<got], at: done, driver.wakeDescriptor)
      done += UInt64(got)
      bar.advance(UInt64(got))
    }
    bar.end()
    show(
      nanoseconds: cl_monotonic_ns() - started, doorbells: driver.counters.notifications,
      recoveries: driver.recoveries)
  }

  /// Reads what has come; `nil` when the back-end has gone.
  private func read(
    _ driver: borrowing LibraryDriver, _ bytes: inout [UInt8], _ room: Int
  ) throws(ClientError) -> Int? {
    let handle = unsafe driver.handle
    let result = unsafe bytes.withUnsafeMutableBytes { bytes in
      unsafe cellmate_entropy_read(handle, bytes.baseAddress, room)
    }
    return result == LibraryResult.linkLost ? nil : try driver.checked(result)
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
