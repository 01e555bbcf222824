import CLinux

/// An open file descriptor with one owner: closed when the value ends.
@frozen
public struct Descriptor: ~Copyable, Sendable {
  /// The number.
  public let number: Int32

  /// Takes an open descriptor over.
  public init(owning number: Int32) { self.number = number }

  /// Takes over the result of a `cl_` call.
  public init(_ result: Int) throws(SystemError) {
    number = Int32(truncatingIfNeeded: try SystemError.check(result))
  }

  /// Gives the descriptor up without closing it.
  public consuming func release() -> Int32 {
    let number = number
    discard self
    return number
  }

  deinit { cl_close(number) }
}
