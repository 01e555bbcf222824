import Glibc

/// Why a file could not be read: one line with the name, what happened and what to do.
struct InputError: Error, CustomStringConvertible {
  let description: String
}

/// The largest file that is read: configurations and device trees have some kilobytes.
private let inputLimit = 16 << 20

/// Reads a file whole.
func readInput(_ path: String) throws(InputError) -> [UInt8] {
  let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
  guard descriptor >= 0 else {
    throw unsafe InputError(description: "\(path): \(String(cString: strerror(errno)))")
  }
  defer { close(descriptor) }
  var bytes: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = unsafe part.withUnsafeMutableBytes {
      unsafe read(descriptor, $0.baseAddress, $0.count)
    }
    if count < 0, errno == EINTR { continue }
    guard count >= 0 else {
      throw unsafe InputError(description: "\(path): \(String(cString: strerror(errno)))")
    }
    guard count > 0 else { return bytes }
    bytes += part[..<count]
    guard bytes.count <= inputLimit else {
      throw InputError(
        description: "\(path): more than \(inputLimit >> 20) MiB; a configuration or device tree "
          + "has some kilobytes: name another file")
    }
  }
}

/// Writes a line to standard error; what cannot be written there is lost.
func complain(_ line: String) {
  let bytes = Array("ivshmem-cell: \(line)\n".utf8)
  _ = unsafe bytes.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
}
