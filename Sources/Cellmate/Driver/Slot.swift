/// A place for a value that cannot be copied, which may be there or not: an optional could only be
/// moved out and back.
@safe
struct Slot<Value: ~Copyable>: ~Copyable {
  private var place: UnsafeMutablePointer<Value>?

  /// An empty place.
  init() { unsafe place = nil }

  /// The place of a value.
  init(_ value: consuming Value) {
    let place = UnsafeMutablePointer<Value>.allocate(capacity: 1)
    unsafe place.initialize(to: value)
    unsafe self.place = place
  }

  /// Whether there is a value.
  var isThere: Bool { unsafe place != nil }

  /// The value; there is one.
  var value: Value {
    @inline(__always) _read {
      guard let place = unsafe place else { preconditionFailure("the place is empty") }
      yield unsafe place.pointee
    }
    @inline(__always) _modify {
      guard let place = unsafe place else { preconditionFailure("the place is empty") }
      yield unsafe &place.pointee
    }
  }

  /// Takes the value out; the place is empty then.
  mutating func take() -> Value? {
    guard let place = unsafe place else { return nil }
    unsafe self.place = nil
    let value = unsafe place.move()
    unsafe place.deallocate()
    return value
  }

  deinit {
    if let place = unsafe place {
      unsafe place.deinitialize(count: 1)
      unsafe place.deallocate()
    }
  }
}
