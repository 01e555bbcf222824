import CLinux
import CommandOptions
import LinuxSupport

/// A file with the number of this process, locked as long as the process lives and removed with it.
final class PidFile {
  private let file: Descriptor
  private let path: String
  private let inode: UInt64

  /// Writes the file.
  ///
  /// - Throws: who has it already, or what else stands in the way.
  init(_ path: String) throws(UsageError) {
    self.path = path
    var holder: Int32 = 0
    do throws(SystemError) {
      // O_RDWR | O_CREAT
      file = try Descriptor(unsafe cl_open(path, 0o2 | 0o100, 0o644))
      _ = try SystemError.check(unsafe cl_lock(file.number, 1, &holder))
      _ = try SystemError.check(cl_truncate(file.number, 0))
      var text = "\(cl_process_id())\n"
      let number = file.number
      let result = text.withUTF8 { bytes in
        guard let base = bytes.baseAddress else { return 0 }
        return unsafe cl_write_all(number, base, bytes.count)
      }
      _ = try SystemError.check(result)
    } catch {
      throw UsageError(
        error.code == SystemError.tryAgain || error.code == SystemError.noAccess && holder != 0
          ? "--pid-file \(path): a supervisor that runs already has it; stop that one first"
          : "--pid-file \(path): \(error.text)")
    }
    inode = unsafe cl_inode(path)
  }

  /// Goes on with the file of a supervisor whose place this process took.
  init(owning number: Int32, _ path: String?) {
    file = Descriptor(owning: number)
    self.path = path ?? ""
    inode = unsafe cl_inode(self.path)
  }

  var number: Int32 { file.number }

  deinit { if unsafe cl_inode(path) == inode, inode != 0 { _ = unsafe cl_unlink(path) } }
}
