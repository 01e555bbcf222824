import CService

/// `pid N (NAME)`, or `pid N`, or `another process`.
@inline(never)
public func processText(_ pid: Int32) -> String {
  guard pid > 0 else { return "another process" }
  var name = InlineArray<64, CChar>(repeating: 0)
  return unsafe withUnsafeMutablePointer(to: &name) { pointer in
    let first = unsafe UnsafeMutableRawPointer(pointer).assumingMemoryBound(to: CChar.self)
    guard unsafe cs_process_name(pid, first) != 0 else { return "pid \(pid)" }
    return unsafe "pid \(pid) (\(String(cString: first)))"
  }
}
