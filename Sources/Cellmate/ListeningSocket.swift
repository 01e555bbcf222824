import CLinux
import LinuxSupport

/// The stream socket at which front-ends arrive. Its file in the file system goes with the value,
/// however the process ends in order; after SIGKILL the next one at this path removes it.
struct ListeningSocket: ~Copyable {
  private let descriptor: Descriptor
  private let path: String
  private let inode: UInt64

  /// Listens at `path`; takes the place of a socket that nobody serves any more.
  ///
  /// - Throws: why not; ``explain(_:)`` says what to do about it.
  init(_ path: String) throws(SystemError) {
    descriptor = try Descriptor(unsafe cl_listen_stream(path))
    self.path = path
    inode = unsafe cl_inode(path)
  }

  /// The descriptor.
  var number: Int32 { descriptor.number }

  // Somebody else's socket may have taken the path meanwhile.
  deinit { if unsafe cl_inode(path) == inode { _ = unsafe cl_unlink_socket(path) } }

  /// What an error of opening means for the person at the keyboard, with the way out.
  static func explain(_ error: SystemError) -> String {
    switch error.code {
    case SystemError.exists: "something that is no socket is there; give another path or remove it"
    case SystemError.addressInUse, SystemError.tryAgain:
      "another process serves this socket; stop it or give another path"
    case SystemError.wrongSocketKind:
      "another program uses a socket of this name; give another path"
    case SystemError.noEntry: "the folder does not exist; make it first"
    case SystemError.noAccess: "no permission to make a socket there"
    case SystemError.nameTooLong: "the path is too long for a socket, at most 107 bytes"
    default: error.text
    }
  }
}
