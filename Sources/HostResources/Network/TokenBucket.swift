/// A rate limit: bytes come in steadily, up to a burst, and every frame takes its length out.
struct TokenBucket {
  /// Bytes a second; 0 for no limit.
  let rate: UInt64
  /// Bytes that can be saved up.
  let burst: UInt64
  private var tokens: UInt64
  /// Until when, in microseconds, bytes have come in.
  private var filled: UInt64

  init(rate: UInt64, burst: UInt64, now: UInt64) {
    self.rate = rate
    self.burst = burst
    tokens = burst
    filled = now
  }

  /// Takes `count` bytes out at the time `now`, in microseconds; `false`, without taking any, when
  /// there are not so many.
  mutating func take(_ count: Int, now: UInt64) -> Bool {
    guard rate > 0 else { return true }
    if now > filled {
      // Whole seconds apart: the products stay small, and no division needs 128 bits.
      let (seconds, rest) = (now - filled).quotientAndRemainder(dividingBy: 1_000_000)
      let (whole, isHuge) = seconds.multipliedReportingOverflow(by: rate)
      let (part, isLarge) = rest.multipliedReportingOverflow(by: rate)
      let (added, isBeyond) = whole.addingReportingOverflow(part / 1_000_000)
      let room = burst - tokens
      if isHuge || isLarge || isBeyond || added >= room {
        tokens = burst
        filled = now
      } else {
        tokens += added
        // What does not make a whole byte yet comes with the next call.
        filled = now - (part % 1_000_000 + rate - 1) / rate
      }
    }
    guard UInt64(count) <= tokens else { return false }
    tokens -= UInt64(count)
    return true
  }
}
