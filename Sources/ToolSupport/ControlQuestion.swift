import CLinux
import CService
public import LinuxSupport

/// Asks a running back-end over its control socket.
public enum ControlQuestion {
  private static var answerLimit: Int { 16 << 20 }

  /// Sends one command; the whole answer.
  ///
  /// - Parameter patience: how long the answer is waited for, in nanoseconds.
  public static func ask(
    _ path: String, _ command: String, patience: UInt64
  ) throws(SystemError) -> String {
    let socket = try Descriptor(unsafe cl_connect_stream(path))
    return try ask(socket, command, patience: patience)
  }

  /// Sends one command on a connection that stays open; the whole answer.
  public static func ask(
    _ socket: borrowing Descriptor, _ command: String, patience: UInt64
  ) throws(SystemError) -> String {
    var line = command + "\n"
    let sent = line.withUTF8 { bytes in
      guard let base = bytes.baseAddress else { return 0 }
      return unsafe cs_write(socket.number, base, bytes.count)
    }
    _ = try SystemError.check(sent)
    let end = cl_monotonic_ns() + patience
    var answer: [UInt8] = []
    while answer.count < Self.answerLimit {
      if isWhole(answer) { return String(decoding: answer, as: UTF8.self) }
      var entry = cl_poll_entry(fd: socket.number, events: Int16(CL_POLL_IN), revents: 0)
      let now = cl_monotonic_ns()
      guard now < end else { throw SystemError(SystemError.timedOut) }
      let ready = unsafe cl_poll_ns(&entry, 1, Int64(end - now))
      guard ready > 0 else { continue }
      var buffer = [UInt8](repeating: 0, count: 16384)
      let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        guard let base = bytes.baseAddress else { return 0 }
        return unsafe cs_read(socket.number, base, bytes.count)
      }
      if try SystemError.check(count) == 0 { throw SystemError(SystemError.connectionReset) }
      answer += buffer[..<count]
    }
    throw SystemError(SystemError.connectionReset)
  }

  private static func isWhole(_ answer: [UInt8]) -> Bool {
    guard answer.last == 10 else { return false }
    if answer.first == 123 { return true }
    return answer.count >= 6 && answer[(answer.count - 6)...].elementsEqual("# EOF\n".utf8)
  }
}
