import Glibc

/// Writes a file whole: to a temporary name beside it, which is then renamed, so that nobody sees
/// half of it.
func writeOutput(_ text: String, to path: String) throws(InputError) {
  var status = stat()
  let exists = unsafe stat(path, &status) == 0
  // Renaming would replace a device or a pipe, or fail late on a folder.
  guard !exists || status.st_mode & S_IFMT == S_IFREG else {
    throw InputError(description: "\(path) is no ordinary file; name a file to write")
  }
  let temporary = "\(path).\(getpid()).part"
  let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
  guard descriptor >= 0 else {
    throw unsafe InputError(
      description: "\(path) cannot be written: \(String(cString: strerror(errno)))")
  }
  var failure = write(text, to: descriptor)
  if close(descriptor) != 0, failure == 0 { failure = errno }
  if failure == 0, unsafe rename(temporary, path) != 0 { failure = errno }
  guard failure != 0 else { return }
  _ = unsafe unlink(temporary)
  throw unsafe InputError(
    description: "\(path) cannot be written: \(String(cString: strerror(failure)))")
}
