import CLinux

/// An error number of a system call.
public struct SystemError: Error, Equatable, Sendable {
  /// The positive errno value.
  public let code: Int32

  /// Wraps an errno value.
  public init(_ code: Int32) { self.code = code }

  /// Turns the result of a `cl_` call into a value or an error.
  public static func check(_ result: Int) throws(SystemError) -> Int {
    guard result >= 0 else { throw SystemError(Int32(truncatingIfNeeded: -result)) }
    return result
  }

  /// What the system says about it.
  public var text: String { unsafe String(cString: cl_error_text(code)) }
}

// The numbers this project decides upon; the same on every Linux.
extension SystemError {
  /// ENOENT: nothing is there.
  public static var noEntry: Int32 { 2 }
  /// EINTR: a signal handler ran.
  public static var interrupted: Int32 { 4 }
  /// EIO: the medium failed.
  public static var inputOutput: Int32 { 5 }
  /// EBADF: no open descriptor.
  public static var notOpen: Int32 { 9 }
  /// EAGAIN: not now.
  public static var tryAgain: Int32 { 11 }
  /// EACCES: no permission.
  public static var noAccess: Int32 { 13 }
  /// EBUSY: in use.
  public static var busy: Int32 { 16 }
  /// EEXIST: something is there already.
  public static var exists: Int32 { 17 }
  /// EINVAL: the call makes no sense for this object.
  public static var invalid: Int32 { 22 }
  /// ENOTTY: a request the device does not know.
  public static var noSuchControl: Int32 { 25 }
  /// ENAMETOOLONG: a name or path has too many bytes.
  public static var nameTooLong: Int32 { 36 }
  /// ENOLCK: no locks here.
  public static var noLocks: Int32 { 37 }
  /// ENOSYS: a call the kernel does not know.
  public static var noSuchCall: Int32 { 38 }
  /// EPROTOTYPE: a socket of another kind.
  public static var wrongSocketKind: Int32 { 91 }
  /// EOPNOTSUPP: the object cannot do this.
  public static var notSupported: Int32 { 95 }
  /// EADDRINUSE: somebody has this address.
  public static var addressInUse: Int32 { 98 }
  /// ETIMEDOUT: no answer.
  public static var timedOut: Int32 { 110 }
  /// ECONNRESET: the other side is gone.
  public static var connectionReset: Int32 { 104 }
}
