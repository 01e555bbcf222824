/// How long to wait before a service that ended is started again.
///
/// A guest may be spinning for its answer, so the first restarts come at once; a service that keeps
/// on failing must not take a processor for itself.
struct RestartPolicy {
  /// The longest wait in nanoseconds.
  let longest: UInt64
  private var failures: UInt64 = 0

  /// A service that ran this long is sound: what ended it is no chain of failures.
  static var sound: UInt64 { 2_000_000_000 }
  /// So many restarts in a row come at once, if the service was ready each time.
  static var atOnce: UInt64 { 5 }

  init(longest: UInt64) { self.longest = longest }

  /// The wait after an end, in nanoseconds.
  ///
  /// - Parameter served: how long it was ready; `nil` when it never was.
  mutating func delay(served: UInt64?) -> UInt64 {
    if let served, served >= Self.sound { failures = 0 }
    failures += 1
    let free = served == nil ? 0 : Self.atOnce
    guard failures > free else { return 0 }
    return min(longest, 50_000_000 << min(failures - free - 1, 20))
  }
}
