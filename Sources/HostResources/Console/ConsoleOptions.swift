public import LinuxSupport
public import VirtioConsole

/// What a console port is connected to.
public enum ConsoleEnd: Equatable, Sendable {
  /// A pseudo-terminal; a symbolic link to it where one is named.
  case pty(link: String?)
  /// Standard input and output of this process; a terminal is put into raw mode.
  case stdio
  /// A Unix socket that one client at a time connects to.
  case socket(path: String)
  /// A file that is appended to; nothing is read.
  case log(path: String)
}

/// One port of a console on Linux.
public struct ConsolePortOptions: Equatable, Sendable {
  /// The name a driver is told; empty for none.
  public var name: String
  /// What it is connected to.
  public var end: ConsoleEnd
  /// Its size: the first one of a pseudo-terminal, the constant one of a socket or log; `nil` for
  /// none. Standard input has its own.
  public var size: ConsoleSize?

  /// States a port.
  public init(name: String = "", end: ConsoleEnd, size: ConsoleSize? = nil) {
    self.name = name
    self.end = end
    self.size = size
  }
}

/// Why a console port cannot be opened.
public enum ConsoleHostError: Error, Equatable, Sendable {
  /// A system call failed on the thing that is named.
  case system(what: String, SystemError)
  /// Standard input and output of a process can be one port only.
  case stdioTwice
  /// Something other than a symbolic link lies where the link should be.
  case linkInTheWay(path: String)
  /// Another process keeps a link of this name.
  case linkInUse(path: String)
  /// Another process answers at this socket.
  case socketInUse(path: String)
}
