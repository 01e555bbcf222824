import CLinux

/// Writes text to standard error, whole.
public func writeError(_ text: String) { write(text, to: 2) }

/// Writes text to standard output, whole; unlike `print` it is not held back in a buffer.
public func writeOutput(_ text: String) { write(text, to: 1) }

private func write(_ text: String, to descriptor: Int32) {
  var text = text
  text.withUTF8 { bytes in
    guard let base = bytes.baseAddress else { return }
    // A closed terminal is no reason to stop serving.
    _ = unsafe cl_write_all(descriptor, base, bytes.count)
  }
}

/// Whether standard error is a terminal.
public var isErrorTerminal: Bool { cl_is_terminal(2) != 0 }

/// Reads a whole text file of at most 1 MiB.
public func readText(_ path: String) throws(SystemError) -> String {
  let file = try Descriptor(unsafe cl_open(path, 0, 0))
  var bytes = [UInt8](repeating: 0, count: 1 << 20)
  var count = 0
  while count < bytes.count {
    let got = unsafe bytes.withUnsafeMutableBytes { buffer in
      guard let base = buffer.baseAddress else { return 0 }
      return unsafe cl_read_at(file.number, base + count, buffer.count - count, Int64(count))
    }
    if try SystemError.check(got) == 0 { break }
    count += got
  }
  return String(decoding: bytes[..<count], as: UTF8.self)
}
