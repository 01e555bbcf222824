import ArgumentParser
import Glibc

/// Writes the result of a command to standard output. What cannot be written there is an error: a
/// report that is cut off must not look like one without findings.
func printResult(_ text: String) throws {
  let failure = write(text.hasSuffix("\n") ? text : text + "\n", to: STDOUT_FILENO)
  guard failure != 0 else { return }
  unsafe complain("standard output cannot be written: \(String(cString: strerror(failure)))")
  throw ExitCode(2)
}

/// Writes a line to standard error; what cannot be written there is lost.
func complain(_ line: String) {
  _ = write("ivshmem-cell: \(line)\n", to: STDERR_FILENO)
}

/// Writes all of it; the error number, or 0.
func write(_ text: String, to descriptor: Int32) -> Int32 {
  let bytes = Array(text.utf8)
  var done = 0
  while done < bytes.count {
    let count = unsafe bytes.withUnsafeBytes {
      unsafe write(descriptor, $0.baseAddress?.advanced(by: done), bytes.count - done)
    }
    if count >= 0 { done += count } else if errno != EINTR { return errno }
  }
  return 0
}
