/// A fixed number of places for values that cannot be copied (queues, device slots), in private
/// memory that is carved once and used in place.
///
/// A place is empty or holds a value; reaching into an empty one is our bug and traps.
@safe
public struct PrivateStore<Value: ~Copyable>: ~Copyable {
  @usableFromInline let base: UnsafeMutablePointer<Value>
  @usableFromInline let occupied: PrivateTable<UInt8>
  /// The number of places.
  public let count: Int

  /// Carves `count` empty places; `nil` when the arena is used up.
  public init?(count: Int, in arena: inout PrivateArena) {
    guard let occupied = arena.table(of: count, initial: UInt8(0)),
      let bytes = arena.table(of: count * MemoryLayout<Value>.stride, initial: UInt8(0)),
      MemoryLayout<Value>.alignment <= 64
    else { return nil }
    self.count = count
    self.occupied = occupied
    // SAFETY: the bytes are handed out once, are 64-byte aligned and large enough.
    let raw = unsafe UnsafeMutableRawPointer(bytes.base)
    unsafe base = raw.assumingMemoryBound(to: Value.self)
  }

  /// Whether the place at `index` holds a value.
  @inlinable
  public func isOccupied(_ index: Int) -> Bool { occupied[index] != 0 }

  /// Puts a value into the empty place at `index`.
  @inline(never)
  public mutating func put(_ value: consuming Value, at index: Int) {
    precondition(!isOccupied(index), "the place is taken")
    unsafe (base + index).initialize(to: value)
    occupied[index] = 1
  }

  /// Takes the value out of the place at `index`, which is empty afterwards.
  @inline(never)
  public mutating func remove(at index: Int) -> Value {
    precondition(isOccupied(index), "the place is empty")
    occupied[index] = 0
    return unsafe (base + index).move()
  }

  /// The value at `index`, in place.
  @inlinable
  public subscript(index: Int) -> Value {
    @inline(__always) _read {
      precondition(isOccupied(index), "the place is empty")
      yield unsafe base[index]
    }
    @inline(__always) _modify {
      precondition(isOccupied(index), "the place is empty")
      yield unsafe &base[index]
    }
  }

  deinit { unsafe Self.empty(base, occupied, count) }

  @inline(never)
  private static func empty(
    _ base: UnsafeMutablePointer<Value>, _ occupied: PrivateTable<UInt8>, _ count: Int
  ) {
    for index in 0..<count where occupied[index] != 0 {
      unsafe (base + index).deinitialize(count: 1)
    }
  }
}
