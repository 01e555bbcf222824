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
      // A second is enough to fill any burst that makes sense, and keeps the product small.
      let elapsed = now - filled
      if elapsed >= 1_000_000, rate >= burst {
        tokens = burst
        filled = now
      } else {
        let whole = elapsed.multipliedFullWidth(by: rate)
        let (added, _) = UInt64(1_000_000).dividingFullWidth(
          (min(whole.high, 999_999), whole.low))
        let room = burst - tokens
        tokens += min(added, room)
        // What does not make a whole byte yet comes with the next call.
        filled = added >= room ? now : filled + added.multipliedDivided(1_000_000, rate)
      }
    }
    guard UInt64(count) <= tokens else { return false }
    tokens -= UInt64(count)
    return true
  }
}

extension UInt64 {
  /// This times `factor` through `divisor`, rounded down; the result has to fit.
  fileprivate func multipliedDivided(_ factor: UInt64, _ divisor: UInt64) -> UInt64 {
    divisor.dividingFullWidth(multipliedFullWidth(by: factor)).quotient
  }
}
