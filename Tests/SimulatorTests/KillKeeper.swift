import Foundation

/// How the programs of a story come together, and who starts the back-end again.
enum KillWay: String, CaseIterable, Sendable {
  case native, siemens
  case vhostUser = "vhost-user"
  case siemensSupervised = "siemens-supervised"
  case vhostUserSupervised = "vhost-user-supervised"

  enum Link { case native, siemens, vhostUser }

  var link: Link {
    switch self {
    case .native: .native
    case .siemens, .siemensSupervised: .siemens
    case .vhostUser, .vhostUserSupervised: .vhostUser
    }
  }

  var isSupervised: Bool { self == .siemensSupervised || self == .vhostUserSupervised }

  /// The command line of a back-end, with its own supervisor or without.
  func keep(_ backend: [String]) -> [String] {
    // A busy machine is no hang: the watchdog has tests of its own.
    isSupervised ? ["--supervise", "--restart-delay", "1", "--watchdog", "0"] + backend : backend
  }
}

/// Keeps a back-end running: the first one dies before its step, the next one stays.
///
/// Where the command line has `--supervise`, the first one's supervisor does that; it ends itself when
/// its back-end dies before it serves, and is then started again.
final class Keeper: @unchecked Sendable {
  private let lock = NSLock()
  private let first: Process
  private let isSupervised: Bool
  private let mark: String?
  private var current: Process
  private var deaths = 0
  private var isOver = false
  private let done = DispatchSemaphore(value: 0)

  /// - Parameter mark: where a back-end that its supervisor starts again says that it died.
  init(_ arguments: [String], step: Int?, mark: String? = nil) throws {
    isSupervised = arguments.contains("--supervise")
    self.mark = mark
    first = try KillStepTests.program("ivshmem-backend", arguments, step: step, mark: mark)
    current = first
    Thread.detachNewThread { [self] in
      first.waitUntilExit()
      lock.withLock {
        guard !isOver else { return }
        if isDeath(first) { deaths += 1 }
        if let next = try? KillStepTests.program("ivshmem-backend", arguments, step: nil) {
          current = next
        }
      }
      done.signal()
    }
  }

  /// Whether the first process had to be started again, by this keeper.
  var hasRestarted: Bool { lock.withLock { current !== first } }

  /// A supervisor that does not start its back-end again ends with the signal's status.
  private func isDeath(_ process: Process) -> Bool {
    KillStepTests.wasKilled(process)
      || isSupervised && process.terminationReason == .exit
        && process.terminationStatus == 128 + SIGKILL
  }

  /// Whoever runs last; from now on nobody comes after.
  private func takeLast() -> Process? {
    lock.withLock {
      defer { isOver = true }
      return isOver ? nil : current
    }
  }

  /// Ends a process at once; a supervisor's back-end would live on, and ends before it.
  private func end(_ process: Process) {
    guard isSupervised else { return KillStepTests.end(process) }
    process.terminate()
    process.terminate()
    if !holds({ !process.isRunning }) { KillStepTests.end(process) }
    process.waitUntilExit()
  }

  /// Ends whoever runs at once; how many died of a step. May be called again.
  @discardableResult
  func stop() -> Int {
    if let last = takeLast() {
      end(last)
      done.wait()
    }
    return lock.withLock { deaths }
  }

  /// The same in order: whoever runs takes its leave, or dies of its step meanwhile.
  func shutDown() throws -> Int {
    guard let last = takeLast() else { return lock.withLock { deaths } }
    last.terminate()
    let hasEnded = holds { !last.isRunning }
    if !hasEnded { end(last) }
    done.wait()
    guard hasEnded else { throw KillFailure(description: "the back-end does not end") }
    if isDeath(last) {
      lock.withLock { deaths += 1 }
    } else if last.terminationReason == .uncaughtSignal, last !== first {
      // Started a moment ago: SIGTERM found no handler yet, and nothing that had to end.
      guard last.terminationStatus == SIGTERM else {
        throw KillFailure(description: "the back-end dies of signal \(last.terminationStatus)")
      }
      print("a back-end that was just started ends of SIGTERM")
    } else if last.terminationStatus != 0 {
      throw KillFailure(description: "the back-end ends with \(last.terminationStatus)")
    }
    if let mark, deaths == 0, FileManager.default.fileExists(atPath: mark) { return 1 }
    return lock.withLock { deaths }
  }
}
