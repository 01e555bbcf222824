public import LinuxSupport

/// Why a file cannot be a block device's medium: what was seen.
public enum FileBlockError: Error, Equatable, Sendable {
  /// Opening failed (missing, no permission, no direct I/O, ...).
  case open(path: String, SystemError)
  /// Neither a regular file nor a block device.
  case badKind(path: String)
  /// Empty, or not a multiple of 512 bytes; the size in bytes.
  case badSize(path: String, UInt64)
  /// Another process uses the file; its pid, or 0 where the system does not tell.
  case inUse(path: String, holder: Int32)
  /// Threads could not be made.
  case system(SystemError)
}

extension FileBlockError: CustomStringConvertible {
  /// One line for the operator: what was seen and what to do about it.
  public var description: String {
    switch self {
    case .open(let path, let cause): "\(path): \(cause.text)"
    case .badKind(let path): "\(path): neither a regular file nor a block device"
    case .badSize(let path, let size):
      "\(path): \(size) bytes, expected a multiple of 512 and not 0; grow it with truncate"
    case .inUse(let path, let holder):
      "\(path): image is in use by \(holder > 0 ? "pid \(holder)" : "another process or mount")"
    case .system(let cause): "starting workers: \(cause.text)"
    }
  }
}
