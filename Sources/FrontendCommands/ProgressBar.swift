import CLinux
import LinuxSupport

/// A bar on a terminal, a line every tenth elsewhere.
struct ProgressBar {
  private let total: UInt64
  private let isShown: Bool
  private let isTerminal = isErrorTerminal
  private let start = cl_monotonic_ns()
  private var done: UInt64 = 0
  private var shown: UInt64 = 0

  init(total: UInt64, isShown: Bool) {
    self.total = total
    self.isShown = isShown
  }

  mutating func advance(_ count: UInt64) {
    done += count
    guard isShown, total > 0 else { return }
    let step: UInt64 = isTerminal ? 100 : 10
    let part = done * step / total
    guard part != shown else { return }
    shown = part
    if isTerminal {
      let filled = Int(part * 40 / step)
      let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: 40 - filled)
      let seconds = Double(cl_monotonic_ns() - start) / 1e9
      let rate = Int(Double(done) / 1e6 / max(seconds, 1e-9))
      writeError("\r[\(bar)] \(part)% \(rate) MB/s ")
    } else {
      writeError("\(part * 10)% of \(total) bytes\n")
    }
  }

  /// What was done behind `position` is to be done again, and why.
  mutating func moveBack(to position: UInt64, _ reason: String) {
    guard position < done else { return }
    done = position
    guard isShown else { return }
    if isTerminal { writeError("\n") }
    writeError("ivshmem: " + reason + "\n")
  }

  func end() {
    if isShown, isTerminal, total > 0 { writeError("\n") }
  }
}
