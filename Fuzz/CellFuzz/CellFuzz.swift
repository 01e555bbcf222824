// One file through everything ivshmem-cell does: for libFuzzer, or for the files named as
// arguments.
import CellFuzzTargets

#if LIBFUZZER
  nonisolated(unsafe) private var fuzzer = CellFuzzer()

  /// What libFuzzer calls with every input.
  @c(LLVMFuzzerTestOneInput)
  public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    let bytes = unsafe [UInt8](UnsafeBufferPointer(start: data, count: size))
    if let wrong = unsafe fuzzer.run(bytes) { fatalError(wrong) }
    return 0
  }
#else
  import Foundation

  @main
  struct CellFuzz {
    static func main() throws {
      var fuzzer = CellFuzzer()
      for path in CommandLine.arguments.dropFirst() {
        if let wrong = fuzzer.run([UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))) {
          print("\(path): \(wrong)")
        }
      }
      print("\(fuzzer.configurations) configurations, \(fuzzer.trees) device trees")
    }
  }
#endif
