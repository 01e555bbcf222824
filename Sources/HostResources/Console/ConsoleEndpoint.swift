import CHostConsole
import VirtioConsole

/// One port's connection to the world. All calls come from the device's thread and never block;
/// nothing is allocated after `init`, but for log lines.
class ConsoleEndpoint {
  /// Where people find it; empty where they need not look.
  var path: String { "" }
  /// Whether somebody is at the other end.
  var isOpen: Bool { true }
  /// Whether it is a terminal with a size.
  var hasSize: Bool { false }
  /// Its size now.
  var size: ConsoleSize { .unknown }
  /// Whether nothing more will be read.
  var hasInputEnded: Bool { false }
  /// Whether the person at the terminal asked to stop.
  var hasEscaped: Bool { false }
  /// Bytes that were taken and could not be delivered.
  var lostCount: UInt64 { 0 }
  /// Something happened to one of its descriptors.
  func look() {}
  /// Reads what has come; 0 when there is nothing.
  func read(into bytes: inout MutableSpan<UInt8>) -> Int { 0 }
  /// Writes what fits.
  func write(_ bytes: Span<UInt8>) -> ConsoleWrite { .gone }
  /// Ends it; called once, after the watching thread has ended.
  func close() {}
}

/// Reads from a descriptor: bytes, nothing for now, or the end.
enum ConsoleInput {
  case bytes(Int)
  case nothing
  case ended

  init(_ descriptor: Int32, _ bytes: inout MutableSpan<UInt8>) {
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_read(descriptor, base, buffer.count)
    }
    self = got > 0 ? .bytes(got) : got == CHC_AGAIN ? .nothing : .ended
  }
}

extension ConsoleWrite {
  /// Writes to a descriptor that is no socket.
  init(_ descriptor: Int32, _ bytes: Span<UInt8>) {
    let put = unsafe bytes.withUnsafeBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe chc_write(descriptor, base, buffer.count)
    }
    self = put >= 0 ? .taken(put) : put == CHC_AGAIN ? .taken(0) : .gone
  }
}

extension ConsoleSize {
  /// The size of a terminal, unknown where it has none.
  init(of terminal: Int32) { self.init(packed: chc_terminal_size(terminal)) }

  /// A size as the functions in C pack it.
  init(packed: UInt32) {
    self.init(
      columns: UInt16(truncatingIfNeeded: packed), rows: UInt16(truncatingIfNeeded: packed >> 16))
  }

  /// The size as the functions in C pack it.
  var packed: UInt32 { UInt32(rows) << 16 | UInt32(columns) }
}
