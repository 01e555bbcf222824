public import LinuxSupport

/// Why a file cannot be a block device's medium: what was seen.
public enum FileBlockError: Error, Equatable, Sendable {
  /// Opening failed (missing, no permission, ...).
  case open(path: String, SystemError)
  /// Neither a regular file nor a block device.
  case badKind(path: String)
  /// Empty, or not a multiple of 512 bytes.
  case badSize(path: String, UInt64)
  /// Another process uses the file; its pid where the system tells.
  case inUse(path: String, holder: Int32)
  /// Threads or events could not be made.
  case system(SystemError)
}
