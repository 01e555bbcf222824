import CLinux

/// The words this program was started with, without its name. Embedded Swift has no `CommandLine`.
public func programArguments() -> [String] {
  let words = unsafe cl_arguments()
  var all: [String] = []
  for index in 1..<max(1, Int(cl_argument_count())) {
    // SAFETY: the C library keeps the words as long as the process; `count` of them are there.
    if let word = unsafe words[index] { all.append(unsafe String(cString: word)) }
  }
  return all
}
