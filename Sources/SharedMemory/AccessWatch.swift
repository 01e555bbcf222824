#if CELLMATE_WATCH
  import CWatch

  // What tests of this memory need and no release build has (docs/testing.md).
  extension SharedRegion {
    /// Watches this view as side 0 or 1 of a link on this thread; it dies before step `last` (from
    /// 1; 0: never).
    public func watch(side: UInt32, dyingBefore last: UInt64 = 0) {
      unsafe cw_watch(side, base, count, last)
    }

    /// Counts a register write of the side that has this view; whether it happens.
    public func isRegisterWriteDone() -> Bool { unsafe cw_register(base) != 0 }

    /// Lets AddressSanitizer refuse every access of this program to these bytes.
    public func forbid(_ range: Range<Int>) {
      let range = readRange(range)
      unsafe cw_forbid(base + range.offset, range.count)
    }

    /// Takes a ban back; the granule of 8 bytes in which the range starts becomes accessible too.
    public func allow(_ range: Range<Int>) {
      let range = readRange(range)
      unsafe cw_allow(base + range.offset, range.count)
    }
  }

  extension SharedTable {
    /// Takes a ban of the whole table back.
    public func allow() { unsafe cw_allow(base, entryCount &* stride) }
  }
#endif
