#if CELLMATE_WATCH
  public import SharedMemory

  // What tests of this device need and no release build has (docs/testing.md).
  extension NetDevice where Host: ~Copyable {
    /// Takes the ban of what is written when a frame is whole back: the number of buffers, in the
    /// first of those that are held.
    public func allowMark(in region: SharedRegion) {
      guard delivery.heldCount > 0 else { return }
      let low = delivery.markLow
      let high = delivery.markHigh
      region.allow(low.offset..<low.offset + low.count)
      region.allow(high.offset..<high.offset + high.count)
    }
  }
#endif
