import CCellmate
import CLinux
public import CommandOptions
import LinuxSupport
public import ToolSupport

/// `ivshmem frontend block`: drives a block device of a link from the command line.
public struct BlockTool: Sendable {
  /// What the tool can do.
  public static let actions =
    "info, read, write, copy, zero, discard, roundtrip, acknowledge"

  /// The options of the tool.
  public static let options =
    FrontendPlace.options + [
      OptionSpecification("file", "PATH", "read: where to, write: where from"),
      OptionSpecification("offset", "BYTES", "where on the disk to start (default 0)"),
      OptionSpecification("to", "BYTES", "copy: where on the disk to put it"),
      OptionSpecification("count", "BYTES", "how much (default: to the end), or how often"),
      OptionSpecification("unmap", "zero: the storage may be given back, as by discard"),
      OptionSpecification("depth", "N", "requests in flight, a power of two (1 to 64, default 8)"),
      OptionSpecification("size", "BYTES", "bytes a request, a multiple of 512 (default 128K)"),
      OptionSpecification("json", "the result as one JSON object on standard output"),
    ] + FrontendPlace.lastOptions

  private let given: CommandOptions
  private let action: String
  private let place: FrontendPlace
  private let depth: Int
  private let size: Int

  /// Checks the command line; nothing is opened yet.
  public init(_ action: String, _ given: CommandOptions) throws(UsageError) {
    let known = [
      "info", "read", "write", "copy", "zero", "discard", "roundtrip", "acknowledge",
    ]
    guard known.contains(action) else {
      throw UsageError("unknown action '\(action)'; known are: \(Self.actions)")
    }
    place = try FrontendPlace(given)
    guard !Self.erases(action) || given.has("count") else {
      throw UsageError("--count BYTES is missing: how much of the disk shall \(action) change?")
    }
    self.given = given
    self.action = action
    guard !given.has("unmap") || action == "zero" else {
      throw UsageError("--unmap goes with zero; discard gives the storage back anyway")
    }
    depth =
      action == "roundtrip" ? 1 : Int(try given.number("depth", in: 1...64, default: 8))
    guard depth & (depth - 1) == 0 else {
      throw UsageError("--depth \(depth): expected a power of two from 1 to 64")
    }
    let isSmall = ["roundtrip", "acknowledge", "info"].contains(action)
    let standard: UInt64 = isSmall ? 4096 : 128 << 10
    size = Int(try given.number("size", in: 512...(1 << 20), default: standard))
    guard size % 512 == 0 else { throw UsageError("--size \(size): expected a multiple of 512") }
  }

  private static func erases(_ action: String) -> Bool {
    action == "zero" || action == "discard"
  }

  private var showsProgress: Bool { place.isNoisy }

  /// Runs the action.
  public func run() throws(ClientError) {
    if action == "acknowledge" { return try acknowledge() }
    // What moves no bytes needs no buffers.
    var client = try BlockClient(place, depth: depth, chunk: Self.erases(action) ? 512 : size)
    switch action {
    case "info": info(client)
    case "read": try read(&client)
    case "write": try write(&client)
    case "copy": try copy(&client)
    case "zero": try erase(&client, given.has("unmap") ? .zeroAndUnmap : .zero)
    case "discard": try erase(&client, .discard)
    default: try roundTrip(&client)
    }
  }

  // MARK: Actions

  private func info(_ client: borrowing BlockClient) {
    let disk = client.facts
    let features = String(disk.features, radix: 16)
    let isWriteback = disk.is_writeback != 0
    if given.has("json") {
      writeOutput(
        "{\"bytes\":\(client.byteCount),\"blockSize\":\(disk.block_size),"
          + "\"queues\":\(disk.queue_count),\"segmentMax\":\(disk.segment_max),"
          + "\"sizeMax\":\(disk.size_max),\"writeback\":\(isWriteback),"
          + "\"discardMax\":\(Self.bytes(disk.discard_max)),"
          + "\"writeZeroesMax\":\(Self.bytes(disk.write_zeroes_max)),"
          + "\"features\":\"0x\(features)\"}\n")
    } else {
      writeOutput(
        """
        size        \(client.byteCount) bytes (\(disk.capacity) sectors)
        block size  \(disk.block_size)
        queues      \(disk.queue_count)
        segments    at most \(disk.segment_max) of \(disk.size_max) bytes
        write-back  \(isWriteback ? "yes" : "no")
        discard     \(Self.limit(disk.discard_max))
        zero        \(Self.limit(disk.write_zeroes_max))
        features    0x\(features)

        """)
    }
  }

  private static func bytes(_ sectors: UInt32) -> UInt64 { UInt64(sectors) * 512 }

  private static func limit(_ sectors: UInt32) -> String {
    if sectors == 0 { return "no" }
    return "at most \(bytes(sectors)) bytes a request"
  }

  /// The range on the disk that is meant, checked against its size.
  private func range(
    _ client: borrowing BlockClient, standard: UInt64? = nil
  ) throws(ClientError) -> Range<UInt64> {
    do throws(UsageError) {
      let offset = try given.number("offset", in: 0...UInt64.max, default: 0)
      guard offset % 512 == 0, offset <= client.byteCount else {
        throw UsageError(
          "--offset \(offset): expected a multiple of 512 up to \(client.byteCount)")
      }
      let rest = client.byteCount - offset
      let count = try given.number("count", in: 0...UInt64.max, default: standard ?? rest)
      guard count % 512 == 0, count <= rest else {
        throw UsageError(
          "--count \(count): expected a multiple of 512; the disk has \(rest) bytes from there")
      }
      return offset..<offset + count
    } catch { throw .usage(error) }
  }

  private func open(_ flags: Int32) throws(ClientError) -> Descriptor {
    guard let path = given.value("file") else {
      throw .usage(UsageError("--file PATH is missing: \(action) needs a local file"))
    }
    do throws(SystemError) {
      return try Descriptor(unsafe cl_open(path, flags, 0o644))
    } catch { throw .usage(UsageError("--file \(path): \(error.text)")) }
  }

  private func read(_ client: inout BlockClient) throws(ClientError) {
    let range = try range(client)
    // O_WRONLY | O_CREAT | O_TRUNC
    let file = try open(0o1101)
    var position = range.lowerBound
    var bar = ProgressBar(total: range.count64, isShown: showsProgress)
    let size = UInt64(size)
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        guard position < range.upperBound else { return nil }
        let count = min(size, range.upperBound - position)
        defer { position += count }
        return TransferStep(type: .read, offset: position, count: Int(count))
      }, fill: { (_, _) throws(ClientError) in },
      finish: { (step, bytes) throws(ClientError) in
        try store(bytes, file.number, Int64(step.offset - range.lowerBound))
        bar.advance(UInt64(step.count))
      })
    bar.end()
    show(client.takeReport())
  }

  private static var again: String {
    "what was not flushed when the back-end went away may be lost; writing it again"
  }

  private func write(_ client: inout BlockClient) throws(ClientError) {
    let file = try open(0)
    var facts = cl_file_facts()
    guard unsafe cl_file_facts_of(file.number, &facts) >= 0, facts.size % 512 == 0 else {
      throw .usage(UsageError("--file: \(facts.size) bytes, expected a multiple of 512"))
    }
    let range = try range(client, standard: facts.size)
    var bar = ProgressBar(total: range.count64, isShown: showsProgress)
    var flushed = FlushedRange(range)
    try flushed.write(
      to: &client, losses: { $0.recoveries },
      write: { (client, part) throws(ClientError) in
        bar.moveBack(to: part.lowerBound - range.lowerBound, Self.again)
        var position = part.lowerBound
        try client.transfer(
          next: { () throws(ClientError) -> TransferStep? in
            guard position < part.upperBound else { return nil }
            let count = min(UInt64(size), part.upperBound - position)
            defer { position += count }
            bar.advance(count)
            return TransferStep(type: .write, offset: position, count: Int(count))
          },
          fill: { (step, bytes) throws(ClientError) in
            try load(&bytes, file.number, Int64(step.offset - range.lowerBound))
          }, finish: { (_, _) throws(ClientError) in })
      }, flush: { (client) throws(ClientError) in try client.flush() })
    bar.end()
    show(client.takeReport(), rewritten: flushed.rewritten)
  }

  /// Where `copy` puts a range of the disk.
  private func target(
    _ client: borrowing BlockClient, _ range: Range<UInt64>
  ) throws(ClientError) -> UInt64 {
    do throws(UsageError) {
      guard given.has("to") else {
        throw UsageError("--to BYTES is missing: where on the disk shall the copy go?")
      }
      let target = try given.number("to", in: 0...UInt64.max, default: 0)
      guard target % 512 == 0, target <= client.byteCount - range.count64 else {
        throw UsageError(
          "--to \(target): expected a multiple of 512 up to \(client.byteCount - range.count64)")
      }
      guard
        target == range.lowerBound || target >= range.upperBound
          || target + range.count64 <= range.lowerBound
      else { throw UsageError("--to \(target): the two ranges overlap") }
      return target
    } catch { throw .usage(error) }
  }

  /// Copies a range of the disk to another place of the same disk, then flushes.
  private func copy(_ client: inout BlockClient) throws(ClientError) {
    let range = try range(client)
    let target = try target(client, range)
    var bar = ProgressBar(total: range.count64, isShown: showsProgress)
    // A batch is read, then written: bounded memory, whatever the size.
    let batch = UInt64(size * depth)
    var flushed = FlushedRange(range)
    try flushed.write(
      to: &client, losses: { $0.recoveries },
      write: { (client, part) throws(ClientError) in
        bar.moveBack(to: part.lowerBound - range.lowerBound, Self.again)
        var start = part.lowerBound
        while start < part.upperBound {
          let end = min(start + batch, part.upperBound)
          var bytes = [UInt8](repeating: 0, count: Int(end - start))
          try move(&client, .read, start..<end, at: start, &bytes)
          try move(&client, .write, start..<end, at: target + (start - range.lowerBound), &bytes)
          bar.advance(end - start)
          start = end
        }
      }, flush: { (client) throws(ClientError) in try client.flush() })
    bar.end()
    show(client.takeReport(), rewritten: flushed.rewritten * 2)
  }

  private func move(
    _ client: inout BlockClient, _ type: TransferKind, _ range: Range<UInt64>,
    at place: UInt64, _ bytes: inout [UInt8]
  ) throws(ClientError) {
    var position: UInt64 = 0
    let total = range.count64
    let size = UInt64(size)
    let source = bytes
    var sink = bytes
    try client.transfer(
      next: { () throws(ClientError) -> TransferStep? in
        guard position < total else { return nil }
        let count = min(size, total - position)
        defer { position += count }
        return TransferStep(type: type, offset: place + position, count: Int(count))
      },
      fill: { (step, span) throws(ClientError) in
        let base = Int(step.offset - place)
        for index in span.indices { span[index] = source[base + index] }
      },
      finish: { (step, span) throws(ClientError) in
        let base = Int(step.offset - place)
        for index in span.indices { sink[base + index] = span[index] }
      })
    bytes = sink
  }

  /// Most bytes of a request that moves none: so that progress can be seen.
  private static var stride: UInt64 { 64 << 20 }

  /// Zeroes or discards a range, in requests that the device can take, then flushes.
  private func erase(_ client: inout BlockClient, _ type: TransferKind) throws(ClientError) {
    let range = try range(client)
    let isDiscard = type == .discard
    let limit = Self.bytes(isDiscard ? client.facts.discard_max : client.facts.write_zeroes_max)
    guard limit > 0 else {
      throw .failed(
        "the device offers no \(action)"
          + (isDiscard ? "; its storage cannot be given back" : "; write zeroes from a file"))
    }
    var size = min(given.has("size") ? UInt64(size) : Self.stride, limit)
    var grain = isDiscard ? max(512, Self.bytes(client.facts.discard_alignment)) : 512
    // Smaller requests than that cannot all begin where the device likes it.
    if grain > size { grain = 512 }
    size -= size % grain
    var bar = ProgressBar(total: range.count64, isShown: showsProgress)
    var flushed = FlushedRange(range)
    try flushed.write(
      to: &client, window: max(FlushedRange.window, size * UInt64(depth)),
      losses: { $0.recoveries },
      write: { (client, part) throws(ClientError) in
        bar.moveBack(to: part.lowerBound - range.lowerBound, Self.again)
        var position = part.lowerBound
        try client.transfer(
          next: { () throws(ClientError) -> TransferStep? in
            guard position < part.upperBound else { return nil }
            // The first request ends where the device likes the next one to start.
            let end = min((position / grain * grain) + size, part.upperBound)
            let step = TransferStep(type: type, offset: position, count: Int(end - position))
            position = end
            bar.advance(UInt64(step.count))
            return step
          }, fill: { (_, _) throws(ClientError) in }, finish: { (_, _) throws(ClientError) in })
      }, flush: { (client) throws(ClientError) in try client.flush() })
    bar.end()
    show(client.takeReport(), rewritten: flushed.rewritten)
  }

  /// One request after the other, each timed by itself.
  private func acknowledge() throws(ClientError) {
    let times: Int
    do throws(UsageError) {
      times = Int(try given.number("count", in: 1...10_000_000, default: 20_000))
    } catch { throw .usage(error) }
    var tool = try AcknowledgementTool(place, depth: depth, size: size)
    try tool.run(count: times, isJSON: given.has("json"))
  }

  private func roundTrip(_ client: inout BlockClient) throws(ClientError) {
    let times: Int
    do throws(UsageError) {
      times = Int(try given.number("count", in: 1...10_000_000, default: 2000))
    } catch { throw .usage(error) }
    let blocks = max(1, client.byteCount / UInt64(size))
    var samples: [UInt64] = []
    samples.reserveCapacity(times)
    for index in 0..<times {
      var isDone = false
      let offset = UInt64(index) % blocks * UInt64(size)
      let start = cl_monotonic_ns()
      try client.transfer(
        next: { () throws(ClientError) -> TransferStep? in
          guard !isDone else { return nil }
          isDone = true
          return TransferStep(type: .read, offset: offset, count: size)
        }, fill: { (_, _) throws(ClientError) in }, finish: { (_, _) throws(ClientError) in })
      samples.append(cl_monotonic_ns() - start)
    }
    samples.sort()
    let report = client.takeReport()
    let median = samples[samples.count / 2]
    let high = samples[samples.count * 99 / 100]
    if given.has("json") {
      writeOutput(
        "{\"count\":\(times),\"size\":\(size),\"medianNanoseconds\":\(median),"
          + "\"p99Nanoseconds\":\(high),\"minNanoseconds\":\(samples[0]),"
          + "\"doorbells\":\(report.doorbells)}\n")
    } else {
      writeOutput(
        "\(times) reads of \(size) bytes, one at a time: median \(median / 1000) us,"
          + " 99% \(high / 1000) us, doorbells \(report.doorbells)\n")
    }
  }

  // MARK: Files and results

  private func store(
    _ bytes: Span<UInt8>, _ file: Int32, _ position: Int64
  ) throws(ClientError) {
    let result = unsafe bytes.withUnsafeBufferPointer { buffer -> Int in
      var done = 0
      while done < buffer.count, let base = buffer.baseAddress {
        let got = unsafe cl_write_at(
          file, base + done, buffer.count - done, position + Int64(done))
        if got == -4 { continue }
        guard got > 0 else { return got == 0 ? -5 : got }
        done += got
      }
      return 0
    }
    if result < 0 {
      throw .failed("writing the local file: \(SystemError(Int32(-result)).text)")
    }
  }

  private func load(
    _ bytes: inout MutableSpan<UInt8>, _ file: Int32, _ position: Int64
  ) throws(ClientError) {
    let result = unsafe bytes.withUnsafeMutableBufferPointer { buffer -> Int in
      var done = 0
      while done < buffer.count, let base = buffer.baseAddress {
        let got = unsafe cl_read_at(
          file, base + done, buffer.count - done, position + Int64(done))
        if got == -4 { continue }
        guard got > 0 else { return got == 0 ? -5 : got }
        done += got
      }
      return 0
    }
    if result < 0 {
      throw .failed("reading the local file: \(SystemError(Int32(-result)).text)")
    }
  }

  /// - Parameter rewritten: bytes that were moved again, because a back-end may have lost them.
  private func show(_ report: TransferReport, rewritten: UInt64 = 0) {
    let moved = report.bytes - rewritten
    let rate = Double(moved) / (Double(max(1, report.nanoseconds)) / 1e9) / 1e6
    if given.has("json") {
      writeOutput(
        "{\"bytes\":\(moved),\"requests\":\(report.requests),"
          + "\"nanoseconds\":\(report.nanoseconds),\"doorbells\":\(report.doorbells),"
          + "\"recoveries\":\(report.recoveries),\"resubmitted\":\(report.resubmitted),"
          + "\"recoveredAt\":\(report.recoveredAt),\"slowestSetUp\":\(report.slowestSetUp),"
          + "\"rewritten\":\(rewritten)}\n")
    } else {
      writeOutput(
        "\(moved) bytes in \(report.nanoseconds / 1_000_000) ms (\(Int(rate)) MB/s),"
          + " \(report.requests) requests, \(report.doorbells) doorbells,"
          + " \(report.recoveries) recoveries"
          + (rewritten > 0 ? ", \(rewritten) bytes again\n" : "\n"))
    }
  }
}

extension Range where Bound == UInt64 {
  fileprivate var count64: UInt64 { upperBound - lowerBound }
}
