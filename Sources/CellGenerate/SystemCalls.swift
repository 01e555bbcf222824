import Glibc

/// The few system calls that the output folder needs; errors are one line of text.
enum SystemCalls {
  static func text(_ code: Int32) -> String { unsafe String(cString: strerror(code)) }

  /// Whether a file could not be read because there is none.
  static func isMissing(_ failure: LoadFailure) -> Bool {
    failure.message == text(ENOENT) || failure.message == text(ENOTDIR)
  }

  /// Reads a regular file of at most `limit` bytes.
  static func read(_ path: String, limit: Int) -> Result<[UInt8], LoadFailure> {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return .failure(LoadFailure(message: text(errno))) }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 1 << 16)
    while bytes.count <= limit {
      let count = unsafe part.withUnsafeMutableBytes {
        unsafe Glibc.read(descriptor, $0.baseAddress, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { return .failure(LoadFailure(message: text(errno))) }
      guard count > 0 else { return .success(bytes) }
      bytes += part[..<count]
    }
    return .failure(LoadFailure(message: "it has more than \(limit) bytes"))
  }

  /// Makes a new file with the bytes; refuses one that exists.
  static func create(_ path: String, _ bytes: [UInt8], mode: mode_t) throws(OutputError) {
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
    guard descriptor >= 0 else { throw OutputError(message: "\(path): \(text(errno))") }
    var written = 0
    while written < bytes.count {
      let count = unsafe bytes[written...].withUnsafeBytes {
        unsafe write(descriptor, $0.baseAddress, $0.count)
      }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else {
        let code = errno
        close(descriptor)
        throw OutputError(message: "\(path): \(text(code))")
      }
      written += count
    }
    // Some file systems report a full disk only here.
    guard close(descriptor) == 0 else { throw OutputError(message: "\(path): \(text(errno))") }
  }

  /// Whether something is there, a dangling link too.
  static func exists(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0
  }

  static func removeFolder(_ path: String) { _ = unsafe rmdir(path) }

  static func remove(_ path: String) { _ = unsafe unlink(path) }

  static func rename(_ from: String, _ to: String) throws(OutputError) {
    guard unsafe Glibc.rename(from, to) == 0 else {
      throw OutputError(message: "cannot rename \(from) to \(to): \(text(errno))")
    }
  }

  static func isFolder(_ path: String) -> Bool {
    var status = stat()
    return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
  }

  /// Makes a folder and those above it.
  static func makeFolder(_ path: String) throws(OutputError) {
    var made = ""
    for part in path.split(separator: "/", omittingEmptySubsequences: false) {
      made += made.isEmpty && !path.hasPrefix("/") ? part : "/" + part
      if part.isEmpty || isFolder(made) { continue }
      guard unsafe mkdir(made, 0o777) == 0 else {
        throw OutputError(message: "cannot make the folder \(made): \(text(errno))")
      }
    }
  }

  static var processID: Int32 { getpid() }
}
