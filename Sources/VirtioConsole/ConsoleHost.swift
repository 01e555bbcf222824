/// What became of bytes that a host was given.
public enum ConsoleWrite: Equatable, Sendable {
  /// So many of them were taken, from the front; when not all, the host wakes the device's thread
  /// once it can take more.
  case taken(Int)
  /// Nobody is there to take them, and nobody is waited for.
  case gone
}

/// What is behind the ports of a console device: terminals, sockets, files.
///
/// Nothing here blocks. Whenever something may have changed, the host wakes the device's thread
/// through the wake-up it was made with. All calls come from one thread.
public protocol ConsoleHost: ~Copyable {
  /// Number of ports, 1 ... ``ConsoleFormat/portLimit``; constant.
  var portCount: Int { get }
  /// Whether port 0 is a terminal with a size; constant.
  var hasSize: Bool { get }
  /// Byte `index` of a port's name; 0 behind its end. Constant.
  func nameByte(port: Int, at index: Int) -> UInt8
  /// The size of the terminal behind a port.
  func size(port: Int) -> ConsoleSize
  /// Whether somebody is at the other end of a port.
  func isOpen(port: Int) -> Bool
  /// Whether anything may have changed since the last call: bytes came, room came, somebody came
  /// or left, a size changed. Cheap: it is asked in every look.
  mutating func takeEvents() -> Bool
  /// Asks for another look soon: the device has put something off.
  func requestLook()
  /// Reads what has come; returns how many bytes, 0 when there are none now.
  mutating func read(port: Int, into bytes: inout MutableSpan<UInt8>) -> Int
  /// Gives bytes to the other end.
  mutating func write(port: Int, _ bytes: Span<UInt8>) -> ConsoleWrite
}
