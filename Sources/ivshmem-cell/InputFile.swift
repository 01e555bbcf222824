import Glibc

/// Why a file could not be read: one line with the name, what happened and what to do.
struct InputError: Error, CustomStringConvertible {
  let description: String
}

/// The largest configuration that is read, bytes: four times what Jailhouse loads as a cell.
let configurationLimit = 256 << 10
/// The largest device tree that is read, bytes: Linux takes no larger one.
let treeLimit = 2 << 20

/// Reads a file of at most `limit` bytes whole; a pipe as well, but not one that nobody writes to.
func readInput(_ path: String, limit: Int) throws(InputError) -> [UInt8] {
  // Without O_NONBLOCK, opening a pipe would wait for a writer for ever.
  let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  guard descriptor >= 0 else { throw systemError(path, errno) }
  defer { close(descriptor) }
  var status = stat()
  guard unsafe fstat(descriptor, &status) == 0 else { throw systemError(path, errno) }
  let kind = status.st_mode & S_IFMT
  guard kind == S_IFREG || kind == S_IFIFO else {
    throw InputError(
      description: "\(path) is \(kind == S_IFDIR ? "a folder" : "no ordinary file"); name a file")
  }
  if status.st_size > limit { throw tooLarge(path, limit) }
  _ = fcntl(descriptor, F_SETFL, 0)
  var bytes: [UInt8] = []
  var part = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = unsafe part.withUnsafeMutableBytes {
      unsafe read(descriptor, $0.baseAddress, $0.count)
    }
    if count < 0, errno == EINTR { continue }
    guard count >= 0 else { throw systemError(path, errno) }
    guard count > 0 else { break }
    bytes += part[..<count]
    guard bytes.count <= limit else { throw tooLarge(path, limit) }
  }
  guard kind != S_IFIFO || !bytes.isEmpty else {
    throw InputError(description: "\(path) is a pipe that nobody has written to; name a file")
  }
  return bytes
}

private func systemError(_ path: String, _ code: Int32) -> InputError {
  unsafe InputError(description: "\(path) cannot be read: \(String(cString: strerror(code)))")
}

private func tooLarge(_ path: String, _ limit: Int) -> InputError {
  InputError(
    description:
      "\(path) has more than \(limit >> 10) KiB; a configuration or device tree has some "
      + "kilobytes: name another file")
}
