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
