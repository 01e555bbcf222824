// One input through the vhost-user device: for libFuzzer, or for the files named as arguments.
import FuzzTargets

#if LIBFUZZER
  nonisolated(unsafe) private var fuzzer: VhostUserFuzzer?

  /// What libFuzzer calls with every input.
  @c(LLVMFuzzerTestOneInput)
  public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    if unsafe fuzzer == nil { unsafe fuzzer = try? VhostUserFuzzer() }
    let bytes = unsafe [UInt8](UnsafeBufferPointer(start: data, count: size))
    unsafe fuzzer?.run(bytes)
    return 0
  }
#else
  import Foundation

  @main
  struct VhostUserFuzz {
    static func main() throws {
      let fuzzer = try VhostUserFuzzer()
      for path in CommandLine.arguments.dropFirst() {
        fuzzer.run([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))))
      }
      print("\(fuzzer.messages) messages, \(fuzzer.violations) violations")
    }
  }
#endif
