// Inputs through a fuzzer: for libFuzzer, for the files named as arguments, or from seeds.
import FuzzTargets

#if LIBFUZZER
  import Glibc

  nonisolated(unsafe) private var player: FuzzPlayer?

  /// What libFuzzer calls with every input; CELLMATE_FUZZ_TARGET names the fuzzer.
  @c(LLVMFuzzerTestOneInput)
  public func fuzzOneInput(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    if unsafe player == nil {
      guard let name = unsafe getenv("CELLMATE_FUZZ_TARGET"),
        let target = unsafe FuzzTarget(rawValue: String(cString: name))
      else { fatalError("CELLMATE_FUZZ_TARGET names no fuzzer") }
      unsafe player = try? FuzzPlayer(target)
      if let late = unsafe getenv("CELLMATE_FUZZ_STRAY") {
        unsafe player?.stray(late: String(cString: late))
      }
    }
    let bytes = unsafe [UInt8](UnsafeBufferPointer(start: data, count: size))
    do { try unsafe player?.run(bytes) } catch { fatalError("\(error)") }
    return 0
  }
#else
  import Foundation

  @main
  struct Player {
    static func main() throws {
      let arguments = CommandLine.arguments
      if arguments.count > 1, arguments[1] == "crash" {
        do {
          return try CrashProgram.run(Array(arguments.dropFirst(2)))
        } catch {
          print("crash: \(error)")
          exit(1)
        }
      }
      guard arguments.count > 2, let target = FuzzTarget(rawValue: arguments[1]) else {
        print(
          "usage: Player \(FuzzTarget.allCases.map(\.rawValue)) FILE ... | --seeds FIRST SECONDS")
        exit(2)
      }
      let player = try FuzzPlayer(target)
      // libFuzzer is not alone: it opens its symbolizer when it pleases.
      player.runsAlone()
      if arguments[2] == "--seeds" {
        try playSeeds(
          player, target, UInt64(arguments.dropFirst(3).first ?? "") ?? 1,
          Double(arguments.dropFirst(4).first ?? "") ?? 10)
      } else {
        for path in arguments.dropFirst(2) {
          try player.run([UInt8](try Data(contentsOf: URL(fileURLWithPath: path))))
        }
      }
      print(player.summary)
    }

    /// One run a seed, for so many seconds; a failure names its seed.
    static func playSeeds(
      _ player: FuzzPlayer, _ target: FuzzTarget, _ first: UInt64, _ seconds: Double
    ) throws {
      let start = Date()
      var seed = first
      while Date().timeIntervalSince(start) < seconds {
        // Known before the run: a trap prints nothing.
        if (seed - first) % 1000 == 0 { print("from seed \(seed)") }
        do {
          try player.run(FuzzPlayer.randomInput(target, seed: seed))
        } catch {
          print("seed \(seed): \(error)")
          exit(1)
        }
        seed += 1
      }
      print("\(seed - first) runs in \(Int(seconds)) s")
    }
  }
#endif
