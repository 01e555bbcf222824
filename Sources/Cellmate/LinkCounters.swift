/// What one turn of a link's loop found.
enum LinkTurn {
  case busy
  case idle
  /// It has left the link, after it was asked to.
  case left
  /// The platform is gone.
  case gone
}

/// Where a queue's rings lie, as its driver has said.
struct ServedRing {
  let slot: Int
  let queue: Int
  let size: UInt32
  let descriptors: UInt64
  let available: UInt64
  let used: UInt64
}

/// What a number belongs to; the numbers of `cellmate.h`.
enum CounterScope: Int32 {
  case link = 0
  case vhostUser
  case device
  case kind
}

/// Takes a number with its meaning: scope, slot (-1: the link), name, value. Always in the same
/// order, so that a number can be named by its place.
typealias CounterTaker = (CounterScope, Int, String, UInt64) -> Void
