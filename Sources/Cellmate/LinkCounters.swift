import LinuxRuntime

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

extension CounterWalk {
  /// What the numbers that follow belong to; slot -1: the link.
  mutating func begin(_ scope: CounterScope, _ slot: Int) {
    self.scope = scope.rawValue
    self.slot = slot
  }
}
